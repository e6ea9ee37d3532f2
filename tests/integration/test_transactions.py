"""Spool to Kafka exactly once, on three real brokers, without the MQTT side (tests/harness/drain.py)."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import AclOperation, ResourceType

from bridge.delivery.intent import IntentVerdict
from bridge.delivery.results import Hold, Verdict
from bridge.kafka import transactions
from bridge.kafka.transactions import State
from bridge.observe.events import Event
from tests.harness.conditions import wait_until
from tests.harness.drain import Drain
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records
from tests.integration.access_rules import allow, grant

_names = count(1)


@pytest.fixture
def name() -> str:
    """A transactional id and group of this test alone."""
    return f"transactions.{next(_names)}"


@pytest.fixture
def drain(kafka: KafkaCluster, tmp_path: Path, name: str) -> Iterator[Drain]:
    with Drain(kafka.bootstrap, tmp_path / "spool", name) as it:
        yield it


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Event, dict[str, object]]]:
    """The events that the cluster logs."""
    found: list[tuple[Event, dict[str, object]]] = []

    def log(event: Event, **fields: object) -> None:
        found.append((event, fields))
        print(f"{time.monotonic():.3f}", event, fields)  # noqa: T201 (a failed test shows them)

    for module in ("transactional_cluster", "error_log"):
        monkeypatch.setattr(f"bridge.kafka.{module}.log", log)
    return found


def payloads(topic: str, number: int, begin: int = 0) -> list[bytes]:
    return [b"%s %d" % (topic.encode(), each) for each in range(begin, begin + number)]


def values(kafka: KafkaCluster, topic: str, count: int) -> list[bytes]:
    """What a read_committed reader has once there are so many; the markers of a commit follow its answer."""
    found: list[bytes] = []

    def are_there() -> bool:
        found[:] = [record.value for record in records(kafka.bootstrap, topic)]
        return len(found) >= count

    wait_until(are_there, 30.0, lambda: f"{count} records are in {topic}, {len(found)} so far")
    return found


def test_messages_are_there_once_and_in_order_and_the_disk_is_empty(
    drain: Drain, kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    one, three = new_topic(partitions=1), new_topic(partitions=3)
    for begin in range(0, 1000, 100):
        drain.write(one, payloads(one, 100, begin))
        drain.write(three, payloads(three, 100, begin))
        drain.until(lambda begin=begin: len(drain.delivered) >= 2 * begin, 30, "messages are delivered")
    drain.until(lambda: drain.is_done, 30, "all is delivered")
    assert values(kafka, one, 1000) == payloads(one, 1000)
    assert sorted(values(kafka, three, 1000)) == sorted(payloads(three, 1000))
    assert drain.cluster.transactions.failed_count == 0
    assert drain.cluster.rebuilds == 0


def test_a_stop_and_a_start_go_on_where_the_last_run_was(
    kafka: KafkaCluster, new_topic: Callable[..., str], tmp_path: Path, name: str
) -> None:
    topic = new_topic(partitions=1)
    for run in range(3):
        with Drain(kafka.bootstrap, tmp_path, name) as drain:
            drain.write(topic, payloads(topic, 300, 300 * run))
            drain.until(lambda run=run: len(drain.delivered) >= 100 or run == 1, 30, "some are delivered")
            drain.until(lambda: drain.is_on_disk, 10, "all are on disk")
            for _ in range(5):
                drain.turn()
    with Drain(kafka.bootstrap, tmp_path, name) as drain:
        drain.until(
            lambda: drain.is_done and drain.cluster.transactions.state is State.READY, 30, "all is delivered"
        )
        assert not drain.cluster.transactions.verdict.is_loud
    assert values(kafka, topic, 900) == payloads(topic, 900)


def test_a_topic_that_is_deleted_holds_up_no_other_one(
    drain: Drain, kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    good, gone = new_topic(partitions=1), new_topic(partitions=1)
    drain.write(gone, payloads(gone, 10))
    drain.write(good, payloads(good, 10))
    drain.until(lambda: drain.is_done, 30, "all is delivered")
    kafka.delete_topic(gone)
    drain.write(gone, payloads(gone, 10, 10))
    drain.write(good, payloads(good, 10, 10))
    drain.until(lambda: len(drain.delivered) == 30 and drain.failures, 30, "the other topic's are delivered")
    assert {failure.message.plan.kafka_topic for failure in drain.failures} == {gone}
    assert {failure.verdict for failure in drain.failures} == {Verdict.NOT_NOW}
    assert values(kafka, good, 20) == payloads(good, 20)
    kafka.create_topic(gone, 1)
    drain.retry()
    for _ in range(10):
        drain.until(lambda: drain.is_done or drain.held, 30, "it is tried again")
        drain.retry()
    drain.until(lambda: drain.is_done, 30, "all is delivered")
    assert values(kafka, gone, 10) == payloads(gone, 10, 10)


def test_a_record_that_is_too_large_is_reported_and_the_others_are_delivered_once(
    drain: Drain, kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    good, small = new_topic(partitions=1), new_topic(partitions=1, config={"max.message.bytes": 1000})
    drain.write(small, [b"before", os.urandom(2000), b"after"])
    drain.write(good, payloads(good, 10))
    drain.until(lambda: drain.refused, 30, "it is refused")
    drain.retry()
    drain.until(lambda: drain.is_done, 30, "the others are delivered")
    assert all(failure.verdict is Verdict.TOO_LARGE for failure in drain.failures)
    assert values(kafka, good, 10) == payloads(good, 10)


def test_the_coordinator_is_killed_again_and_again(
    drain: Drain, kafka: KafkaCluster, new_topic: Callable[..., str], name: str
) -> None:
    topic = new_topic(partitions=1)
    number = 10
    drain.write(topic, payloads(topic, number))
    drain.until(lambda: drain.is_done, 30, "the topics of Kafka's coordinators are there")
    for _ in range(3):
        node = kafka.coordinator("__transaction_state", name)
        for _ in range(5):
            drain.write(topic, payloads(topic, 50, number))
            number += 50
            drain.until(lambda: drain.in_flight, 30, "a transaction is under way")
        with node.dead():
            drain.write(topic, payloads(topic, 50, number))
            number += 50
            drain.until(lambda: drain.is_done, 90, "all is delivered without it")
    assert values(kafka, topic, number) == payloads(topic, number)


@pytest.mark.parametrize("how", ["all_dead", "all_hung"])
def test_all_brokers_are_away_and_come_back(
    drain: Drain, kafka: KafkaCluster, new_topic: Callable[..., str], how: str
) -> None:
    topic = new_topic(partitions=3)
    drain.write(topic, payloads(topic, 200))
    drain.until(lambda: drain.in_flight, 30, "a transaction is under way")
    with getattr(kafka, how)():
        for begin in range(200, 400, 50):
            drain.write(topic, payloads(topic, 50, begin))
            for _ in range(20):
                drain.turn()
                drain.loop.wait(0.05)
    drain.until(lambda: drain.is_done, 90, "all is delivered")
    assert sorted(values(kafka, topic, 400)) == sorted(payloads(topic, 400))


def test_a_bridge_with_the_same_id_is_fenced_waits_and_doubles_nothing(
    drain: Drain,
    kafka: KafkaCluster,
    new_topic: Callable[..., str],
    tmp_path: Path,
    name: str,
    said: list[tuple[Event, dict[str, object]]],
) -> None:
    topic = new_topic(partitions=1)
    drain.write(topic, payloads(topic, 100))
    drain.until(lambda: drain.is_done, 30, "all is delivered")
    with Drain(kafka.bootstrap, tmp_path / "twin", name) as twin:
        twin.write(topic, payloads("twin", 100))
        twin.until(lambda: twin.is_done, 30, "the twin's are delivered")
        drain.write(topic, payloads(topic, 100, 100))
        drain.until(lambda: drain.cluster.transactions.fenced_count, 30, "it is fenced")
        (fenced,) = [fields for event, fields in said if event is Event.KAFKA_FENCED]
        assert fenced["transactional_id"] == name
        assert drain.cluster.transactions.state is State.CLOSED
        twin.write(topic, payloads("twin", 100, 100))
        twin.until(lambda: twin.is_done, 30, "the twin goes on")
        assert twin.cluster.rebuilds == 0
    drain.until(lambda: drain.is_done, 60, "it comes back")
    found = values(kafka, topic, 400)
    assert [each for each in found if each.startswith(b"twin")] == payloads("twin", 200)
    assert [each for each in found if not each.startswith(b"twin")] == payloads(topic, 200)
    reasons = [fields["reason"] for event, fields in said if event is Event.KAFKA_NUMBER_UNEXPECTED]
    assert len(reasons) == 1, "this was the twin's start"
    assert str(reasons[0]).startswith("Kafka has the number of another spool")


def librdkafka_clients() -> int:
    """Each has one thread of this name in the process."""
    names = [Path(f"/proc/self/task/{thread}/comm") for thread in os.listdir("/proc/self/task")]
    return sum(name.exists() and name.read_text().startswith("rdk:main") for name in names)


def test_no_client_stays_of_producers_that_were_fenced_in_the_middle_of_transactions(
    drain: Drain,
    kafka: KafkaCluster,
    new_topic: Callable[..., str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A twin that fights for days would fill a Pi."""
    monkeypatch.setattr(transactions, "_FENCED_DELAY", 0.2)
    monkeypatch.setattr(transactions, "_CALM", 0.0)
    topics = [new_topic(partitions=3) for _ in range(3)]
    body, written = os.urandom(900), count()
    machine = drain.cluster.transactions

    def under_load(condition: Callable[[], bool], what: str) -> None:
        def goes_on() -> bool:
            if len(drain.in_flight) + sum(map(len, drain.waiting.values())) < 3000:
                for topic in topics:
                    drain.write(topic, [b"%d " % next(written) + body for _ in range(500)])
            drain.retry()
            return condition()

        drain.until(goes_on, 60, what)

    under_load(lambda: machine.committed_count >= 2, "transactions commit")
    before = librdkafka_clients()
    for _ in range(8):
        failed, committed = machine.failed_count, machine.committed_count
        rival = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name})
        rival.init_transactions(30)
        del rival
        under_load(lambda failed=failed: machine.failed_count > failed, "it is fenced")
        under_load(lambda committed=committed: machine.committed_count > committed + 1, "they commit again")

    def none_stays() -> bool:
        drain.turn()
        return librdkafka_clients() <= before

    wait_until(none_stays, 20, lambda: f"{before} clients are left, {librdkafka_clients()} are")


