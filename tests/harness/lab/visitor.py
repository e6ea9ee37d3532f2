"""Publishes a message like a device and reads Kafka, through the chain's ports alone."""

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Self

from bridge.commands.consume import line
from bridge.errors import BridgeError
from bridge.kafka.topic_reader import TopicReader
from bridge.settings import KafkaSettings
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES
from tests.harness.host import LAB, Network
from tests.harness.kafka import CLIENTS
from tests.harness.lab import door
from tests.harness.lab.verbs import LabError
from tests.harness.lab.words import TOPICS
from tests.harness.packets import Ack, Connack, Connect, Disconnect, Frames, Kind, Publish

_NETWORK = Network(LAB)
_KAFKA = KafkaSettings(bootstrap_servers=",".join(f"{host.address}:{CLIENTS}" for host in _NETWORK.kafka))
_PUBACK = 10.0  # s
_ANSWER = 5.0  # s, within which Kafka tells its topics


def publish(topic: str, text: str) -> str:
    """Publish at QoS 1 through HAProxy, and return how long EMQ took to acknowledge. Raises LabError."""
    address = _NETWORK.haproxy.address, DEVICES
    began = time.monotonic()
    connack = None
    # Two visitors at the same time must not have one client id: the broker would disconnect the first.
    client_id = f"visitor-{secrets.token_hex(4)}"
    try:
        with socket.create_connection(address, timeout=_PUBACK) as client:
            client.sendall(Connect(client_id, version=4).encode())
            client.sendall(Publish(topic.encode(), text.encode(), qos=1, identifier=1).encode(version=4))
            frames = Frames()
            while data := client.recv(4096):
                for packet in frames.feed(data):
                    if isinstance(packet, Connack):
                        connack = packet
                    elif packet == Ack(Kind.PUBACK, 1):
                        took = f"EMQ had it after {1000 * (time.monotonic() - began):.0f} ms"
                        with contextlib.suppress(OSError):  # EMQ has the message, whatever follows
                            client.sendall(Disconnect().encode(version=4))
                        return took
    except TimeoutError as error:
        who = "an EMQ node" if connack else "HAProxy or an EMQ node"
        raise LabError(
            f"{text}: no PUBACK within {_PUBACK:.0f} s; {who} hangs (deploy/lab status)"
        ) from error
    except (ConnectionResetError, BrokenPipeError):
        pass  # closed, as below: HAProxy or the broker had not read everything
    except OSError as error:
        reason = error.strerror or error
        raise LabError(f"{text} was not sent: {address[0]}:{address[1]}: {reason}") from error
    raise LabError(f"{text} was not sent: {_why_closed(connack)}")


def _why_closed(connack: Connack | None) -> str:
    """Why the connection ended before the PUBACK."""
    if connack is None:
        return "HAProxy closed the connection before CONNACK, as it does while no EMQ node is up"
    if connack.reason:
        return f"the broker refused the client: CONNACK with return code {connack.reason}"
    return "the connection ended before PUBACK: the EMQ node died, or the broker refused the message"


class KafkaSilent(Exception):
    """Kafka does not answer. The text is librdkafka's reason."""


class Reader:
    """Reads records that Kafka stores from now on. Raises KafkaSilent."""

    def __init__(self) -> None:
        self._reader = TopicReader(_KAFKA)
        try:
            self._reader.topics(_ANSWER)
            waiting = self._reader.begin(TOPICS, from_beginning=False)
        except BridgeError as error:
            waiting = [str(error)]
        if waiting:
            self._reader.close()
            raise KafkaSilent(", ".join(waiting))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def find(self, topic: str, text: str, patience: float = 30.0) -> str:
        """Wait for a message of this MQTT topic, and return its record as a line. Raises NotInTime."""

        def found() -> str:
            while (record := self._reader.next(0.1)) is not None:
                if record.value == text.encode() and ("mqtt.topic", topic.encode()) in record.headers:
                    return line(record)
            return ""

        return wait_until(found, patience, "it came out of Kafka")


def consume(topics: Sequence[str] = TOPICS, *, from_beginning: bool = False) -> Iterator[str]:
    """Yield a line for each record that Kafka stores in these topics from now on, or that it has already if
    `from_beginning`. Raises LabError: no lab, no such topic, or Kafka does not answer.
    """
    door.require_open()
    with contextlib.closing(TopicReader(_KAFKA)) as reader:
        try:
            known = reader.topics(_ANSWER)
        except BridgeError as error:
            raise LabError(_why_silent()) from error
        if unknown := [topic for topic in topics if topic not in known]:
            there_are = ", ".join(sorted(name for name in known if not name.startswith(("__", "harness."))))
            raise LabError(f"Kafka has no topic {', '.join(unknown)}; it has {there_are}")
        if waiting := reader.begin(topics, from_beginning=from_beginning):
            raise LabError(
                f"{', '.join(waiting)} cannot be read: no leader. The Kafka broker that was in sync last is "
                "not up (deploy/lab status; deploy/lab start kafka)"
            )
        while True:
            record = reader.next(0.5)
            if record is None:
                door.require_open()  # a lab that has ended would be silent for ever
            else:
                yield line(record)


def _why_silent() -> str:
    """Why no Kafka broker answers: none of the lab's ports accepts a connection, or their programs hang."""
    closed = [host.name for host in _NETWORK.kafka if not host.listens(CLIENTS)]
    if closed:
        return f"Kafka does not answer: {', '.join(closed)} accept no connection (deploy/lab start kafka)"
    return (
        "Kafka does not answer: its brokers accept connections, but answer nothing within 5 s. They start, "
        "or they hang (deploy/lab status; deploy/lab resume kafka)"
    )
