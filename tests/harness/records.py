"""Reads all records that a Kafka topic holds now."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tests.harness.conditions import wait_until

Headers = tuple[tuple[str, bytes], ...]


class Record(NamedTuple):
    key: bytes | None
    value: bytes  # empty for a tombstone
    headers: Headers
    timestamp: int | None  # ms since 1970; None: the record has none
    is_tombstone: bool = False  # the value is Kafka's null

    def header(self, name: str) -> bytes | None:
        """The first header of this name."""
        return next((value for each, value in self.headers if each == name), None)


def records(
    bootstrap: str, topic: str, deadline: float = 15.0, login: Mapping[str, str] | None = None
) -> list[Record]:
    """All committed records up to the current end, in order of partition and offset.

    `login` are librdkafka's settings for a listener with TLS or with users.
    A message that was acknowledged to the broker before the call must be among them, without any waiting.
    """
    options: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "group.id": "records",  # the library demands one; nothing is committed
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 50,
        "enable.partition.eof": True,
        "log_level": 0,
        **(login or {}),
    }
    consumer = Consumer(options)
    try:
        found: list[Record] = []
        for number in sorted(consumer.list_topics(topic, timeout=deadline).topics[topic].partitions):
            partition = TopicPartition(topic, number)
            start, end = watermarks(consumer, partition, deadline)
            consumer.assign([TopicPartition(topic, number, start)])
            wait_until(
                _reading(consumer, found, end, start), deadline, f"{topic}/{number} is read up to {end}"
            )
        return found
    finally:
        consumer.close()


def assert_once_and_in_order(bootstrap: str, topic: str, values: Sequence[bytes]) -> None:
    """Check that a read_committed reader finds these values in the topic, each once, in this order."""
    wait_until(lambda: len(records(bootstrap, topic)) >= len(values), 60.0, f"the reader has all of {topic}")
    found = [record.value for record in records(bootstrap, topic)]
    assert not set(values) - set(found), f"{topic}: lost"
    assert len(found) == len(set(found)), f"{topic}: doubled"
    assert found == list(values), f"{topic}: in another order"


def watermarks(consumer: Consumer, partition: TopicPartition, deadline: float) -> tuple[int, int]:
    """The first and the next offset of a partition. Raises NotInTime.

    After an outage the partition's leader moves. Until the client knows the new leader, Kafka refuses to
    answer.
    """

    def ask() -> tuple[int, int] | None:
        try:
            return consumer.get_watermark_offsets(partition, timeout=deadline)
        except KafkaException:
            return None

    found = wait_until(ask, deadline, f"the offsets of {partition.topic}/{partition.partition} are known")
    assert found is not None
    return found


def _reading(consumer: Consumer, into: list[Record], end: int, start: int) -> Callable[[], bool]:
    """A function that reads more at each call; true when the partition is read up to `end`."""
    at = start

    def step() -> bool:
        nonlocal at
        if at >= end:
            return True
        for message in consumer.consume(min(1000, end - at), timeout=0.5):  # waits for the whole batch
            error = message.error()
            if error is None:
                into.append(_record(message))
                at = (message.offset() or 0) + 1
            elif (
                error.code() == KafkaError._PARTITION_EOF
            ):  # the last ones may be Kafka's own, of a transaction
                at = max(at, message.offset() or 0)
        return at >= end

    return step


def _record(message: Message) -> Record:
    kind, stamp = message.timestamp()
    headers: Any = message.headers() or ()
    return Record(
        message.key(),
        message.value() or b"",
        tuple(headers),
        stamp if kind and stamp >= 0 else None,
        message.value() is None,
    )