def test_a_deleted_group_is_said_and_loses_nothing(
    kafka: KafkaCluster,
    new_topic: Callable[..., str],
    tmp_path: Path,
    name: str,
    said: list[tuple[Event, dict[str, object]]],
) -> None:
    topic = new_topic(partitions=1)
    with Drain(kafka.bootstrap, tmp_path, name) as drain:
        drain.write(topic, payloads(topic, 100))
        drain.until(lambda: drain.is_done, 30, "all is delivered")
        drain.write(topic, payloads(topic, 100, 100))
        drain.until(lambda: drain.is_on_disk, 10, "all are on disk")
    kafka.admin.delete_consumer_groups([name])[name].result(timeout=15.0)
    with Drain(kafka.bootstrap, tmp_path, name) as drain:
        drain.until(lambda: drain.is_done and drain.cluster.transactions.verdict, 30, "all is delivered")
    assert [event for event, _ in said if event is Event.KAFKA_NUMBER_UNEXPECTED]
    copies = Counter(values(kafka, topic, 200))
    assert set(copies) == set(payloads(topic, 200))
    assert {copies[each] for each in payloads(topic, 100)} == {1}, "the disk knew that Kafka had these"
    assert max(copies.values()) <= 2


def test_a_swapped_spool_is_said_and_the_first_ones_number_is_kept(
    kafka: KafkaCluster, new_topic: Callable[..., str], tmp_path: Path, name: str
) -> None:
    topic = new_topic(partitions=1)
    verdicts = []
    for spool in ("first", "second", "first", "second"):
        with Drain(kafka.bootstrap, tmp_path / spool, name) as drain:
            drain.write(topic, payloads(spool, 50, 50 * len(verdicts)))
            drain.until(lambda: drain.is_done and drain.cluster.transactions.verdict, 30, "all is delivered")
            verdicts.append(drain.cluster.transactions.verdict)
    assert verdicts == [
        IntentVerdict.NOT_COMMITTED,
        IntentVerdict.OTHER,
        IntentVerdict.COMMITTED,
        IntentVerdict.COMMITTED,
    ]
    assert len(values(kafka, topic, 200)) == 200


