#!/bin/sh
# Publishes a file at QoS 0, 1 and 2 with mosquitto_pub: publish.sh HOST PORT 5|3.1.1 TOPIC FILE
set -eu

host=$1 port=$2 version=$3 topic=$4 file=$5
set -- -h "$host" -p "$port" -t "$topic" -f "$file"
if [ "$version" = 5 ]; then
    set -- "$@" -V 5 -D publish content-type application/octet-stream -D publish user-property unit celsius
else
    set -- "$@" -V 311
fi
for qos in 0 1 2; do
    mosquitto_pub "$@" -q "$qos"
done
