"""Publishes a message like a device and reads Kafka, through the chain's ports alone."""

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, Message, TopicPartition

from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES
from tests.harness.host import LAB, Network
from tests.harness.kafka import CLIENTS
from tests.harness.lab import door
from tests.harness.lab.verbs import LabError
from tests.harness.lab.words import TOPICS
from tests.harness.packets import Ack, Connect, Disconnect, Frames, Kind, Publish

_NETWORK = Network(LAB)


def publish(topic: str, text: str) -> str:
    """Publish at QoS 1 through HAProxy, and return how long EMQ took to acknowledge. Raises LabError."""
    address = _NETWORK.haproxy.address, DEVICES
    began = time.monotonic()
    try:
        with socket.create_connection(address, timeout=10.0) as client:
            client.sendall(Connect("visitor", version=4).encode())
            client.sendall(Publish(topic.encode(), text.encode(), qos=1, identifier=1).encode(version=4))
            frames = Frames()
            while data := client.recv(4096):
                if Ack(Kind.PUBACK, 1) in frames.feed(data):
                    client.sendall(Disconnect().encode(version=4))
                    return f"EMQ had it after {1000 * (time.monotonic() - began):.0f} ms"
    except OSError as error:
        reason = error.strerror or error
        raise LabError(f"{text} was not sent: {address[0]}:{address[1]}: {reason}") from error
    raise LabError(f"{text} was not sent: HAProxy closed the connection, since no EMQ node is up")


class KafkaSilent(Exception):
    """Kafka does not answer. The text is librdkafka's reason."""


class Reader:
    """Reads records that Kafka stores from now on. Raises KafkaSilent."""

    def __init__(self) -> None:
        self._consumer = _consumer()
        try:
            self._consumer.assign(self._ends())
        except KafkaException as error:
            self._consumer.close()
            raise KafkaSilent(error.args[0].str()) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def find(self, topic: str, text: str, patience: float = 30.0) -> str:
        """Wait for a message of this MQTT topic, and return its record as a line. Raises NotInTime."""

        def found() -> str:
            while (record := self._consumer.poll(0.1)) is not None:
                headers: Any = record.headers() or []
                if record.value() == text.encode() and ("mqtt.topic", topic.encode()) in headers:
                    return _line(record)
            return ""

        return wait_until(found, patience, "it came out of Kafka")

    def _ends(self) -> list[TopicPartition]:
        partitions = [
            TopicPartition(topic, number)
            for topic in TOPICS
            for number in self._consumer.list_topics(topic, timeout=5.0).topics[topic].partitions
        ]
        for partition in partitions:
            _, partition.offset = self._consumer.get_watermark_offsets(partition, timeout=5.0)
        return partitions


def consume(topics: Sequence[str] = TOPICS, *, from_beginning: bool = False) -> Iterator[str]:
    """Yield a line for each record that Kafka stores in these topics from now on, or that it has already if
    `from_beginning`. Raises LabError: no lab, no such topic, or Kafka does not answer.
    """
    door.require_open()
    with contextlib.closing(_consumer()) as consumer:
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        try:
            known = consumer.list_topics(timeout=5.0).topics
        except KafkaException as error:
            raise LabError(f"Kafka does not answer ({error.args[0].str()}); see deploy/lab status") from error
        if unknown := [topic for topic in topics if topic not in known]:
            there_are = ", ".join(sorted(name for name in known if not name.startswith(("__", "harness."))))
            raise LabError(f"Kafka has no topic {', '.join(unknown)}; it has {there_are}")
        consumer.assign(
            [
                TopicPartition(topic, partition, start)
                for topic in topics
                for partition in known[topic].partitions
            ]
        )
        while True:
            record = consumer.poll(0.5)
            if record is None:
                door.require_open()  # a lab that has ended would be silent for ever
            elif record.error() is None:
                yield _line(record)


def _consumer() -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": ",".join(f"{host.address}:{CLIENTS}" for host in _NETWORK.kafka),
            "group.id": "visitor",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )


def _line(record: Message) -> str:
    pairs: Any = record.headers() or []
    headers = " ".join(f"{name}={_text(value)}" for name, value in pairs)
    place = f"{record.topic()}/{record.partition()}@{record.offset()}"
    return f"{place} | {_text(record.key())} | {headers} | {_text(record.value())}"


def _text(data: Any) -> str:
    return (data or b"").decode(errors="replace")
