"""The session over a real socket, with a broker that sends packets that no broker should send.

The session must stay up: it closes a connection with malformed packets, reconnects after a wait, and never
acknowledges a message that was not settled.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import SHUT_WR
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bridge.delivery.ledger import Ledger
from bridge.loop import Loop
from bridge.message import Message, Packet, Release
from bridge.mqtt.session import Session, State
from bridge.routing.topics import Subscription
from bridge.settings import MqttSettings, ReconnectSettings
from tests.harness.conditions import NotInTime
from tests.harness.fields import varint
from tests.harness.packets import Ack, Disconnect, Publish
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.properties.malformed import malformed

MALFORMED_PACKET = 0x81
IN_TIME = 30.0  # s
WAIT = 0.02  # s before each attempt, instead of a random time


class Bridge:
    """Session and ledger. `settle` settles messages. The loop runs while a test waits for something."""

    def __init__(self, broker: ScriptedBroker, version: int, directory: Path) -> None:
        mqtt = MqttSettings(
            host=broker.address,
            port=broker.port,
            protocol="5" if version == 5 else "3.1.1",
            reconnect=ReconnectSettings(min_delay=0.1, max_delay=0.1, refused_delay=1),
        )
        self.loop = Loop()
        self.ledger = Ledger(mqtt.receive_maximum)
        self.session = Session(mqtt, self.loop, self, "bridge", directory)
        self.session._backoff._uniform = self._wait
        self.waits = 0
        self.received: list[Message] = []
        self.ended = 0  # connections that were accepted

    def _wait(self, low: float, high: float) -> float:
        self.waits += 1
        return WAIT

    def subscriptions(self, refused: Collection[str]) -> Sequence[Subscription]:
        return [Subscription("t", 2, None)]

    def connecting(self) -> None: ...
    def connected(self, session_present: bool, mqtt5: bool) -> None:
        self.ledger.connected(session_present, window_known=mqtt5)

    def receive(self, packets: list[Packet]) -> None:
        for packet in self.ledger.receive(packets):
            if isinstance(packet, Release):
                self.session.complete(packet.packet_id, packet.known)
            else:
                self.received.append(packet)

    def handed_over(self, acknowledgements: int) -> None:
        self.ledger.handed_over(acknowledgements)

    def disconnected(self) -> None:
        self.ended += 1
        self.ledger.disconnected()

    def subscribed(self) -> None: ...
    def session_lost(self) -> None: ...
    def taken_over(self) -> None:
        self.ledger.forget_session()

    def settle(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.ledger.settle(message)

    def runs_until(self, condition: Callable[[], object], what: str) -> None:
        """Run the loop until the condition is true. Raises NotInTime."""
        ends = time.monotonic() + IN_TIME
        while not condition():
            if time.monotonic() > ends:
                raise NotInTime(f"not within {IN_TIME:g} s: {what}")
            due = self.session.turn()
            if ready := self.ledger.take_settled():
                self.session.acknowledge(ready)
            self.loop.wait(min(due, 0.01))


class World:
    def __init__(self, bridge: Bridge, broker: ScriptedBroker) -> None:
        self.bridge, self.broker = bridge, broker
        self._accepted = 0

    def accept(self, session_present: bool) -> Connection:
        """Accept the bridge's connection, and return when the session is LIVE."""
        self.bridge.runs_until(lambda: len(self.broker.connects) > self._accepted, "CONNECT")
        self._accepted += 1
        connection = self.broker.next_connection()
        connection.connack(session_present)
        self.bridge.runs_until(lambda: self.bridge.session.state is State.LIVE, "LIVE")
        return connection


@contextmanager
def a_live_bridge(version: int) -> Iterator[tuple[World, Connection]]:
    with TemporaryDirectory() as directory, ScriptedBroker() as broker:
        bridge = Bridge(broker, version, Path(directory))
        world = World(bridge, broker)
        try:
            yield world, world.accept(session_present=False)
        finally:
            bridge.session.abandon()
            bridge.loop.close()


def acknowledged(connection: Connection) -> list[int]:
    assert connection.malformed is None
    return [packet.identifier for packet in connection.received if isinstance(packet, Ack)]


