"""Decodes PUBLISH and PUBREL, encodes PUBACK, PUBREC and PUBCOMP: MQTT 3.1.1 and 5. Pure.

Paho handles all other packets: `read` stops at such a packet and leaves its bytes for paho.
"""

from collections.abc import Callable
from functools import partial
from struct import Struct, pack
from typing import NamedTuple

from bridge.errors import MalformedPacket
from bridge.message import Message, Packet, Properties, Release

# The first bytes of the packets that a server may send besides PUBLISH and PUBREL: the type, with flags 0.
# PUBACK, PUBREC and PUBCOMP answer a client that publishes. The bridge never publishes; paho ignores them.
_FROM_A_SERVER = frozenset({0x20, 0x40, 0x50, 0x70, 0x90, 0xB0, 0xD0, 0xE0, 0xF0})
_LONGEST_CONTROL_PACKET = 1 << 20  # bytes; paho keeps a whole packet in memory


class Progress(NamedTuple):
    """Where `read` stopped, and why."""

    position: int  # of the first byte that was not read
    control: int  # length of the complete packet for paho at `position`; 0: there is none
    wanted: int  # length of the packet at `position`, where its header is complete; 0: unknown, or no packet


# Makes a Progress without a call of a Python function: nearly every read ends like that.
_progress: Callable[[tuple[int, int, int]], Progress] = partial(tuple.__new__, Progress)


def read(data: bytes, position: int, mqtt5: bool, into: list[Packet]) -> Progress:
    """Decode `data` from `position` on, up to the first packet for paho, and append the packets to `into`.

    Raises MalformedPacket, after it has appended the packets before the malformed one.
    """
    size = len(data)
    append = into.append
    try:
        while size - position > 1:
            head = data[position]
            length = data[position + 1]
            at = position + 2
            if length > 127:
                if size - position > 2 and data[at] < 128:  # most lengths above 127 have two bytes
                    length = length & 127 | data[at] << 7
                    at += 1
                else:
                    length, at = _long_length(data, position + 1, size)
                    if length < 0:
                        return Progress(position, 0, 0)
            end = at + length
            if head & 0xF0 == 0x30:
                if end > size:
                    return Progress(position, 0, end - position)
                name = at + 2
                at = name + (data[at] << 8 | data[at + 1])
                topic = data[name:at]
                flags = head & 0x0F
                packet_id = 0
                if flags & 0x06:  # QoS
                    packet_id = data[at] << 8 | data[at + 1]
                    at += 2
                    if not packet_id or flags & 0x06 == 0x06:
                        raise MalformedPacket("PUBLISH with QoS 3 or Packet Identifier 0")
                properties = None
                if mqtt5:
                    if data[at]:
                        properties, at = _properties(data, at)
                    else:
                        at += 1
                if at > end or not topic:
                    raise MalformedPacket("PUBLISH whose parts do not fit its length, or without a topic")
                message = Message()  # the lines of Message.of, without the cost of a call
                message.topic = topic
                message.flags = flags
                message.packet_id = packet_id
                message.properties = properties
                message.payload = data[at:end]
                message.state = message.epoch = 0
                message.producer = None
                append(message)
            elif head == 0x62:
                if length < 2 or length > (_LONGEST_CONTROL_PACKET if mqtt5 else 2):
                    raise MalformedPacket(f"PUBREL of {length} bytes")
                if end > size:
                    return Progress(position, 0, end - position)
                if not (data[at] or data[at + 1]):
                    raise MalformedPacket("PUBREL with Packet Identifier 0")
                append(Release(data[at] << 8 | data[at + 1]))
            else:
                if head not in _FROM_A_SERVER or length > _LONGEST_CONTROL_PACKET:
                    raise MalformedPacket(f"packet of type {head >> 4}, flags {head & 15}, {length} bytes")
                return Progress(position, end - position if end <= size else 0, end - position)
            position = end
    except IndexError:
        raise MalformedPacket("packet whose parts run beyond the data") from None
    return _progress((position, 0, 0))


