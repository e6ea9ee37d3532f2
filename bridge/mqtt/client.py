"""The paho client of one connection, and the parts of paho that the bridge depends on.

Paho handles CONNECT, authentication, SUBSCRIBE, keepalive and DISCONNECT, in its documented external loop
mode. Paho gets its socket from `_create_socket`, which paho does not document. A contract test fails when a
new version of paho changes `_create_socket` (tests/integration/test_paho_contract.py).
"""

from collections.abc import Callable
from logging import getLogger
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.mqtt.broker_limits import BrokerLimits
from bridge.mqtt.tap import Tap
from bridge.routing.topics import Subscription
from bridge.settings import MqttSettings

_MALFORMED_PACKET = 0x81
_SEND_RETAINED_IF_NEW = 1  # Retain Handling (MQTT 5, 3.8.3.1)


class TappedClient(Client):
    """A paho client whose socket is a tap. It serves one connection only: paho's own reconnecting is off."""

    def __init__(
        self, tap: Tap, settings: MqttSettings, client_id: str, mqtt5: bool, clean: bool, password: str | None
    ) -> None:
        self._tap = tap
        self.mqtt5 = mqtt5
        self._clean = clean
        self._settings = settings
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if mqtt5 else clean,
            protocol=MQTTv5 if mqtt5 else MQTTv311,
            reconnect_on_failure=False,
        )
        self.enable_logger(getLogger("paho"))
        if settings.username is not None:
            self.username_pw_set(settings.username, password)

    def _create_socket(self) -> Tap:
        return self._tap

    def send_connect(self) -> None:
        """Send CONNECT. Paho needs a host and a port here but uses neither: the tap is connected already."""
        settings = self._settings
        if not self.mqtt5:
            self.connect(settings.host, settings.port, round(settings.keepalive))
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        if not self._clean:
            properties.SessionExpiryInterval = round(settings.session_expiry)
        properties.ReceiveMaximum = settings.receive_maximum
        properties.MaximumPacketSize = settings.max_packet_size
        self.connect(
            settings.host,
            settings.port,
            round(settings.keepalive),
            clean_start=self._clean,
            properties=properties,
        )

    def send_subscribe(self, subscriptions: list[Subscription]) -> int | None:
        """Send one SUBSCRIBE. Returns the number by which paho reports the SUBACK.

        All `subscriptions` must have the same Subscription Identifier.
        """
        if not self.mqtt5:
            return self.subscribe([(each.filter, each.qos) for each in subscriptions])[1]
        properties = None
        if subscriptions[0].identifier is not None:
            properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
            properties.SubscriptionIdentifier = subscriptions[0].identifier
        filters = [
            (each.filter, SubscribeOptions(each.qos, retainHandling=_SEND_RETAINED_IF_NEW))
            for each in subscriptions
        ]
        return self.subscribe(filters, properties=properties)[1]

    def send_unsubscribe(self, filters: list[str]) -> int | None:
        return self.unsubscribe(filters)[1]

    def send_disconnect(self, malformed: bool = False) -> None:
        """Send DISCONNECT; the broker keeps a persistent session. `malformed`: MQTT 5 sends reason 0x81."""
        if malformed and self.mqtt5:
            self.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=_MALFORMED_PACKET))
        else:
            self.disconnect()

    def heard(self) -> None:
        """Bytes have come, so the broker lives: its PINGRESP may wait behind a long message.

        Paho would end the connection when a PINGREQ has no answer within the keepalive. The next PINGREQ is
        due all the same, a keepalive after the last packet that was sent.
        """
        self._ping_t = 0.0

    def _limit_keepalive(self) -> None:
        """Use the smaller of the own keepalive and the broker's Server Keep Alive (MQTT 5, 3.2.2.3.14).

        Paho takes the broker's alone: a longer one, or 0 for none, would let a balancer cut the connection.
        """
        wanted = round(self._settings.keepalive)
        if not 0 < self._keepalive <= wanted:
            self._keepalive = wanted

    def listen(
        self,
        connack: Callable[[bool, ReasonCode, BrokerLimits], None],
        suback: Callable[[int, list[int]], None],
        unsuback: Callable[[int, list[int]], None],
        closed: Callable[[ReasonCode, bool], None],
    ) -> None:
        """Set the callbacks. `closed` gets paho's reason, and whether the broker sent it in a DISCONNECT."""

        def on_connect(client: Client, _u: Any, flags: ConnectFlags, reason: ReasonCode, found: Any) -> None:
            if isinstance(client, TappedClient):  # not `self`: paho's client would then hold itself
                client._limit_keepalive()
            connack(flags.session_present, reason, BrokerLimits.of(found))

        def on_subscribe(_c: Client, _u: Any, mid: int, reasons: list[ReasonCode], _p: Any) -> None:
            suback(mid, [reason.value for reason in reasons])

        def on_unsubscribe(_c: Client, _u: Any, mid: int, reasons: list[ReasonCode], _p: Any) -> None:
            unsuback(mid, [reason.value for reason in reasons])

        def on_disconnect(_c: Client, _u: Any, flags: DisconnectFlags, reason: ReasonCode, _p: Any) -> None:
            closed(reason, flags.is_disconnect_packet_from_server)

        self.on_connect = on_connect
        self.on_subscribe = on_subscribe
        self.on_unsubscribe = on_unsubscribe
        self.on_disconnect = on_disconnect
