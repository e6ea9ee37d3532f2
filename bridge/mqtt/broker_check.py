"""What `bridge check` tests at the broker: name, TCP and TLS, CONNECT, SUBSCRIBE.

The check connects with a clean start and with its own client id. So it leaves no session at the broker, and
it does not take the session of a bridge that runs. Its functions block, because `bridge check` does nothing
else meanwhile. Each failure is a BridgeError whose text names the way out.
"""

import select
import socket
import time
from collections.abc import Callable

from paho.mqtt.reasoncodes import ReasonCode

from bridge.errors import BridgeError, MalformedPacket
from bridge.mqtt.broker_limits import BrokerLimits
from bridge.mqtt.connection import Connection
from bridge.mqtt.connector import connect
from bridge.mqtt.reasons import CONNACK_WAYS_OUT, UNSUPPORTED_PROTOCOL_VERSION
from bridge.routing.topics import Subscription
from bridge.settings import MqttSettings, read_mqtt_password
from bridge.tls.failures import TlsFailed

_TIMEOUT = 15.0  # seconds the broker gets for each answer
_REFUSED = 0x80  # SUBACK: this reason code and higher ones refuse the filter


def resolve(settings: MqttSettings) -> list[str]:
    """Return the addresses of mqtt.host."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BridgeError(
            f"{settings.host} does not resolve: {error.strerror or error} (let the name server or /etc/hosts"
            " know it, or set mqtt.host to an address)"
        ) from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def reach(settings: MqttSettings, *, balancer: bool = True) -> socket.socket:
    """Connect by TCP, and by TLS where the settings enable it. `balancer`: HAProxy stands there."""
    try:
        return connect(settings)
    except TlsFailed as failed:
        raise BridgeError(failed.sentence) from None
    except OSError as error:
        who = "HAProxy" if balancer else "the broker"
        port = f" Without HAProxy set mqtt.port = {settings.brokers_port}" if balancer else ""
        raise BridgeError(
            f"{settings.host}:{settings.port}: {error.strerror or error} (does {who} run there, and does a"
            f" firewall refuse the port?{port})"
        ) from None


class BrokerCheck:
    """An MQTT session for the check.

    `version`: the MQTT version that the broker accepted. `limits`: what its CONNACK restricts.
    """

    version: str

    def __init__(self, settings: MqttSettings, client_id: str, *, balancer: bool = True) -> None:
        """Connect, with each version that the settings allow. Raises BridgeError when all are refused.

        `balancer`: HAProxy stands in front of the broker; the texts of errors name it.
        """
        self._balancer = balancer
        self.limits = BrokerLimits()
        self._granted: dict[int | None, list[int]] = {}
        tried = {"5": ("5",), "3.1.1": ("3.1.1",), "auto": ("5", "3.1.1")}[settings.protocol]
        for self.version in tried:
            answer = self._log_in(settings, client_id)
            if answer is not None and not answer.is_failure:
                return
            self.close()
            if answer is not None and answer.value != UNSUPPORTED_PROTOCOL_VERSION:
                break
        raise BridgeError(self._why(answer))

    def _log_in(self, settings: MqttSettings, client_id: str) -> ReasonCode | None:
        """Connect once. Returns the reason of the CONNACK; None: no CONNACK came."""
        answers: list[ReasonCode] = []
        password = read_mqtt_password(settings)
        mqtt5 = self.version == "5"
        connection = Connection(
            reach(settings, balancer=self._balancer),
            settings,
            client_id,
            mqtt5,
            clean=True,
            password=password,
        )
        self._connection = connection

        def on_connack(_session_present: bool, reason: ReasonCode, limits: BrokerLimits) -> None:
            answers.append(reason)
            self.limits = limits
            connection.accepted = not reason.is_failure

        def on_closed(reason: ReasonCode, by_broker: bool) -> None:
            connection.closed_because = connection.closed_because or connection.why_closed(reason, by_broker)

        connection.client.listen(on_connack, self._granted.__setitem__, lambda *_: None, on_closed)
        connection.client.send_connect()
        self._wait(lambda: answers)
        return answers[0] if answers else None

    def _why(self, answer: ReasonCode | None) -> str:
        if answer is not None:
            way_out = CONNACK_WAYS_OUT.get(answer.value, "the broker may accept a later attempt")
            return f"CONNACK: {answer} ({way_out})"
        if isinstance(self._connection.error, TlsFailed):
            return self._connection.error.sentence
        if self._connection.closed_because and not self._balancer:
            return f"closed before CONNACK: {self._connection.closed_because} (is it an MQTT port?)"
        if self._connection.closed_because:
            return (
                "closed before CONNACK, which HAProxy does while no EMQ node is up (on the EMQ hosts: sudo"
                " systemctl restart emqx, or emqttd)"
            )
        return f"no CONNACK within {_TIMEOUT:.0f} s (does an EMQ node hang?)"

    def subscribe(self, subscription: Subscription) -> int:
        """Subscribe one filter. Returns the QoS that the broker granted."""
        number = self._connection.client.send_subscribe([subscription])
        self._wait(lambda: number in self._granted)
        if number not in self._granted:
            raise BridgeError(f"{subscription.filter}: no SUBACK ({self._connection.closed_because})")
        reason = self._granted[number][0]
        if reason >= _REFUSED:
            raise BridgeError(
                f"{subscription.filter}: refused, SUBACK 0x{reason:02x} (allow it in EMQ's access rules)"
            )
        return reason

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish one message at QoS 1, and wait for the PUBACK. Raises BridgeError."""
        answers: list[ReasonCode] = []
        client = self._connection.client
        client.on_publish = lambda _c, _u, _mid, reason, _p: answers.append(reason)
        client.publish(topic, payload, qos=1)
        self._wait(lambda: answers)
        if not answers:
            raise BridgeError(
                f"{topic}: no PUBACK within {_TIMEOUT:.0f} s ({self._connection.closed_because})"
            )
        if answers[0].is_failure:
            raise BridgeError(f"{topic}: refused, PUBACK: {answers[0]} (allow it in EMQ's access rules)")

    def close(self) -> None:
        """Close the connection, with a DISCONNECT first if the broker still listens."""
        connection = self._connection
        if connection.accepted and not connection.closed_because:
            connection.client.send_disconnect()
            self._wait(lambda: not connection.wants_write)
        connection.close()

    def _wait(self, done: Callable[[], object]) -> None:
        """Read and write until `done`, until the connection has ended, or until `_TIMEOUT` is over."""
        connection, ends = self._connection, time.monotonic() + _TIMEOUT
        try:
            while not done() and not connection.closed_because and (left := ends - time.monotonic()) > 0:
                connection.flush()
                writing = [connection] if connection.wants_write else []
                select.select([connection], writing, [], left)
                connection.read(lambda _: None)
        except (OSError, MalformedPacket) as error:
            connection.closed_because = str(error)
