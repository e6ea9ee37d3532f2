"""Fixtures: a scripted broker, a bridge connected to it, and the records in Kafka."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.kafka import KafkaCluster
from tests.harness.records import Record, records
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.harness.simulated import SimulatedBroker

_numbers = itertools.count(1)

NewBridge = Callable[..., BridgeProcess]  # new_bridge({"t/#": topic}, {"protocol": "5"}, stop_timeout="2s")
Values = Callable[[str], list[bytes]]
InKafka = Callable[[str], list[Record]]

# After a cut the bridge reconnects almost at once.
QUICK = {"min_delay": "50ms", "max_delay": "200ms"}


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as broker:
        yield broker


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    """A Kafka topic with one partition, so its records are in one order."""
    return new_topic(partitions=1)


class HeldTopic:
    """A Kafka topic that does not exist yet: its messages stay unsettled until `release()`."""

    def __init__(self, kafka: KafkaCluster, name: str) -> None:
        self._kafka = kafka
        self.name = name

    def release(self) -> None:
        self._kafka.create_topic(self.name, partitions=1)


@pytest.fixture
def new_held_topic(kafka: KafkaCluster) -> Callable[[], HeldTopic]:
    return lambda: HeldTopic(kafka, f"held.{next(_numbers)}")


@pytest.fixture
def held_topic(new_held_topic: Callable[[], HeldTopic]) -> HeldTopic:
    return new_held_topic()


@pytest.fixture
def in_kafka(kafka: KafkaCluster) -> InKafka:
    """Reads the records that a topic holds now: in_kafka("iot")."""
    return lambda topic: records(kafka.bootstrap, topic)


@pytest.fixture
def values(in_kafka: InKafka) -> Values:
    """Reads the values of the records that a topic holds now."""
    return lambda topic: [record.value for record in in_kafka(topic)]


@pytest.fixture
def new_bridge_to(kafka: KafkaCluster, tmp_path: Path) -> Iterator[NewBridge]:
    """Makes a bridge between a broker and `kafka`, not started yet; all bridges end with the test.

    `routes` maps MQTT filters to Kafka topics, or is a list as in the settings. A message that Kafka does not
    confirm stays unacknowledged: nothing is written to disk unless the test changes that.
    """
    made: list[BridgeProcess] = []

    def create(
        broker: ScriptedBroker | SimulatedBroker,
        routes: Mapping[str, str] | list[dict[str, Any]],
        mqtt: Mapping[str, Any] | None = None,
        **tables: Any,
    ) -> BridgeProcess:
        if isinstance(routes, Mapping):
            routes = [
                {"name": f"route{number}", "filter": filter_, "topic": topic, "qos": 2}
                for number, (filter_, topic) in enumerate(routes.items(), 1)
            ]
        session = {
            "host": broker.address,
            "port": broker.port,
            "client_id": "the-bridge",
            "reconnect": QUICK,
            **(mqtt or {}),
        }
        to = {"bootstrap_servers": kafka.bootstrap, **tables.pop("kafka", {})}
        settings = {
            "mqtt": session,
            "kafka": to,
            "routes": routes,
            "log": {"level": "debug"},
            # `after` keeps what is late from the disk; `keep_free` also what is held for a missing topic.
            "spool": {"after": "1h", "keep_free": 10**15},
            **tables,
        }
        bridge = BridgeProcess(settings, tmp_path, name=f"bridge{len(made) + 1}")
        made.append(bridge)
        return bridge

    yield create
    for bridge in made:
        if bridge.alive:
            bridge.kill9()


@pytest.fixture
def new_bridge(new_bridge_to: NewBridge, broker: ScriptedBroker) -> NewBridge:
    """Like new_bridge_to, with the scripted broker: new_bridge({"t/#": topic})."""

    def create(routes: Any, mqtt: Mapping[str, Any] | None = None, **tables: Any) -> BridgeProcess:
        return new_bridge_to(broker, routes, mqtt, **tables)

    return create


@pytest.fixture
def running(new_bridge: NewBridge, topic: str) -> BridgeProcess:
    """A bridge that has started, from t/# to `topic`."""
    bridge = new_bridge({"t/#": topic})
    bridge.start()
    return bridge


@pytest.fixture
def live(broker: ScriptedBroker, running: BridgeProcess) -> Connection:
    """The connection of `running`, with a new session and its subscriptions."""
    connection = broker.next_connection()
    connection.connack()
    connection.expect_subscribe()
    running.wait_live()
    return connection
