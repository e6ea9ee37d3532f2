"""Fixtures: a bridge with its spool on a small disk, fed by a scripted broker, without Kafka."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.delivery.segment import Wanted
from bridge.spool.store import Store
from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.host import TESTS, Network
from tests.harness.packets import Ack, Kind, Publish
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection

NOBODY = f"{Network(TESTS).host('nobody', 200).address}:9092"
"""An address at which no Kafka listens."""

NewBridge = Callable[..., BridgeProcess]


class Feed:
    """Publishes on one connection, and tracks which messages were acknowledged.

    Payloads are b"<number> ....", counted from `first` over all messages; `acked` holds the numbers of the
    QoS 1 and 2 messages that got their PUBACK or PUBREC. Feed ignores the Receive Maximum, as some brokers
    do.
    """

    def __init__(self, connection: Connection, first: int = 1) -> None:
        self._connection = connection
        self._sent = first - 1
        self._numbers: dict[int, int] = {}  # Packet Identifier -> number
        self._identifier = 0

    def send(self, count: int, *, qos: int = 1, size: int = 1000, topic: bytes = b"t") -> range:
        """Publish `count` messages, and return their numbers."""
        first = self._sent + 1
        packets = []
        for number in range(first, first + count):
            if qos:
                self._identifier += 1
                self._numbers[self._identifier] = number
            payload = b"%d " % number
            packet = Publish(topic, payload.ljust(size, b"."), qos, self._identifier if qos else 0)
            packets.append(packet.encode(self._connection.version))
        self._sent += count
        self._connection.send(b"".join(packets))
        return range(first, first + count)

    @property
    def acked(self) -> list[int]:
        """The numbers of acknowledged messages, in the order of their acknowledgement."""
        return [
            self._numbers[packet.identifier]
            for packet in self._connection.received[:]
            if isinstance(packet, Ack) and packet.kind in (Kind.PUBACK, Kind.PUBREC)
        ]

    def wait_acked(self, numbers: range, deadline: float = 20.0) -> None:
        """Wait until these were acknowledged. Raises NotInTime."""
        wait_until(
            lambda: set(numbers) <= set(self.acked),
            deadline,
            lambda: f"{len(numbers)} are acknowledged, {len(set(numbers) - set(self.acked))} are not",
        )

    def wait_stalled(self, deadline: float = 30.0) -> list[int]:
        """Wait until messages are unacknowledged and none gets an acknowledgement for three seconds.

        The spool, when it is full, retries sooner than that. Returns `acked`.
        """

        def stalled() -> bool:
            before = len(self.acked)
            try:
                wait_until(lambda: len(self.acked) > before, 3.0, "")
            except AssertionError:
                return before < len(self._numbers)
            return False

        wait_until(stalled, deadline, lambda: "acknowledgements stop")
        return self.acked


def number_of(payload: bytes) -> int:
    return int(payload.split(b" ", 1)[0])


def on_disk(directory: Path) -> list[int]:
    """The numbers of the messages in the spool of a stopped bridge, by topic, in order."""
    store = Store(directory)
    try:
        found = []
        for backlog in store.backlogs():
            segments, damaged = store.read(backlog.topic, Wanted(0, 2**44 - 1, 10**9, 10**12))
            assert not damaged
            found += [number_of(each.payload) for segment in segments for each in segment.messages]
        return found
    finally:
        store.close()


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as broker:
        yield broker


@pytest.fixture
def new_bridge(broker: ScriptedBroker, tmp_path: Path) -> Iterator[NewBridge]:
    """Makes a bridge that routes t to iot and late/t to late; not started. It ends with the test.

    new_bridge(disk.path, kafka={"bootstrap_servers": kafka.bootstrap}); without `kafka` the bridge has none.
    """
    made: list[BridgeProcess] = []

    def create(
        directory: Path, *, topic: str = "iot", mqtt: Any = (), program: Any = None, **tables: Any
    ) -> BridgeProcess:
        settings: dict[str, Any] = {
            "mqtt": {"host": broker.address, "port": broker.port, "client_id": "the-bridge", **dict(mqtt)},
            "kafka": {"bootstrap_servers": NOBODY, **tables.pop("kafka", {})},
            "routes": [
                {"name": "all", "filter": "t/#", "topic": topic, "qos": 2},
                {"name": "late", "filter": "late/#", "topic": "late", "qos": 2},
            ],
            "spool": {"directory": directory, "after": "100ms", "keep_free": 0, **tables.pop("spool", {})},
            "stop_timeout": "5s",
            **tables,
        }
        options = {} if program is None else {"program": program}
        bridge = BridgeProcess(settings, tmp_path, name=f"bridge{len(made) + 1}", **options)
        made.append(bridge)
        return bridge

    yield create
    for bridge in made:
        if bridge.alive:
            bridge.kill9()


def connected(broker: ScriptedBroker, bridge: BridgeProcess) -> Connection:
    """The next connection of the bridge, with a new session and its subscriptions."""
    connection = broker.next_connection()
    connection.connack()
    connection.expect_subscribe()
    bridge.wait_live()
    return connection