def test_a_spool_from_a_backup_is_said_and_what_came_since_is_not_lost(
    kafka: KafkaCluster, new_topic: Callable[..., str], tmp_path: Path, name: str
) -> None:
    topic, spool = new_topic(partitions=1), tmp_path / "spool"
    with Drain(kafka.bootstrap, spool, name) as drain:
        drain.write(topic, payloads(topic, 50))
        drain.until(lambda: drain.is_done, 30, "all is delivered")
        drain.write(topic, payloads(topic, 50, 50))
        drain.until(lambda: drain.is_on_disk, 10, "all are on disk")
    shutil.copytree(spool, tmp_path / "backup")
    with Drain(kafka.bootstrap, spool, name) as drain:
        drain.until(lambda: drain.is_done and drain.cluster.transactions.verdict, 30, "all is delivered")
        drain.write(topic, payloads(topic, 50, 100))
        drain.until(lambda: drain.is_done, 30, "all is delivered")
    with Drain(kafka.bootstrap, tmp_path / "backup", name) as drain:
        drain.write(topic, payloads(topic, 50, 150))
        drain.until(lambda: drain.is_done and drain.cluster.transactions.verdict, 30, "all is delivered")
        assert drain.cluster.transactions.verdict is IntentVerdict.AHEAD
    assert set(values(kafka, topic, 200)) == set(payloads(topic, 200))


