"""Records that Kafka does not accept: the topic is missing, or the record is too large."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.records import records

LIMIT = 20_000  # bytes: max.message.bytes of a small topic


@pytest.fixture
def publish(haproxy: HAProxy) -> Callable[..., None]:
    """publish("t", b"...") publishes like a device at QoS 1, and returns when EMQ has acknowledged."""

    def publish(topic: str, *payloads: bytes) -> None:
        for payload in payloads:
            command = ["mosquitto_pub", "-h", haproxy.host.address, "-p", str(DEVICES), "-q", "1"]
            subprocess.run([*command, "-t", topic, "-s"], input=payload, check=True, timeout=20)

    return publish


@pytest.fixture
def values(kafka: KafkaCluster) -> Callable[[str, int], list[bytes]]:
    """values(topic, count): the values in a topic, once there are so many."""

    def wait(topic: str, count: int) -> list[bytes]:
        def enough() -> list[bytes] | None:
            found = [record.value for record in records(kafka.bootstrap, topic)]
            return found if len(found) >= count else None

        return wait_until(enough, 40.0, f"{count} records are in {topic}")

    return wait


def route(topic: str, filter_: str = "t") -> dict[str, Any]:
    return {"name": f"to-{topic}", "filter": filter_, "topic": topic}


def test_a_missing_topic_is_named_with_the_command_that_creates_it_and_gets_all_once_it_is_there(
    new_bridge: Callable[..., BridgeProcess],
    publish: Callable[..., None],
    values: Callable[[str, int], list[bytes]],
) -> None:
    with new_bridge(routes=[route("not.there.yet")]) as bridge:
        publish("t", b"1", b"2")
        said = bridge.wait_for("kafka.topic_missing", topic="not.there.yet")
        program = Path(sys.executable).with_name("bridge")
        assert said["way_out"] == f"{program} topics --create --config {bridge.settings}"
        publish("t", b"3")
        command = ["topics", "--create", "--yes", "--partitions", "1", "--config", str(bridge.settings)]
        subprocess.run([sys.executable, "-m", "bridge", *command], cwd=ROOT, check=True, timeout=60)
        assert values("not.there.yet", 3) == [b"1", b"2", b"3"]
        bridge.wait_for("kafka.lane_live", topic="not.there.yet")


def test_an_oversize_message_is_given_up_and_its_neighbours_go_their_way_in_order(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    publish: Callable[..., None],
    values: Callable[[str, int], list[bytes]],
) -> None:
    topic = new_topic(partitions=1, config={"max.message.bytes": LIMIT})
    with new_bridge(routes=[route(topic)]) as bridge:
        publish("t", b"before", os.urandom(2 * LIMIT), b"after")
        assert values(topic, 2) == [b"before", b"after"]
        said = bridge.wait_for("kafka.refused", topic=topic, size=2 * LIMIT)
        assert "max.message.bytes" in said["reason"]
    (last,) = bridge.entries("service.stopped")
    assert (last["delivered"], last["dead_lettered"], last["in_flight"]) == (2, 1, 0)


def test_what_is_refused_begins_no_epoch_for_others(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    publish: Callable[..., None],
    values: Callable[[str, int], list[bytes]],
) -> None:
    """In a new epoch Kafka duplicates records that it has stored and not confirmed: decision 0015."""
    small, other = new_topic(partitions=1, config={"max.message.bytes": LIMIT}), new_topic(partitions=1)
    with new_bridge(routes=[route(small), route(other, "other")]) as bridge:
        publish("other", b"first", b"second", b"third")
        for _ in range(3):
            publish("t", os.urandom(2 * LIMIT))
        wait_until(lambda: len(bridge.entries("kafka.refused")) == 3, 30.0, "they are refused")
        publish("other", b"last")
        values(other, 4)
    assert {epoch for _, epoch in kafka.epochs(other)} == {0}


def test_what_fits_only_when_it_is_compressed_is_delivered(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    publish: Callable[..., None],
    values: Callable[[str, int], list[bytes]],
) -> None:
    topic = new_topic(partitions=1, config={"max.message.bytes": LIMIT})
    large = b"x" * 10 * LIMIT
    with new_bridge(routes=[route(topic)]):
        publish("t", b"before", large, b"after")
        assert values(topic, 3) == [b"before", large, b"after"]


def test_a_limit_that_is_lowered_while_the_bridge_runs_costs_only_what_is_too_large(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    publish: Callable[..., None],
    values: Callable[[str, int], list[bytes]],
) -> None:
    topic = new_topic(partitions=1)
    with new_bridge(routes=[route(topic)]) as bridge:
        publish("t", b"first")
        values(topic, 1)
        kafka.alter_topic_config(topic, {"max.message.bytes": LIMIT})
        publish("t", b"second", os.urandom(2 * LIMIT), b"third")
        assert values(topic, 3) == [b"first", b"second", b"third"]
        bridge.wait_for("kafka.refused", topic=topic)


def test_a_topic_that_is_deleted_in_use_holds_its_messages_until_it_is_there_again(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    publish: Callable[..., None],
    values: Callable[[str, int], list[bytes]],
) -> None:
    topic = new_topic(partitions=1)
    with new_bridge(routes=[route(topic)]):
        publish("t", b"1")
        values(topic, 1)
        kafka.delete_topic(topic)
        publish("t", b"2", b"3")
        kafka.create_topic(topic, partitions=1)
        assert values(topic, 2)[-2:] == [b"2", b"3"]


def test_a_topic_that_refuses_the_clock_gets_records_without_timestamp_at_full_speed(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    haproxy: HAProxy,
) -> None:
    """Each would be refused with its batch, then alone, then be sent again without."""
    count = 900
    topic = new_topic(partitions=1, config={"message.timestamp.before.max.ms": 1})
    lines = b"".join(b"%d\n" % each for each in range(count))
    with new_bridge(routes=[route(topic)]) as bridge:
        command = [
            "mosquitto_pub",
            "-h",
            haproxy.host.address,
            "-p",
            str(DEVICES),
            "-q",
            "1",
            "-t",
            "t",
            "-l",
        ]
        subprocess.run(command, input=lines, check=True, timeout=60)
        wait_until(lambda: len(records(kafka.bootstrap, topic)) >= count, 40.0, f"{count} are in {topic}")
        found = records(kafka.bootstrap, topic)
        assert [int(record.value) for record in found] == list(range(count))
        assert {record.timestamp for record in found} == {None}
        (said,) = bridge.entries("kafka.timestamps_refused")
        assert "clock" in said["reason"]
        assert said["record_timestamp"] != said["timestamp"], "the record's beside the line's own"
        # One epoch for each refusal: of the first batch, and of the one message that was then tried alone.
        assert max(epoch for _, epoch in kafka.epochs(topic)) <= 4
