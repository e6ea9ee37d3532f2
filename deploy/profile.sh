# shellcheck shell=sh
# /etc/profile.d/mqtt-kafka-bridge.sh
# For people, `bridge` is the bridge and not the command of iproute2. Services and scripts don't read this
# file: for them /usr/sbin/bridge stays what it is, and mqtt-kafka-bridge is in everybody's path.
case ":$PATH:" in
*:/opt/mqtt-kafka-bridge/current/bin:*) ;;
*) PATH="/opt/mqtt-kafka-bridge/current/bin:$PATH" ;;
esac