def test_the_number_is_in_the_metadata_of_one_offset(
    drain: Drain, kafka: KafkaCluster, new_topic: Callable[..., str], name: str
) -> None:
    topic = new_topic(partitions=3)
    drain.write(topic, payloads(topic, 10))
    drain.until(lambda: drain.is_done, 30, "all is delivered")
    asked = ConsumerGroupTopicPartitions(name)

    def offsets() -> Any:
        return kafka.admin.list_consumer_group_offsets([asked])[name].result(timeout=15.0).topic_partitions

    # The markers of a commit follow its answer.
    (offset,) = wait_until(offsets, 30.0, "the offset is committed")
    assert (offset.topic, offset.partition) == (topic, 0)
    assert offset.offset == drain.cluster.transactions.memory.number


def test_a_transaction_that_another_client_left_open_holds_up_nothing(
    kafka: KafkaCluster, new_topic: Callable[..., str], tmp_path: Path, name: str
) -> None:
    """As after kill -9: its records are never seen, and the next start ends it."""
    topic = new_topic(partitions=1)
    killed = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name})
    killed.init_transactions(30)
    killed.begin_transaction()
    killed.produce(topic, b"of the killed bridge")
    killed.flush(10)
    with Drain(kafka.bootstrap, tmp_path, name) as drain:
        drain.write(topic, payloads(topic, 10))
        drain.until(lambda: drain.is_done, 30, "all is delivered")
    assert values(kafka, topic, 10) == payloads(topic, 10)


def test_a_topic_that_may_not_be_written_is_named_and_holds_up_no_other_one(
    alone: KafkaCluster, as_user: dict[str, Any], tmp_path: Path, name: str
) -> None:
    """librdkafka purges the whole transaction, and only its log names the topic."""
    good, forbidden = f"{name}.good", f"{name}.forbidden"
    for topic in (good, forbidden):
        alone.create_topic(topic, 1)
        allow(alone, topic, AclOperation.DESCRIBE)
    for operation in (AclOperation.WRITE, AclOperation.READ):
        allow(alone, good, operation)
    allow(alone, name, AclOperation.READ, ResourceType.GROUP)
    for operation in (AclOperation.WRITE, AclOperation.DESCRIBE):
        allow(alone, name, operation, ResourceType.TRANSACTIONAL_ID)
    with Drain(as_user, tmp_path / "spool", name) as drain:
        drain.write(forbidden, payloads(forbidden, 10))
        drain.write(good, payloads(good, 10))
        drain.until(
            lambda: len(drain.delivered) == 10 and drain.failures, 60, "the other topic's are delivered"
        )
        assert {failure.message.plan.kafka_topic for failure in drain.failures} == {forbidden}
        assert {failure.hold for failure in drain.failures} == {Hold.FORBIDDEN}
        for operation in (AclOperation.WRITE, AclOperation.READ):
            allow(alone, forbidden, operation)

        def is_done() -> bool:
            drain.retry()
            return drain.is_done

        drain.until(is_done, 60, "all is delivered")
    assert values(alone, good, 10) == payloads(good, 10)
    assert values(alone, forbidden, 10) == payloads(forbidden, 10)


def test_a_missing_right_on_the_group_is_named_and_nothing_is_produced(
    alone: KafkaCluster,
    as_user: dict[str, Any],
    tmp_path: Path,
    name: str,
    said: list[tuple[Event, dict[str, object]]],
) -> None:
    alone.create_topic(name, 1)
    for operation in (AclOperation.DESCRIBE, AclOperation.WRITE, AclOperation.READ):
        allow(alone, name, operation)
    allow(alone, name, AclOperation.WRITE, ResourceType.TRANSACTIONAL_ID)
    with Drain(as_user, tmp_path / "spool", name) as drain:
        drain.write(name, payloads(name, 10))
        drain.until(lambda: said, 60, "it is said")
        assert f"--operation Read --group {name}" in str(said[0][1]["way_out"])
        assert not drain.delivered
        grant(alone, str(said[0][1]["way_out"]))
        drain.until(lambda: drain.is_done, 60, "all is delivered")
    assert values(alone, name, 10) == payloads(name, 10)
