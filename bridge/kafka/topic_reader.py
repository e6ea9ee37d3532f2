"""Reads the records of Kafka topics, for people who look at them. It joins no consumer group."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from bridge.errors import BridgeError
from bridge.kafka import library_log, tls
from bridge.kafka.client_errors import ClientErrors
from bridge.kafka.error_verdicts import ALL_BROKERS_DOWN, DENIED, NO_TOPIC
from bridge.kafka.options import not_built
from bridge.kafka.topic_admin import denied
from bridge.kafka.topic_lookup import admin_options
from bridge.settings import KafkaSettings

_TIMEOUT = 10.0  # seconds
_GONE = (*NO_TOPIC, KafkaError._UNKNOWN_PARTITION)


@dataclass(frozen=True, slots=True)
class Record:
    """A record as Kafka has it. `timestamp`: ms since 1970; None: it has none."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None


class TopicReader:
    """A consumer that first tells which topics there are, and then reads some of them.

    Raises BridgeError when librdkafka refuses the options, or a file can't be read.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._errors = ClientErrors(settings)
        self._leaders: dict[str, dict[int, int]] = {}  # by topic and partition
        self._down: KafkaError | None = None  # no broker has a connection
        tls.require_usable(settings)
        options = admin_options(settings) | {
            "group.id": "mqtt-kafka-bridge-consume",  # librdkafka wants one; assign() does not join it
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # where Kafka deletes what was to be read next
            "error_cb": self._note,
            "logger": library_log.silent("consume"),
        }
        try:
            self._consumer = Consumer(options)
        except KafkaException as error:
            raise not_built(error) from None

    def close(self) -> None:
        self._consumer.close()

    def topics(self, seconds: float = _TIMEOUT) -> Collection[str]:
        """Return the topics that Kafka shows to the bridge's user. Raises BridgeError: no answer."""
        try:
            found = self._errors.metadata(self._consumer, self._consumer.poll, seconds).topics
        except KafkaException as error:
            self._consumer.poll(0)  # calls error_cb
            raise BridgeError(self._errors.why(error.args[0])) from None
        self._leaders = {
            name: {number: each.leader for number, each in topic.partitions.items()}
            for name, topic in found.items()
        }
        return self._leaders.keys()

    def begin(self, topics: Sequence[str], *, from_beginning: bool) -> list[str]:
        """Read these of the `topics()`, from now on or from their beginning.

        Returns the partitions, as topic/number, that can't be read now, because no broker leads them. Once
        one does they are read; unless `from_beginning`, without what was produced until then.
        """
        until = time.monotonic() + _TIMEOUT
        waiting: list[str] = []
        wanted: list[TopicPartition] = []
        for topic in topics:
            for number, leader in self._leaders[topic].items():
                offset = OFFSET_BEGINNING if from_beginning else self._end(topic, number, leader, until)
                if leader < 0 or offset == OFFSET_END:
                    waiting.append(f"{topic}/{number}")
                wanted.append(TopicPartition(topic, number, offset))
        self._consumer.assign(wanted)
        return waiting

    def next(self, seconds: float) -> Record | None:
        """Return the next record; None: none came within `seconds`. Raises BridgeError: none can come."""
        message = self._consumer.poll(seconds)
        if message is None:
            return None
        if (error := message.error()) is None:
            return _record(message)
        topic = message.topic()
        if topic and error.code() in DENIED:
            raise BridgeError(denied(self._settings, "read the topic", "Read", topic))
        if topic and error.code() in _GONE:
            raise BridgeError(f"Kafka no longer has the topic {topic}")
        return None  # librdkafka tries again; its user needs no right on the group, for it joins none

    def trouble(self) -> str:
        """Why no broker has a connection, if that was noticed since the last call; otherwise nothing."""
        error, self._down = self._down, None
        return self._errors.why(error) if error else ""

    def _note(self, error: KafkaError) -> None:
        self._errors.note(error)
        if error.code() == ALL_BROKERS_DOWN:
            self._down = error

    def _end(self, topic: str, partition: int, leader: int, until: float) -> int:
        """The offset that the next record will have; OFFSET_END: not known, librdkafka finds it later."""
        left = until - time.monotonic()
        if leader < 0 or left <= 0:
            return OFFSET_END
        try:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=left)
        except KafkaException:
            return OFFSET_END
        return int(end)


def _record(message: Message) -> Record:
    kind, stamp = message.timestamp()
    headers: Any = message.headers() or ()
    return Record(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp=stamp if kind and stamp >= 0 else None,
        key=_bytes(message.key()),
        headers=tuple(headers),
        value=_bytes(message.value()),
    )


def _bytes(data: Any) -> bytes | None:
    return None if data is None else bytes(data)
