"""librdkafka has a thread for each broker of the cluster: many brokers, and too few threads allowed."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.cgroup import CannotCap, TasksCap, memory_cap, tasks_cap
from tests.harness.conditions import NotInTime, wait_until
from tests.harness.kit import ROOT
from tests.harness.mock_kafka import MockKafka
from tests.harness.records import records
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection

BROKERS = 30
LARGE = (
    1_100_000  # bytes; more than what the bridge takes for certain of a topic whose limit Kafka does not tell
)

_UNIT = (ROOT / "deploy/systemd/mqtt-kafka-bridge.service").read_text()
TASKS_MAX = int(re.findall(r"^TasksMax=(\d+)$", _UNIT, re.MULTILINE)[0])
MEMORY_MAX = int(re.findall(r"^MemoryMax=(\d+)M$", _UNIT, re.MULTILINE)[0]) << 20

NewBridge = Callable[[list[str]], BridgeProcess]


@pytest.fixture
def large_kafka() -> MockKafka:
    kafka = MockKafka(BROKERS)
    for topic in ("iot", "letters"):
        kafka.create_topic(topic, BROKERS)
    return kafka


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as broker:
        yield broker


@pytest.fixture
def new_bridge(large_kafka: MockKafka, broker: ScriptedBroker, tmp_path: Path) -> NewBridge:
    def create(entered: list[str]) -> BridgeProcess:
        settings: dict[str, Any] = {
            "mqtt": {"host": broker.address, "port": broker.port, "client_id": "the-bridge"},
            "kafka": {"bootstrap_servers": large_kafka.bootstrap.partition(",")[0]},
            "routes": [
                {"name": "iot", "filter": "t/{device}", "topic": "iot"},
                {"name": "other", "filter": "other", "topic": "other"},
            ],
            "dead_letters": {"topic": "letters"},
        }
        return BridgeProcess(settings, tmp_path, program=[*entered, sys.executable, "-m", "bridge"])

    return create


@contextlib.contextmanager
def allowed(tasks: int) -> Iterator[TasksCap]:
    """A bound on the bridge's threads; without one there is nothing to test."""
    try:
        with tasks_cap(tasks) as cap:
            yield cap
    except CannotCap as error:
        pytest.skip(str(error))


def live(broker: ScriptedBroker, bridge: BridgeProcess) -> Connection:
    bridge.start()
    connection = broker.next_connection()
    connection.connack()
    connection.expect_subscribe()
    bridge.wait_live()
    return connection


def publish_all_kinds(connection: Connection) -> set[bytes]:
    """One for each partition and more, one that wants the producer for probes, one that no route takes.

    Returns the values that belong into the topic. All are acknowledged.
    """
    values = {b"%d" % number for number in range(90)}
    for number in range(90):
        connection.publish(b"t/%d" % number, b"%d" % number, qos=1, identifier=number + 1)
    connection.publish(b"t/large", bytes(LARGE), qos=1, identifier=91)
    connection.publish(b"nobody/asked/for/this", b"letter", qos=1, identifier=92)
    connection.expect_pubacks(range(1, 93), deadline=60.0)
    return values | {bytes(LARGE)}


def wait_for_all(kafka: MockKafka, values: set[bytes]) -> None:
    def found() -> list[bytes]:
        return [record.value for record in records(kafka.bootstrap, "iot")]

    wait_until(lambda: set(found()) >= values, 60.0, lambda: f"{len(set(found()))} of {len(values)} values")
    assert sorted(found()) == sorted(values), "something is there twice"
    wait_until(lambda: records(kafka.bootstrap, "letters"), 60.0, "the dead letter is produced")


def test_it_delivers_under_the_units_limits(
    large_kafka: MockKafka, broker: ScriptedBroker, new_bridge: NewBridge
) -> None:
    with allowed(TASKS_MAX) as cap, memory_cap(MEMORY_MAX) as entered:
        bridge = new_bridge([*entered, *cap.entered])
        connection = live(broker, bridge)
        values = publish_all_kinds(connection)
        wait_for_all(large_kafka, values)
        sys.stdout.write(f"{cap.tasks} tasks of {TASKS_MAX}, {bridge.rss_mb():.0f} MB\n")
        assert not bridge.entries("service.no_thread")
        assert bridge.terminate() == 0


def test_no_further_thread_is_allowed_for_a_while(
    large_kafka: MockKafka, broker: ScriptedBroker, new_bridge: NewBridge
) -> None:
    """It wants threads for a producer for probes, for another topic, and to connect again."""
    with allowed(TASKS_MAX) as cap:
        bridge = new_bridge(cap.entered)
        connection = live(broker, bridge)
        connection.publish(b"t/first", b"first", qos=1, identifier=100)
        connection.expect_puback(100)
        wait_until(lambda: records(large_kafka.bootstrap, "iot"), 30.0, "the first is there")
        cap.allow(1)
        values = publish_all_kinds(connection) | {b"first"}
        connection.publish(b"other", b"other", qos=1, identifier=101)
        connection.expect_puback(101, deadline=30.0)
        said = bridge.wait_for("service.no_thread")
        assert "TasksMax" in said["reason"]
        connection.reset()
        bridge.wait_for("mqtt.connect_failed")
        assert len(bridge.entries("service.no_thread")) == 1
        cap.allow(TASKS_MAX)
        broker.next_connection().connack(session_present=True)
        wait_for_all(large_kafka, values)
        wait_until(lambda: records(large_kafka.bootstrap, "other"), 60.0, "the other topic gets its message")
        assert bridge.terminate() == 0


@pytest.mark.parametrize("tasks", [1, 4, 7, 10, 13, 20, 40])
def test_a_start_with_too_few_threads_goes_on_once_there_are_more(
    large_kafka: MockKafka, broker: ScriptedBroker, new_bridge: NewBridge, tasks: int
) -> None:
    with allowed(tasks) as cap:
        bridge = new_bridge(cap.entered)
        bridge.spawn()
        bridge.wait_for("service.started", deadline=30.0)
        connection = None
        with contextlib.suppress(NotInTime):
            connection = broker.next_connection(2.0)
            connection.connack()
            connection.expect_subscribe()
            connection.publish(b"t/first", b"first", qos=1, identifier=1)
            connection.expect_puback(1, deadline=30.0)
        cap.allow(TASKS_MAX)
        if connection is None:
            connection = broker.next_connection()
            connection.connack()
            connection.expect_subscribe()
            connection.publish(b"t/first", b"first", qos=1, identifier=1)
        connection.publish(b"t/second", b"second", qos=1, identifier=2)
        wait_until(lambda: len(records(large_kafka.bootstrap, "iot")) == 2, 60.0, "both are there")
        assert bridge.terminate() == 0
