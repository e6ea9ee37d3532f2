# shellcheck shell=sh
# /etc/profile.d/mqtt-kafka-bridge.sh
# In login shells `bridge` is this bridge, not iproute2's command. Services and scripts don't read this file:
# for them `bridge` stays /usr/sbin/bridge. mqtt-kafka-bridge is in everybody's path.
case ":$PATH:" in
*:/opt/mqtt-kafka-bridge/current/bin:*) ;;
*) PATH="/opt/mqtt-kafka-bridge/current/bin:$PATH" ;;
esac