def all_flows_again(world: World, sent: Sequence[Publish], settled: int) -> None:
    """On a new connection resend unacknowledged messages; each is acknowledged once it is settled."""
    connection = world.accept(session_present=True)
    for publish in sent[settled:]:
        connection.publish(b"t", publish.payload, qos=publish.qos, identifier=publish.identifier, dup=True)
    connection.publish(b"t", b"end", qos=1, identifier=9999)
    world.bridge.runs_until(
        lambda: 9999 in [each.packet_id for each in world.bridge.received], "the last message"
    )
    assert acknowledged(connection) == []
    world.bridge.settle(world.bridge.received)
    expected = [publish.identifier for publish in sent[settled:]] + [9999]
    world.bridge.runs_until(lambda: len(acknowledged(connection)) >= len(expected), "acknowledgements")
    assert acknowledged(connection) == expected


good = st.lists(st.sampled_from((1, 2)), max_size=5).map(
    lambda levels: [Publish(b"t", b"v", qos, 11 + number) for number, qos in enumerate(levels)]
)
cuts = st.lists(st.integers(1, 60), max_size=3)


def send_in_pieces(bridge: Bridge, connection: Connection, data: bytes, at: Sequence[int]) -> None:
    for start, end in zip([0, *sorted(at)], [*sorted(at), len(data)], strict=True):
        if not bridge.ended:
            connection.send(data[start:end])
            bridge.session.turn()


# Report a failure without shrinking it: shrinking would take many runs of some 50 ms.
on_sockets = settings(max_examples=50, phases=[Phase.explicit, Phase.reuse, Phase.generate])


@pytest.mark.parametrize("version", [4, 5], ids=["mqtt3.1.1", "mqtt5"])
@on_sockets
@given(sent=good, data=st.data(), behind=st.binary(max_size=20), at=cuts)
def test_after_what_is_malformed_the_session_comes_back_and_owes_what_it_owed(
    version: int, sent: list[Publish], data: st.DataObject, behind: bytes, at: list[int]
) -> None:
    wrong = data.draw(malformed(version))
    settled = data.draw(st.integers(0, len(sent)))
    with a_live_bridge(version) as (world, connection):
        bridge = world.bridge
        for publish in sent:
            connection.send(publish.encode(version))
        bridge.runs_until(lambda: len(bridge.received) == len(sent), "the messages")
        bridge.settle(bridge.received[:settled])
        bridge.runs_until(lambda: len(acknowledged(connection)) == settled, "what is settled")

        after = Publish(b"t", b"never", 1, 12345).encode(version)
        began = time.monotonic()
        send_in_pieces(bridge, connection, wrong + behind + after, at)
        bridge.runs_until(lambda: connection.ended, "the end of the connection")
        bridge.runs_until(lambda: len(world.broker.connects) == 2, "the next CONNECT")
        assert bridge.waits == 1
        assert world.broker.connects[1] - began >= WAIT

        assert acknowledged(connection) == [publish.identifier for publish in sent[:settled]]
        assert len(bridge.received) == len(sent)
        if version == 5:
            assert connection.received[-1] == Disconnect(MALFORMED_PACKET)
        all_flows_again(world, sent, settled)


CONTROL = st.builds(
    lambda kind, body: bytes([kind << 4]) + varint(len(body)) + body,
    st.sampled_from([2, 4, 5, 7, 9, 11, 13, 14, 15]),
    st.binary(max_size=20),
)


@pytest.mark.parametrize("version", [4, 5], ids=["mqtt3.1.1", "mqtt5"])
@on_sockets
@given(sent=good, noise=st.lists(st.one_of(CONTROL, st.binary(max_size=60)), min_size=1, max_size=3), at=cuts)
def test_whatever_comes_nothing_is_acknowledged_that_was_not_settled_and_the_session_comes_back(
    version: int, sent: list[Publish], noise: list[bytes], at: list[int]
) -> None:
    with a_live_bridge(version) as (world, connection):
        bridge = world.bridge
        for publish in sent:
            connection.send(publish.encode(version))
        bridge.runs_until(lambda: len(bridge.received) == len(sent), "the messages")
        send_in_pieces(bridge, connection, b"".join(noise), at)
        if not bridge.ended:
            connection.socket.shutdown(SHUT_WR)
        bridge.runs_until(lambda: bridge.ended, "the end of the connection")
        assert acknowledged(connection) == []
        all_flows_again(world, sent, settled=0)
