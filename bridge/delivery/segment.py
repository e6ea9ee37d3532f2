"""Messages of one lane that stand on disk together, and the bytes they make there. Pure.

One row of the spool holds one segment: a commit writes what has come since the last one, and a row a
message would cost five times as much. The body is

    CRC-32 of the rest                                                        4 bytes
    for each message: sequence 8, timestamp 8, flags 1, and the lengths       27 bytes
        of topic 2, properties 4 and payload 4; then these three

little-endian. Properties are JSON, and empty for a message that has none.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

from bridge.errors import CorruptSegment
from bridge.message import Message, Properties

MOST_MESSAGES = 500  # in one segment
MOST_BYTES = 256 * 1024  # of payload, unless one message alone has more
MOST_AT_ONCE = (
    4_000_000  # bytes of payload in one commit; its bodies are copies, and in memory until it is done
)

_CHECK = Struct("<I")
_HEAD = Struct("<QqBHII")

BEGINNING = _CHECK.size + _HEAD.size  # bytes of a body, for `received_first`


class Segment:
    """`first` and `last` are sequence numbers, `left` how many of its messages Kafka does not hold yet.

    `messages` is emptied once they are on disk: who needs them holds them.
    """

    __slots__ = ("count", "first", "last", "left", "messages", "stored")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.first = messages[0].sequence
        self.last = messages[-1].sequence
        self.count = self.left = len(messages)
        self.stored = False  # it was committed, and synced


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read: segments whose first message is after `after`, and `last` at most, in order.

    As many as `messages` and `size` bytes allow, but one at least.
    """

    after: int
    last: int
    messages: int
    size: int


def cut(messages: Sequence[Message]) -> Iterator[Segment]:
    """The messages, which are in order of arrival, as segments of a bearable size."""
    begin = size = 0
    for position, message in enumerate(messages):
        if position > begin and (
            position - begin == MOST_MESSAGES or size + len(message.payload) > MOST_BYTES
        ):
            yield Segment(messages[begin:position])
            begin, size = position, 0
        size += len(message.payload)
    if begin < len(messages):
        yield Segment(messages[begin:])


def at_once(messages: Sequence[Message]) -> int:
    """How many of the first messages may be written in one commit: one at least."""
    size = 0
    for count, message in enumerate(messages):
        size += len(message.payload)
        if size > MOST_AT_ONCE and count:
            return count
    return len(messages)


def pack(messages: Sequence[Message]) -> bytes:
    """The body of these messages' segment."""
    parts = [b""]
    head = _HEAD.pack
    for message in messages:
        properties = b"" if message.properties is None else properties_to_json(message.properties)
        topic, payload = message.topic, message.payload
        parts += (
            head(
                message.sequence,
                message.timestamp,
                message.flags,
                len(topic),
                len(properties),
                len(payload),
            ),
            topic,
            properties,
            payload,
        )
    body = b"".join(parts)
    return _CHECK.pack(crc32(body)) + body


def unpack(body: bytes) -> list[Message]:
    """The messages again, without Packet Identifiers: those were of a connection.

    Raises CorruptSegment when these are not the bytes that were packed.
    """
    view = memoryview(body)
    if len(body) < _CHECK.size or _CHECK.unpack_from(body)[0] != crc32(view[_CHECK.size :]):
        raise CorruptSegment("its checksum is wrong")
    messages = []
    at, head, size = _CHECK.size, _HEAD.unpack_from, _HEAD.size
    while at < len(body):
        sequence, timestamp, flags, topic_length, properties_length, payload_length = head(body, at)
        at += size
        properties_at = at + topic_length
        payload_at = properties_at + properties_length
        end = payload_at + payload_length
        properties = properties_from_json(body[properties_at:payload_at]) if properties_length else None
        message = Message.of(body[at:properties_at], flags, 0, properties, body[payload_at:end])
        message.sequence, message.timestamp = sequence, timestamp
        message.state = 1  # State.SETTLED: it was acknowledged once it was on disk
        messages.append(message)
        at = end
    return messages


def received_first(beginning: bytes) -> int:
    """When the first message of a body came, by the body's first bytes: ms since 1970, or -1."""
    return int(_HEAD.unpack_from(beginning, _CHECK.size)[1]) if len(beginning) >= BEGINNING else -1


def properties_to_json(properties: Properties) -> bytes:
    correlation = properties.correlation_data
    return json.dumps(
        [
            properties.payload_format,
            properties.message_expiry,
            properties.content_type,
            properties.response_topic,
            None if correlation is None else correlation.hex(),
            properties.subscription_ids,
            properties.user,
        ],
        separators=(",", ":"),
    ).encode()


def properties_from_json(text: bytes) -> Properties:
    payload_format, expiry, content_type, response_topic, correlation, ids, user = json.loads(text)
    return Properties(
        payload_format,
        expiry,
        content_type,
        response_topic,
        None if correlation is None else bytes.fromhex(correlation),
        tuple(ids),
        tuple((name, value) for name, value in user),
    )
