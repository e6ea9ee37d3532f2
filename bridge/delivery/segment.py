"""A segment: messages of one lane that are written to disk as one row. Also packs and unpacks rows. Pure.

One row of the spool's database holds one segment. A commit writes the messages that have arrived since the
last commit; one row for each message would cost five times as much. The body of a row is, little-endian:

    CRC-32 of all bytes after it                                              4 bytes
    for each message:
        sequence 8, timestamp 8, flags 1,
        lengths of topic 2, of properties 4, of payload 4                     27 bytes
        topic, properties, payload

Properties are JSON; a message without properties has none of these bytes.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

from bridge.errors import CorruptSegment
from bridge.message import Message, Properties

MOST_MESSAGES = 500  # in one segment
MOST_BYTES = 256 * 1024  # of payload in one segment, unless its only message is larger
# Bytes of payload in one commit. The bodies are copies, and stay in memory until the commit is done.
MOST_AT_ONCE = 4_000_000

_CHECK = Struct("<I")
_HEAD = Struct("<QqBHII")

BEGINNING = _CHECK.size + _HEAD.size  # so many bytes of a body are enough for `received_first`


class Segment:
    """Messages of one lane, in order of arrival.

    `first`, `last`: sequence numbers. `left`: how many of the messages Kafka has not confirmed yet.
    `messages` becomes empty once the segment is on disk. A caller that still needs the messages keeps its own
    reference.
    """

    __slots__ = ("count", "first", "last", "left", "messages", "stored")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.first = messages[0].sequence
        self.last = messages[-1].sequence
        self.count = self.left = len(messages)
        self.stored = False  # the segment is on disk, synced


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request to read segments, in order: those whose `first` is above `after`, and at most `last`.

    As many segments as fit into `messages` and `size` bytes, but at least one.
    """

    after: int
    last: int
    messages: int
    size: int


def cut(messages: Sequence[Message]) -> Iterator[Segment]:
    """Divide messages, in order of arrival, into segments of at most MOST_MESSAGES and MOST_BYTES."""
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
    """Return how many of the first messages one commit may write.

    Their payloads have at most MOST_AT_ONCE bytes together. If the first payload alone is larger, the commit
    may write this one message.
    """
    size = 0
    for count, message in enumerate(messages):
        size += len(message.payload)
        if size > MOST_AT_ONCE and count:
            return count
    return len(messages)


def pack(messages: Sequence[Message]) -> bytes:
    """The body of the row for a segment of these messages."""
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
    """The messages of a body. They have no Packet Identifiers, which were valid on one connection only.

    Raises CorruptSegment if the body's bytes are not those that `pack` returned.
    """
    view = memoryview(body)
    if len(body) < _CHECK.size or _CHECK.unpack_from(body)[0] != crc32(view[_CHECK.size :]):
        raise CorruptSegment("the checksum is wrong")
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
        message.state = 1  # State.SETTLED: a message on disk may be acknowledged
        messages.append(message)
        at = end
    return messages


def received_first(beginning: bytes) -> int:
    """Return when the first message of a body arrived: ms since 1970; -1: not known.

    `beginning` must have at least the first BEGINNING bytes of the body; if it has fewer, the result is -1.
    """
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
