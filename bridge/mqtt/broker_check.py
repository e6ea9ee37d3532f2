"""One connection to the broker for the sake of looking: what `bridge check` asks of it.

A clean start under a client id of its own: nothing of it stays behind, and nothing is taken from the
bridge that runs. It blocks, for it is the only thing the program does then. What is wrong is a
BridgeError that says what helps.
"""

import select
import socket
import time
from collections.abc import Callable

from paho.mqtt.reasoncodes import ReasonCode

from bridge.errors import BridgeError, MalformedPacket
from bridge.mqtt.connection import Connection
from bridge.mqtt.connector import connect
from bridge.mqtt.reasons import CONNACK_WAYS_OUT, UNSUPPORTED_PROTOCOL_VERSION
from bridge.routing.topics import Subscription
from bridge.settings import MqttSettings, read_mqtt_password
from bridge.tls.failures import TlsFailed

_TIMEOUT = 15.0  # seconds for each answer
_REFUSED = 0x80  # SUBACK: this reason code and above


def resolve(settings: MqttSettings) -> list[str]:
    """The addresses of mqtt.host."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BridgeError(
            f"{settings.host} does not resolve: {error.strerror or error} (let the name server or /etc/hosts"
            " know it, or set mqtt.host to an address)"
        ) from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def reach(settings: MqttSettings) -> socket.socket:
    """A connection: TCP, and TLS where it is enabled."""
    try:
        return connect(settings)
    except TlsFailed as failed:
        raise BridgeError(failed.sentence) from None
    except OSError as error:
        raise BridgeError(
            f"{settings.host}:{settings.port}: {error.strerror or error} (does HAProxy run there, and does"
            " nothing on the way refuse the port?)"
        ) from None


class BrokerCheck:
    """A session. `version`: the MQTT that is spoken."""

    version: str

    def __init__(self, settings: MqttSettings, client_id: str) -> None:
        """CONNECT, and CONNACK 0."""
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
        """CONNACK's reason; None: none came."""
        answers: list[ReasonCode] = []
        password = read_mqtt_password(settings)
        mqtt5 = self.version == "5"
        connection = Connection(reach(settings), settings, client_id, mqtt5, clean=True, password=password)
        self._connection = connection

        def on_connack(_session_present: bool, reason: ReasonCode) -> None:
            answers.append(reason)
            connection.accepted = not reason.is_failure

        def on_closed(reason: ReasonCode, _by_broker: bool) -> None:
            connection.closed_because = connection.closed_because or str(reason)

        connection.client.listen(on_connack, self._granted.__setitem__, lambda *_: None, on_closed)
        connection.client.send_connect()
        self._wait(lambda: answers)
        return answers[0] if answers else None

    def _why(self, answer: ReasonCode | None) -> str:
        if answer is not None:
            way_out = CONNACK_WAYS_OUT.get(answer.value, "it may be another answer later")
            return f"CONNACK: {answer} ({way_out})"
        if isinstance(self._connection.error, TlsFailed):
            return self._connection.error.sentence
        if self._connection.closed_because:
            return "closed before CONNACK, which HAProxy does while no EMQ node is up (see its console)"
        return f"no CONNACK within {_TIMEOUT:.0f} s (does a node of EMQ's cluster hang?)"

    def subscribe(self, subscription: Subscription) -> int:
        """The QoS that is granted."""
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

    def close(self) -> None:
        """DISCONNECT, where there is somebody to hear it."""
        connection = self._connection
        if connection.accepted and not connection.closed_because:
            connection.client.send_disconnect()
            self._wait(lambda: not connection.wants_write)
        connection.close()

    def _wait(self, done: Callable[[], object]) -> None:
        """Until `done`, or the connection or patience has ended."""
        connection, ends = self._connection, time.monotonic() + _TIMEOUT
        try:
            while not done() and not connection.closed_because and (left := ends - time.monotonic()) > 0:
                connection.flush()
                writing = [connection] if connection.wants_write else []
                select.select([connection], writing, [], left)
                connection.read(lambda _: None)
        except (OSError, MalformedPacket) as error:
            connection.closed_because = str(error)
