"""A broker with one persistent session that imitates a family of brokers, for randomised runs.

    with SimulatedBroker(Identifiers.LOWEST_FREE, window=20) as broker:
        ...the bridge is started...
        broker.publish(b"t", b"21.5")
        broker.cut(deaf=True)
        broker.wait_acked(1)
    assert broker.acked == {1}

On MQTT 5 each message carries its serial number as the user property "serial". The bridge copies the property
to Kafka but must not compare it, so the test can tell identical messages apart there.
"""

from typing import Self

from tests.harness.conditions import NotInTime
from tests.harness.fields import NONE, Property
from tests.harness.model_session import Identifiers, ModelSession, Sending
from tests.harness.packets import Ack, Connect, Kind, Packet, Publish
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection

_WITHOUT_LIMIT = 0xFFFF


class SimulatedBroker:
    """`window` and the client's Receive Maximum both limit the unacknowledged messages."""

    def __init__(self, identifiers: Identifiers, window: int) -> None:
        self._broker = ScriptedBroker()
        self._window = window
        self._session = ModelSession(identifiers, window)
        self._current: Connection | None = None
        self._exists = False  # the session
        self._deaf = self._away = False
        self._accepting = self._broker.always(self._accept)
        self.publishes = 0  # PUBLISH packets sent, including resends

    @property
    def address(self) -> str:
        return self._broker.address

    @property
    def port(self) -> int:
        return self._broker.port

    def __enter__(self) -> Self:
        self._broker.__enter__()
        self._accepting.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._accepting.__exit__(None, None, None)
        self._broker.__exit__()

    # -- what tests make it do---------------------------------------------------------------------

    def publish(self, topic: bytes, payload: bytes, qos: int = 1) -> int:
        """Add a publisher's message; returns its serial number, counted from 1."""
        with self._broker.changed:
            sending = self._session.publish(topic, payload, qos)
            self._pump()
            return sending.serial

    def cut(self, *, reset: bool = False, away: bool = False) -> None:
        """End the connection, if there is one. `away`: the next one is closed before CONNACK, as a balancer
        does that has just been restarted.
        """
        with self._broker.changed:
            connection, self._current = self._current, None
            self._deaf, self._away = False, away
        if connection is not None:
            if reset:
                connection.reset()
            else:
                connection.close()

    def go_deaf(self) -> None:
        """Ignore all packets until the next connection: acknowledgements are lost."""
        with self._broker.changed:
            self._deaf = True

    def resend_live(self) -> None:
        """Resend all unacknowledged messages on the same connection."""
        with self._broker.changed:
            if self._current is not None:
                for sending in self._session.resend_live():
                    self._send(self._current, sending)

    # -- acknowledged messages-----------------------------------------------------------------------

    @property
    def acked(self) -> set[int]:
        """Serial numbers of the messages that the bridge has acknowledged and so must not lose."""
        with self._broker.changed:
            return {sending.serial for sending in self._session.acked}

    def wait_acked(self, count: int, deadline: float = 30.0) -> None:
        """Wait until `count` messages in total are acknowledged. Raises NotInTime."""
        with self._broker.changed:
            if not self._broker.changed.wait_for(lambda: len(self._session.acked) >= count, deadline):
                raise NotInTime(
                    f"{count} acknowledged within {deadline:g} s: {len(self._session.acked)} are;"
                    f" in flight: {sorted(self._session.inflight)}, connects: {len(self._broker.connects)}"
                )

    def wait_connected(self, deadline: float = 15.0) -> None:
        with self._broker.changed:
            if not self._broker.changed.wait_for(lambda: self._current is not None, deadline):
                raise NotInTime(f"the bridge connects within {deadline:g} s")

    # -- the broker's thread -------------------------------------------------------------------------

    def _accept(self, connection: Connection) -> None:
        hello = connection.hello
        assert hello is not None
        if self._away:
            self._away = False
            connection.reset()
            return
        connection.connack(session_present=self._exists and not hello.clean_start)
        connection.on_packet = lambda packet: self._packet(connection, packet)
        self._exists = True
        self._current = connection
        self._deaf = False
        self._session.window = min(self._window, _receive_maximum(hello))
        self._session.connected()
        self._pump()

    def _packet(self, connection: Connection, packet: Packet) -> None:
        if connection is not self._current or self._deaf or not isinstance(packet, Ack):
            return
        match packet.kind:
            case Kind.PUBACK:
                self._session.puback(packet.identifier)
            case Kind.PUBREC:
                if self._session.pubrec(packet.identifier):
                    connection.pubrel(packet.identifier)
            case Kind.PUBCOMP:
                self._session.pubcomp(packet.identifier)
        self._pump()

    def _pump(self) -> None:
        while self._current is not None and (sending := self._session.take()) is not None:
            self._send(self._current, sending)

    def _send(self, connection: Connection, sending: Sending) -> None:
        try:
            if sending.released:
                connection.pubrel(sending.identifier)
                return
            self.publishes += 1
            connection.send(_publish(sending, connection.version).encode(connection.version))
        except OSError:
            self._current = None  # the bridge has closed the connection


def _publish(sending: Sending, version: int) -> Publish:
    properties = {Property.USER_PROPERTY: [("serial", str(sending.serial))]} if version == 5 else NONE
    return Publish(
        sending.topic, sending.payload, sending.qos, sending.identifier, sending.dup, properties=properties
    )


def _receive_maximum(hello: Connect) -> int:
    return int(hello.properties.get(Property.RECEIVE_MAXIMUM, _WITHOUT_LIMIT))
