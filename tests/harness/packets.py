"""MQTT 3.1.1 and 5, both directions: a second implementation of the packet format.

It deliberately shares no code with bridge/mqtt/packet_codec.py and paho: an encoder and a decoder of the same
origin can agree with each other although both are wrong. Clear rather than fast (10-20 µs a packet).

A packet is a frozen dataclass with `encode(version) -> bytes`; `Frames` cuts a byte stream into packets.
`version` is the protocol level of CONNECT: 4 (MQTT 3.1.1) or 5.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Self

from tests.harness.fields import NONE, Cursor, Malformed, Properties, binary, properties, varint


class Kind(IntEnum):
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


def frame(kind: Kind, flags: int, body: bytes) -> bytes:
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


@dataclass(frozen=True)
class Connect:
    client_id: str
    version: int
    clean_start: bool = True
    keepalive: int = 60
    username: str | None = None
    password: str | bytes | None = None
    properties: Properties = field(default_factory=dict)

    def encode(self, version: int | None = None) -> bytes:
        flags = 2 * self.clean_start | 0x80 * (self.username is not None) | 0x40 * (self.password is not None)
        body = binary("MQTT") + bytes([self.version, flags]) + self.keepalive.to_bytes(2)
        body += properties(self.properties, self.version) + binary(self.client_id)
        for secret in (self.username, self.password):
            body += b"" if secret is None else binary(secret)
        return frame(Kind.CONNECT, 0, body)

    @classmethod
    def decode(cls, flags: int, body: Cursor) -> Self:
        if body.binary() != b"MQTT":
            raise Malformed("not MQTT")
        body.version = body.number(1)
        flags = body.number(1)
        if flags & 0x04:
            raise Malformed("a will: nothing here sends one")
        keepalive = body.number(2)
        props = body.properties()
        client_id = body.text()
        username = body.text() if flags & 0x80 else None
        password = body.binary() if flags & 0x40 else None
        return cls(client_id, body.version, bool(flags & 2), keepalive, username, password, props)


@dataclass(frozen=True)
class Connack:
    session_present: bool = False
    reason: int = 0
    properties: Properties = field(default_factory=dict)

    def encode(self, version: int) -> bytes:
        body = bytes([self.session_present, self.reason]) + properties(self.properties, version)
        return frame(Kind.CONNACK, 0, body)

    @classmethod
    def decode(cls, flags: int, body: Cursor) -> Self:
        return cls(bool(body.number(1)), body.number(1), body.properties())


@dataclass(frozen=True)
class Publish:
    topic: bytes
    payload: bytes
    qos: int = 0
    identifier: int = 0
    dup: bool = False
    retain: bool = False
    properties: Properties = field(default_factory=dict)

    def encode(self, version: int) -> bytes:
        flags = self.dup << 3 | self.qos << 1 | self.retain
        identifier = self.identifier.to_bytes(2) if self.qos else b""
        body = binary(self.topic) + identifier + properties(self.properties, version) + self.payload
        return frame(Kind.PUBLISH, flags, body)

    @classmethod
    def decode(cls, flags: int, body: Cursor) -> Self:
        qos = flags >> 1 & 3
        topic = body.binary()
        identifier = body.number(2) if qos else 0
        props = body.properties()
        return cls(topic, body.rest(), qos, identifier, bool(flags & 8), bool(flags & 1), props)


@dataclass(frozen=True)
class Ack:
    """PUBACK, PUBREC, PUBREL or PUBCOMP. On 3.1.1 the reason is always 0."""

    kind: Kind
    identifier: int
    reason: int = 0

    def encode(self, version: int) -> bytes:
        reason = bytes([self.reason]) if version == 5 and self.reason else b""
        return frame(self.kind, 2 * (self.kind is Kind.PUBREL), self.identifier.to_bytes(2) + reason)

    @classmethod
    def decode(cls, kind: Kind, body: Cursor) -> Self:
        identifier = body.number(2)
        reason = body.number(1) if body.version == 5 and body.left else 0
        if body.version == 5 and body.left:
            body.properties()
        return cls(kind, identifier, reason)


@dataclass(frozen=True)
class Filter:
    """One line of a SUBSCRIBE. The last three do not exist in MQTT 3.1.1 and are 0 there."""

    filter: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True)
class Subscribe:
    identifier: int
    filters: tuple[Filter, ...]
    properties: Properties = field(default_factory=dict)

    def encode(self, version: int) -> bytes:
        body = self.identifier.to_bytes(2) + properties(self.properties, version)
        for line in self.filters:
            options = line.qos | line.no_local << 2 | line.retain_as_published << 3
            body += binary(line.filter) + bytes([options | line.retain_handling << 4])
        return frame(Kind.SUBSCRIBE, 2, body)

    @classmethod
    def decode(cls, flags: int, body: Cursor) -> Self:
        identifier, props, filters = body.number(2), body.properties(), []
        while body.left:
            name, options = body.text(), body.number(1)
            filters.append(Filter(name, options & 3, bool(options & 4), bool(options & 8), options >> 4 & 3))
        return cls(identifier, tuple(filters), props)


@dataclass(frozen=True)
class Suback:
    """SUBACK or UNSUBACK; one reason for each filter (an UNSUBACK of 3.1.1 has none)."""

    kind: Kind
    identifier: int
    reasons: tuple[int, ...]

    def encode(self, version: int) -> bytes:
        reasons = b"" if self.kind is Kind.UNSUBACK and version < 5 else bytes(self.reasons)
        return frame(self.kind, 0, self.identifier.to_bytes(2) + properties(NONE, version) + reasons)


@dataclass(frozen=True)
class Unsubscribe:
    identifier: int
    filters: tuple[str, ...]

    def encode(self, version: int) -> bytes:
        body = self.identifier.to_bytes(2) + properties({}, version)
        return frame(Kind.UNSUBSCRIBE, 2, body + b"".join(binary(each) for each in self.filters))

    @classmethod
    def decode(cls, flags: int, body: Cursor) -> Self:
        identifier, _, filters = body.number(2), body.properties(), []
        while body.left:
            filters.append(body.text())
        return cls(identifier, tuple(filters))


@dataclass(frozen=True)
class Ping:
    kind: Kind

    def encode(self, version: int) -> bytes:
        return frame(self.kind, 0, b"")


@dataclass(frozen=True)
class Disconnect:
    reason: int = 0
    properties: Properties = field(default_factory=dict)

    def encode(self, version: int) -> bytes:
        body = b"" if version < 5 else bytes([self.reason]) + properties(self.properties, version)
        return frame(Kind.DISCONNECT, 0, body)

    @classmethod
    def decode(cls, flags: int, body: Cursor) -> Self:
        if body.version < 5 or not body.left:
            return cls()
        return cls(body.number(1), body.properties() if body.left else NONE)


Packet = Connect | Connack | Publish | Ack | Subscribe | Suback | Unsubscribe | Ping | Disconnect

_FLAGS = {Kind.PUBREL: 2, Kind.SUBSCRIBE: 2, Kind.UNSUBSCRIBE: 2}  # all others but PUBLISH: 0


def decode(first: int, data: bytes, version: int) -> Packet:
    """Decode the packet with this first byte and this body. Raises Malformed, also for bytes left over."""
    try:
        kind, flags, body = Kind(first >> 4), first & 15, Cursor(data, version)
    except ValueError:
        raise Malformed(f"packet type {first >> 4}") from None
    if kind is not Kind.PUBLISH and flags != _FLAGS.get(kind, 0):
        raise Malformed(f"{kind.name} with flags {flags}")
    packet: Packet
    try:
        match kind:
            case Kind.PUBACK | Kind.PUBREC | Kind.PUBREL | Kind.PUBCOMP:
                packet = Ack.decode(kind, body)
            case Kind.PINGREQ | Kind.PINGRESP:
                packet = Ping(kind)
            case Kind.SUBACK | Kind.UNSUBACK:
                identifier, _ = body.number(2), body.properties()
                packet = Suback(kind, identifier, tuple(body.rest()))
            case _:
                packet = _CLASSES[kind].decode(flags, body)
    except (ValueError, Malformed) as error:
        raise Malformed(f"{kind.name}: {error}") from error
    if body.left:
        raise Malformed(f"{kind.name} with {body.left} bytes left over")
    return packet


_CLASSES: dict[Kind, Any] = {
    Kind.CONNECT: Connect,
    Kind.CONNACK: Connack,
    Kind.PUBLISH: Publish,
    Kind.SUBSCRIBE: Subscribe,
    Kind.UNSUBSCRIBE: Unsubscribe,
    Kind.DISCONNECT: Disconnect,
}


class Frames:
    """Cuts a byte stream into packets. `version` follows the first CONNECT that passes, or is set."""

    def __init__(self, version: int = 4) -> None:
        self.version = version
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Add bytes, and yield each packet that is now complete. Raises Malformed."""
        self._data += data
        while (cut := self._cut()) is not None:
            first, body = cut
            packet = decode(first, body, self.version)
            if isinstance(packet, Connect):
                self.version = packet.version
            yield packet

    def _cut(self) -> tuple[int, bytes] | None:
        length = 0
        for at in range(1, min(5, len(self._data))):
            length |= (self._data[at] & 0x7F) << 7 * (at - 1)
            if self._data[at] < 0x80:
                end = at + 1 + length
                if len(self._data) < end:
                    return None
                first, body = self._data[0], bytes(self._data[at + 1 : end])
                del self._data[:end]
                return first, body
        if len(self._data) >= 5:
            raise Malformed("a Remaining Length of more than four bytes")
        return None