def acknowledgements(messages: list[Message]) -> bytes:
    """Encode PUBACK for QoS 1, PUBREC for QoS 2: four bytes each, without reason code 0 (MQTT 5, 3.4.2.1)."""
    if len(messages) == 1:
        return _PACK_ONE((0x40020000 if messages[0].flags & 0x02 else 0x50020000) | messages[0].packet_id)
    packets = [
        (0x40020000 if message.flags & 0x02 else 0x50020000) | message.packet_id for message in messages
    ]
    return pack(f">{len(packets)}I", *packets)


ACKNOWLEDGEMENT_BYTES = 4
_PACK_ONE = Struct(">I").pack


def pubcomp(packet_id: int, known: bool, mqtt5: bool) -> bytes:
    """Encode the answer to a PUBREL. In MQTT 5 reason code 0x92 says: identifier not known (3.7.2.1)."""
    if known or not mqtt5:
        return pack(">HH", 0x7002, packet_id)
    return pack(">HHB", 0x7003, packet_id, 0x92)


def _long_length(data: bytes, at: int, size: int) -> tuple[int, int]:
    """Decode a variable byte integer of up to four bytes. Returns the value, and the position after it.

    The value is -1 where `data` ends inside the integer.
    """
    length = 0
    for shift in (0, 7, 14, 21):
        if at >= size:
            return -1, at
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 128:
            return length, at
    raise MalformedPacket("Remaining Length of more than four bytes")


def _variable_byte_integer(data: bytes, at: int) -> tuple[int, int]:
    length, at = _long_length(data, at, len(data))
    if length < 0:
        raise IndexError
    return length, at


def _binary(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + (data[at] << 8 | data[at + 1])
    return data[at + 2 : end], end


def _text(data: bytes, at: int) -> tuple[str, int]:
    # A broker should have refused invalid UTF-8. If the bridge closed the connection, the broker would resend
    # the message for ever. So U+FFFD replaces the bytes that can't be decoded, and the message is accepted.
    raw, at = _binary(data, at)
    return raw.decode("utf-8", "replace"), at


def _properties(data: bytes, at: int) -> tuple[Properties, int]:
    """Decode the properties of a PUBLISH (MQTT 5, 3.3.2.3). Returns them, and the position after them."""
    length, at = _variable_byte_integer(data, at)
    end = at + length
    found: dict[str, int | str | bytes] = {}
    user: list[tuple[str, str]] = []
    subscription_ids: list[int] = []
    while at < end:
        identifier = data[at]
        at += 1
        if identifier == 0x26:
            name, at = _text(data, at)
            value, at = _text(data, at)
            user.append((name, value))
        elif identifier == 0x0B:
            number, at = _variable_byte_integer(data, at)
            subscription_ids.append(number)
        elif identifier == 0x03 and "content_type" not in found:
            found["content_type"], at = _text(data, at)
        elif identifier == 0x08 and "response_topic" not in found:
            found["response_topic"], at = _text(data, at)
        elif identifier == 0x09 and "correlation_data" not in found:
            found["correlation_data"], at = _binary(data, at)
        elif identifier == 0x01 and "payload_format" not in found:
            found["payload_format"] = data[at]
            at += 1
        elif identifier == 0x02 and "message_expiry" not in found:
            found["message_expiry"] = int.from_bytes(data[at : at + 4])
            at += 4
        else:  # also 0x23: the bridge's Topic Alias Maximum is 0, so no server may send an alias (3.3.2.3.4)
            raise MalformedPacket(f"PUBLISH with a forbidden or repeated property 0x{identifier:02x}")
    if at != end:
        raise MalformedPacket("PUBLISH whose properties do not fit their length")
    return Properties(user=tuple(user), subscription_ids=tuple(subscription_ids), **found), end  # type: ignore[arg-type]
