"""Kafka forgets the bridge's number: a bridge that runs keeps it alive, one that was off for long says so.

Kafka's shortest retention of offsets is a minute, and so long this test takes.
"""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from bridge.delivery.intent import IntentVerdict
from bridge.kafka import transactions
from bridge.observe.events import Event
from tests.harness.conditions import wait_until
from tests.harness.drain import Drain
from tests.harness.host import Network
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records

_RETENTION = "offsets.retention.minutes=1\noffsets.retention.check.interval.ms=1000\n"
_CONFIRMS = 15.0  # seconds, instead of twelve hours of seven days


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[KafkaCluster]:
    network = Network("127.30.7")
    with KafkaCluster(network, tmp_path / "kafka", nodes=1, properties=_RETENTION) as cluster:
        yield cluster


def has_number(kafka: KafkaCluster, name: str) -> bool:
    """Whether Kafka keeps an offset of this group for the topic of the same name."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": name, "log_level": 0})
    try:
        (found,) = consumer.committed([TopicPartition(name, 0)], timeout=10.0)
        return found.offset >= 0
    finally:
        consumer.close()


def payloads(begin: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(begin, end)]


def test_an_idle_bridge_keeps_its_number_and_one_that_was_off_says_that_it_is_gone(
    kafka: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "CONFIRM_EVERY", _CONFIRMS)
    monkeypatch.setattr(transactions, "_CONFIRM_FIRST", _CONFIRMS)
    for name in ("idle", "off"):
        kafka.create_topic(name, 1)
    with Drain(kafka.bootstrap, tmp_path / "idle", "idle") as idle:
        idle.write("idle", payloads(0, 100))
        idle.until(lambda: idle.is_done, 30, "all is delivered")
        with Drain(kafka.bootstrap, tmp_path / "off", "off") as off:
            off.write("off", payloads(0, 100))
            off.until(lambda: off.is_done, 30, "all is delivered")
            off.write("off", payloads(100, 200))
            off.until(lambda: off.is_on_disk, 10, "all are on disk")
        assert has_number(kafka, "off")
        looked = time.monotonic()

        def is_forgotten() -> bool:
            nonlocal looked
            if time.monotonic() < looked + 1.0:
                return False
            looked = time.monotonic()
            return not has_number(kafka, "off")

        idle.until(is_forgotten, 120, "Kafka has forgotten the number of the bridge that is off")
        assert has_number(kafka, "idle")
    said: list[tuple[Event, dict[str, object]]] = []
    monkeypatch.setattr(
        "bridge.kafka.transactional_cluster.log", lambda event, **fields: said.append((event, fields))
    )
    for name, verdict in (("idle", IntentVerdict.COMMITTED), ("off", IntentVerdict.GONE)):
        with Drain(kafka.bootstrap, tmp_path / name, name) as drain:
            drain.until(
                lambda drain=drain: drain.is_done and drain.cluster.transactions.verdict, 30, "it is done"
            )
            assert drain.cluster.transactions.verdict is verdict
    (fields,) = [fields for event, fields in said if event is Event.KAFKA_NUMBER_UNEXPECTED]
    assert "expired" in str(fields["reason"])
    wait_until(lambda: len(records(kafka.bootstrap, "off")) >= 200, 30.0, "the reader has all")
    assert [record.value for record in records(kafka.bootstrap, "idle")] == payloads(0, 100)
    copies = Counter(record.value for record in records(kafka.bootstrap, "off"))
    assert set(copies) == set(payloads(0, 200))
    assert {copies[each] for each in payloads(0, 100)} == {1}, "the disk knew that Kafka had these"
    assert max(copies.values()) <= 2
