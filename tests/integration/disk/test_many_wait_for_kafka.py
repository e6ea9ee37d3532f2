"""Kafka is away, and a night's messages arrive: memory does not grow, and each message is delivered once.

50,000 messages; `--full` sends a million. The figures are printed (pytest -s).
"""

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from bridge.spool.store import Store
from tests.bench import backlog
from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import MQTT, TwoDoors
from tests.harness.cgroup import CannotCap, memory_cap
from tests.harness.conditions import wait_until
from tests.harness.host import Network
from tests.harness.kafka import KafkaCluster
from tests.integration.disk.conftest import NOBODY

_WINDOW = 1000  # the broker's max_inflight_messages
_CAP = 128_000_000  # bytes, enforced by the kernel where possible
_PEAK = 150_000_000  # bytes
_PARTITIONS = 3


@pytest.fixture
def mosquitto(network: Network, tmp_path: Path) -> Iterator[str]:
    """The address of a broker whose queue has no limit."""
    doors = TwoDoors(network, tmp_path / "mosquitto", inflight=_WINDOW, queued=0)
    doors.mosquitto.start()
    yield network.behind_the_doors.address
    doors.mosquitto.kill9()


def test_many_messages_wait_for_kafka(
    request: pytest.FixtureRequest,
    mosquitto: str,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    tmp_path: Path,
) -> None:
    count = 1_000_000 if request.config.getoption("--full") else 50_000
    topic, spool = new_topic(partitions=_PARTITIONS), tmp_path / "spool"

    def bridge(bootstrap: str, name: str) -> BridgeProcess:
        settings = {
            "mqtt": {
                "host": mosquitto,
                "port": MQTT,
                "client_id": "the-bridge",
                "receive_maximum": 2 * _WINDOW,
            },
            "kafka": {"bootstrap_servers": bootstrap},
            "routes": [
                {"name": "all", "filter": "sensors/{site}/{device}/temp", "topic": topic, "key": "{device}"}
            ],
            "spool": {"directory": spool},
        }
        return BridgeProcess(settings, tmp_path, name=name, program=[*cap, sys.executable, "-m", "bridge"])

    with ExitStack() as stack:
        try:
            cap = stack.enter_context(memory_cap(_CAP))
        except CannotCap:
            cap = []
        with bridge(NOBODY, "spooling") as first:
            began = time.monotonic()
            backlog.publish(mosquitto, MQTT, "house", count)
            wait_until(lambda: waiting(spool) >= count, 600.0, lambda: f"{waiting(spool)} of {count} wait")
            took, cpu, peak = time.monotonic() - began, first.cpu_seconds(), peak_memory(first)
        tell("in", count, took, cpu, peak)
        assert peak < _PEAK
        assert waiting(spool) == count

        began = time.monotonic()
        with bridge(kafka.bootstrap, "draining") as second:
            sys.stdout.write(f"live after {time.monotonic() - began:.1f} s with {count} on disk\n")
            wait_until(lambda: in_kafka(kafka, topic) >= count, 600.0, lambda: f"{waiting(spool)} still wait")
            took, cpu, peak = time.monotonic() - began, second.cpu_seconds(), peak_memory(second)
        tell("out", count, took, cpu, peak)
        assert peak < _PEAK
        wait_until(lambda: not waiting(spool), 10.0, "what Kafka holds is deleted")
        assert_each_once_and_in_order(kafka, topic, count)


def tell(way: str, count: int, took: float, cpu: float, peak: int) -> None:
    sys.stdout.write(
        f"{way}: {count} messages in {took:.1f} s, {count / took:.0f} a second, start and stop included;"
        f" {cpu / count * 1e6:.1f} us of CPU each; peak {peak / 1e6:.0f} MB\n"
    )


def peak_memory(bridge: BridgeProcess) -> int:
    """The bridge's peak resident memory in bytes."""
    status = Path(f"/proc/{bridge.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def waiting(spool: Path) -> int:
    """How many messages are on disk, read while the service runs."""
    database = sqlite3.connect(f"file:{spool / Store.FILE}?mode=ro", uri=True)
    try:
        return int(database.execute("SELECT coalesce(sum(messages), 0) FROM lanes").fetchone()[0])
    finally:
        database.close()


def in_kafka(kafka: KafkaCluster, topic: str) -> int:
    """How many records the topic has."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "counts"})
    try:
        return sum(
            consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10.0)[1]
            for number in range(_PARTITIONS)
        )
    finally:
        consumer.close()


def assert_each_once_and_in_order(kafka: KafkaCluster, topic: str, count: int) -> None:
    seen = bytearray(count)
    last = [-1] * backlog.DEVICES
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": "reads", "auto.offset.reset": "earliest"}
    )
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in range(_PARTITIONS)])
        left = count
        while left:
            messages = consumer.consume(min(left, 10_000), timeout=10.0)
            assert messages, f"{left} are missing"
            left -= len(messages)
            for message in messages:
                number = backlog.number_of(message.value())
                assert not seen[number], f"{number} is there twice"
                seen[number] = 1
                device = number % backlog.DEVICES
                assert number > last[device], f"{number} came after {last[device]}"
                last[device] = number
    finally:
        consumer.close()
    assert in_kafka(kafka, topic) == count
