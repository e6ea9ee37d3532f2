"""One PUBLISH on its way from MQTT to Kafka.

mqtt/packet_codec.py builds a message once, and all rooms work on this one object. At 100,000 messages a
second, building a second object for each message would cost the bridge more than anything else.
"""

from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Any, NamedTuple, final

NO_TIMESTAMP = -1  # what Kafka stores as "none"
DUP, RETAIN = 0x08, 0x01  # bits of a PUBLISH's fixed header (MQTT 3.1.1, 3.3.1)


class State(IntEnum):
    """The state of a message between EMQ and Kafka. The value only increases, with one exception.

    The ledger sets an ACKED message back to SETTLED when its acknowledgement must be sent again.
    """

    PENDING = 0  # neither Kafka nor the disk holds the message: it must not be acknowledged
    SETTLED = 1  # Kafka or this machine's disk holds the message: it may be acknowledged
    ACKED = 2  # the kernel has taken its PUBACK or PUBREC, or a part of it


@dataclass(slots=True, frozen=True)
class Properties:
    """The MQTT 5 properties of a PUBLISH (MQTT 5, 3.3.2.3). Absent ones are None or empty."""

    payload_format: int | None = None
    message_expiry: int | None = None  # seconds
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_ids: tuple[int, ...] = ()
    user: tuple[tuple[str, str], ...] = ()  # in the order of arrival; a name may occur repeatedly


# Bytes. The ledger replaces a larger payload of a settled message by its digest. So if the payload must still
# be produced, it must be marked as PayloadInUse.
DIGEST_OVER = 1024


class Digest(bytes):
    """The digest of a payload that is no longer needed, except to be compared."""


class PayloadInUse(bytes):
    """A payload that must still be produced, although its message is acknowledged: no digest replaces it."""


def digest(payload: bytes) -> Digest:
    return Digest(blake2b(payload, digest_size=32).digest())


class Fingerprint(bytes):
    """All that the bridge knows, after a restart, of the topic and the payload of an earlier message."""


def fingerprint(message: "Message") -> Fingerprint:
    """Of a message whose payload is whole. A topic has no NUL, so the two parts can't be shifted."""
    return Fingerprint(blake2b(b"\0".join((message.topic, message.payload)), digest_size=16).digest())


class Message:
    """One PUBLISH from EMQ, and its state in the bridge.

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
    state: int  # State, as a plain number, because it is compared several times for each message
    epoch: int  # the connection on which the message is acknowledged; 0: none
    # The following attributes are set only if the message is processed further.
    plan: Any  # routing.Plan
    sequence: int  # arrival number, over all connections
    timestamp: int  # time of receipt, ms since 1970; -1: the clock was wrong
    producer: Any  # the first kafka.producer.Producer that got the message; None: none yet

    @classmethod
    def of(
        cls, topic: bytes, flags: int, packet_id: int, properties: Properties | None, payload: bytes
    ) -> "Message":
        """Make a message in the state PENDING.

        The class has no __init__, because calling __init__ for each message took a tenth of the bridge's own
        time. To save the call of `of` too, mqtt/packet_codec.py contains copies of these lines, and makes the
        messages from EMQ with them.
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
        """Take the delivery report: None, or a confluent_kafka.KafkaError. Kafka's client calls this.

        The message is its own callback, because making a callback for each message would cost 0.3 µs of the
        4 µs or so that a message takes.
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

    def __repr__(self) -> str:  # without the payload, which may be secret, and megabytes long
        state = State(self.state).name
        return f"<Message {self.topic!r} qos={self.qos} id={self.packet_id} epoch={self.epoch} {state}>"


@final
class Release:
    """A PUBREL: the broker no longer needs a QoS 2 identifier."""

    __slots__ = ("known", "packet_id")

    known: bool  # the identifier was taken; the ledger sets this

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id


Packet = Message | Release  # these bypass paho


class OpenIdentifier(NamedTuple):
    """A settled QoS 2 message whose PUBREL has not arrived: the parts with which a copy is compared."""

    packet_id: int
    topic: bytes
    digest: bytes  # of the payload: BLAKE2b, 32 bytes
