"""One PUBLISH on its way from MQTT to Kafka.

A message is built once by the wire, and every room it goes through works on that one object: at
100,000 messages a second a second object for the same thing is what the bridge would spend most on.
"""

from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Any, NamedTuple, final

NO_TIMESTAMP = -1  # what Kafka stores as "none"
DUP, RETAIN = 0x08, 0x01  # bits of a PUBLISH's fixed header (MQTT 3.1.1, 3.3.1)


class State(IntEnum):
    """Where a message stands between EMQ and Kafka. It only ever moves downwards."""

    PENDING = 0  # neither Kafka nor the disk holds it: it must not be acknowledged
    SETTLED = 1  # Kafka holds it, or this machine's disk does: it may be acknowledged
    ACKED = 2  # the kernel took the last byte of its PUBACK or PUBREC


@dataclass(slots=True, frozen=True)
class Properties:
    """The MQTT 5 properties of a PUBLISH (MQTT 5, 3.3.2.3). Absent ones are None or empty."""

    payload_format: int | None = None
    message_expiry: int | None = None  # seconds
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_ids: tuple[int, ...] = ()
    user: tuple[tuple[str, str], ...] = ()  # in the order they came, repeats kept


# Bytes. The ledger replaces a settled payload that is larger by its digest, so one that is still to be
# produced must be marked as PayloadInUse.
DIGEST_OVER = 1024


class Digest(bytes):
    """Stands for a payload that is no longer needed itself, only compared."""


class PayloadInUse(bytes):
    """A payload that is still to be produced though its message is acknowledged: no digest replaces it."""


def digest(payload: bytes) -> Digest:
    return Digest(blake2b(payload, digest_size=32).digest())


class Message:
    """What EMQ sent, and where it stands.

    `topic` is the raw UTF-8 of the topic name, `flags` the low nibble of the fixed header, `packet_id`
    the Packet Identifier (0 at QoS 0). `epoch` and `state` belong to the ledger, `plan`, `sequence`
    and `timestamp` to the pipeline.
    """

    __slots__ = (
        "epoch",
        "flags",
        "packet_id",
        "payload",
        "plan",
        "producer",
        "properties",
        "sequence",
        "state",
        "timestamp",
        "topic",
    )

    topic: bytes
    flags: int
    packet_id: int
    properties: Properties | None
    payload: bytes
    state: int  # State, as a plain number: it is asked several times for each message
    epoch: int  # the connection it is to be acknowledged on; 0: none
    # What follows is set once it is known that the message goes on.
    plan: Any  # routing.Plan
    sequence: int  # arrival number, over all connections
    timestamp: int  # time of receipt, ms since 1970; -1: the clock is not to be believed
    producer: Any  # kafka.producer.Producer, the first that it was handed to; None: it was not yet

    @classmethod
    def of(
        cls, topic: bytes, flags: int, packet_id: int, properties: Properties | None, payload: bytes
    ) -> "Message":
        """A message that is PENDING. No __init__: for what comes from EMQ its call alone was a tenth of the
        bridge's own time, so the wire writes these lines out.
        """
        message = cls()
        message.topic = topic
        message.flags = flags
        message.packet_id = packet_id
        message.properties = properties
        message.payload = payload
        message.state = message.epoch = message.timestamp = 0
        message.producer = None
        return message

    def __call__(self, error: Any, _record: object) -> None:
        """Kafka's client calls it with the delivery report: no error, or a confluent_kafka.KafkaError.

        The message is its own callback, since one made for each message would cost 0.3 µs of some four.
        """
        if error is None:
            self.producer.delivered.append(self)
        else:
            self.producer.failed.append((self, error.code(), error.str()))

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def dup(self) -> bool:
        return self.flags & DUP != 0

    @property
    def retain(self) -> bool:
        return self.flags & RETAIN != 0

    def __repr__(self) -> str:  # never the payload: it may be secret, and megabytes long
        state = State(self.state).name
        return f"<Message {self.topic!r} qos={self.qos} id={self.packet_id} epoch={self.epoch} {state}>"


@final
class Release:
    """PUBREL: the broker is done with a QoS 2 identifier."""

    __slots__ = ("known", "packet_id")

    known: bool  # the identifier was taken; the ledger's to say

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id


Packet = Message | Release  # what goes round paho


class OpenIdentifier(NamedTuple):
    """A QoS 2 message that is settled and whose PUBREL has not come: all that a copy is compared with."""

    packet_id: int
    topic: bytes
    digest: bytes  # of the payload: BLAKE2b, 32 bytes
