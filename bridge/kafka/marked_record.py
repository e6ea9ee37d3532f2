"""Waits for one record with a known mark in a Kafka topic. It joins no consumer group and commits nothing."""

import time
from collections.abc import Callable
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from bridge.errors import BridgeError
from bridge.kafka import library_log
from bridge.kafka.error_verdicts import plain
from bridge.kafka.topic_lookup import admin_options
from bridge.settings import KafkaSettings

_TIMEOUT = 5.0  # seconds for one answer
_POLL = 0.2


def why_unreadable(topic: str, error: KafkaError) -> str:
    """A sentence with the way out. Pure."""
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return (
            f"the Kafka topic {topic} does not exist (create it first; otherwise the message would wait on"
            " the bridge's disk)"
        )
    return (
        f"{topic} can't be read: {plain(error.str())} (let the bridge's Kafka user read this topic:"
        " --send looks for its message there)"
    )


class MarkedRecord:
    """A consumer at the present end of all partitions of a topic. A context manager.

    Raises BridgeError where the topic can't be read.
    """

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._topic = topic
        self._consumer = Consumer(
            admin_options(settings)
            | {
                "group.id": "mqtt-kafka-bridge-check",  # librdkafka wants one; assign() does not join it
                "enable.auto.commit": False,
                "error_cb": lambda _error: None,
                "logger": library_log.silent("check"),
            }
        )

    def __enter__(self) -> Self:
        try:
            found = self._consumer.list_topics(self._topic, timeout=_TIMEOUT).topics[self._topic]
            error = found.error
            self._consumer.assign([self._end(number) for number in found.partitions])
        except KafkaException as failure:
            error = failure.args[0]
        if error is not None:
            self._consumer.close()
            raise BridgeError(why_unreadable(self._topic, error))
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def _end(self, partition: int) -> TopicPartition:
        _, end = self._consumer.get_watermark_offsets(
            TopicPartition(self._topic, partition), timeout=_TIMEOUT
        )
        return TopicPartition(self._topic, partition, end)

    def wait(self, mark: bytes, seconds: float) -> str | None:
        """Return the record's place, for people; None: no record with the mark came in time."""
        return self._wait(lambda value: mark in value, time.monotonic() + seconds)

    def _wait(self, is_it: Callable[[bytes], bool], until: float) -> str | None:
        while time.monotonic() < until:
            record = self._consumer.poll(_POLL)
            if record is None or record.error():
                continue
            value = record.value()
            if isinstance(value, bytes) and is_it(value):
                return f"{record.topic()}, partition {record.partition()}, offset {record.offset()}"
        return None
