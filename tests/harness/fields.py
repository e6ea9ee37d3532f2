"""The building blocks of MQTT packets: numbers, strings and the properties of MQTT 5."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class Malformed(Exception):
    """Bytes that are no valid MQTT packet, or that follow the end of one."""


class Property(IntEnum):
    """MQTT 5, table 2-4."""

    PAYLOAD_FORMAT = 0x01
    MESSAGE_EXPIRY = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY = 0x11
    ASSIGNED_CLIENT_ID = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIERS_AVAILABLE = 0x29
    SHARED_AVAILABLE = 0x2A


_BYTE = {0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A}
_TWO_BYTES = {0x13, 0x21, 0x22, 0x23}
_FOUR_BYTES = {0x02, 0x11, 0x27}
_STRING = {0x03, 0x08, 0x12, 0x15, 0x1A, 0x1C, 0x1F}
_BINARY = {0x09, 0x16}
_REPEATABLE = {Property.USER_PROPERTY, Property.SUBSCRIPTION_IDENTIFIER}

Properties = Mapping[Property, Any]  # a repeatable one holds a list; a user property is a pair of str
NONE: Properties = {}


def varint(number: int) -> bytes:
    """A Variable Byte Integer."""
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def binary(data: bytes | str) -> bytes:
    """Binary Data or a UTF-8 string: two bytes of length, then the bytes."""
    if isinstance(data, str):
        data = data.encode()
    return len(data).to_bytes(2) + data


def properties(props: Properties, version: int) -> bytes:
    """The property block with its length; nothing at all below MQTT 5."""
    if version < 5:
        return b""
    out = b""
    for name, value in props.items():
        for one in value if name in _REPEATABLE else [value]:
            out += bytes([name]) + _property_value(name, one)
    return varint(len(out)) + out


def _property_value(name: Property, value: Any) -> bytes:
    if name in _BYTE:
        return bytes([value])
    if name in _TWO_BYTES:
        return int(value).to_bytes(2)
    if name in _FOUR_BYTES:
        return int(value).to_bytes(4)
    if name in _STRING or name in _BINARY:
        return binary(value)
    if name is Property.SUBSCRIPTION_IDENTIFIER:
        return varint(value)
    key, text = value
    return binary(key) + binary(text)


class Cursor:
    """Reads a packet's body from left to right."""

    def __init__(self, data: bytes, version: int) -> None:
        self.data, self.at, self.version = data, 0, version

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise Malformed(f"{count} bytes wanted, {len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count : self.at]

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def varint(self) -> int:
        result = shift = 0
        while True:
            byte = self.number(1)
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result
            if shift > 21:
                raise Malformed("a Variable Byte Integer of more than four bytes")

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        return self.binary().decode()

    def rest(self) -> bytes:
        return self.take(self.left)

    def properties(self) -> Properties:
        if self.version < 5:
            return NONE
        end = self.varint() + self.at
        found: dict[Property, Any] = {}
        while self.at < end:
            name = Property(self.number(1))
            value = self._property_value(name)
            if name in _REPEATABLE:
                found.setdefault(name, []).append(value)
            elif name in found:
                raise Malformed(f"{name.name} twice")
            else:
                found[name] = value
        if self.at != end:
            raise Malformed("the properties are longer than their length says")
        return found

    def _property_value(self, name: Property) -> Any:
        for names, size in ((_BYTE, 1), (_TWO_BYTES, 2), (_FOUR_BYTES, 4)):
            if name in names:
                return self.number(size)
        if name in _STRING:
            return self.text()
        if name in _BINARY:
            return self.binary()
        return self.varint() if name is Property.SUBSCRIPTION_IDENTIFIER else (self.text(), self.text())
