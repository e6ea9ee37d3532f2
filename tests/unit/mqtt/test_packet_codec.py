"""The packet codec: which packets it decodes, which it leaves to paho, which it refuses, what it encodes."""

from itertools import product

import pytest

from bridge.errors import MalformedPacket
from bridge.message import Message, Packet, Release
from bridge.mqtt import packet_codec
from bridge.mqtt.packet_codec import Progress
from tests.harness.fields import Property
from tests.harness.packets import Ack, Connack, Disconnect, Frames, Kind, Ping, Publish, Suback

VERSIONS = pytest.mark.parametrize("version", [4, 5], ids=["mqtt3.1.1", "mqtt5"])


def read(data: bytes, version: int) -> tuple[list[Packet], Progress]:
    packets: list[Packet] = []
    return packets, packet_codec.read(data, 0, version == 5, packets)


def only(data: bytes, version: int = 5) -> Message:
    """Decode `data`, which is exactly one message."""
    packets, progress = read(data, version)
    assert progress == Progress(len(data), 0, 0)
    (message,) = packets
    assert isinstance(message, Message)
    return message


@VERSIONS
@pytest.mark.parametrize(("qos", "dup", "retain"), [*product((0, 1, 2), (False, True), (False, True))])
def test_a_publish_says_what_its_flags_and_identifier_said(
    version: int, qos: int, dup: bool, retain: bool
) -> None:
    data = Publish(b"a/b", b"\0payload\xff", qos, 0xABCD if qos else 0, dup, retain).encode(version)
    message = only(data, version)
    assert (message.topic, message.payload) == (b"a/b", b"\0payload\xff")
    assert (message.qos, message.dup, message.retain) == (qos, dup, retain)
    assert message.packet_id == (0xABCD if qos else 0)


@VERSIONS
def test_an_empty_payload_is_a_message_too(version: int) -> None:
    assert only(Publish(b"t", b"", 1, 1).encode(version), version).payload == b""


@VERSIONS
@pytest.mark.parametrize("size", [1, 118, 119, 120, 127, 128, 16_370, 16_384, 70_000, 2_097_160])
def test_payloads_around_the_steps_of_remaining_length_come_whole(version: int, size: int) -> None:
    assert only(Publish(b"topic", b"x" * size, 1, 7).encode(version), version).payload == b"x" * size


def test_without_properties_a_message_of_mqtt_5_has_none() -> None:
    assert only(Publish(b"t", b"v").encode(5)).properties is None


def test_the_properties_of_mqtt_5_are_read() -> None:
    sent = {
        Property.PAYLOAD_FORMAT: 1,
        Property.MESSAGE_EXPIRY: 0xFFFFFFFF,
        Property.CONTENT_TYPE: "text/plain",
        Property.RESPONSE_TOPIC: "antwort/ä",
        Property.CORRELATION_DATA: b"\0\1",
        Property.SUBSCRIPTION_IDENTIFIER: [1, 268_435_455],
        Property.USER_PROPERTY: [("a", "1"), ("b", ""), ("a", "1")],
    }
    found = only(Publish(b"t", b"v", 1, 3, properties=sent).encode(5)).properties
    assert found is not None
    assert found.payload_format == 1
    assert found.message_expiry == 0xFFFFFFFF
    assert found.content_type == "text/plain"
    assert found.response_topic == "antwort/ä"
    assert found.correlation_data == b"\0\1"
    assert found.subscription_ids == (1, 268_435_455)
    assert found.user == (("a", "1"), ("b", ""), ("a", "1"))


def test_properties_of_more_than_127_bytes_are_read() -> None:
    sent = {Property.USER_PROPERTY: [("name", "x" * 200)] * 3}
    message = only(Publish(b"t", b"v", properties=sent).encode(5))
    assert message.payload == b"v"
    assert message.properties is not None
    assert len(message.properties.user) == 3


def test_text_that_is_no_utf8_is_marked_rather_than_refused() -> None:
    data = bytearray(Publish(b"t", b"v", properties={Property.CONTENT_TYPE: "ab"}).encode(5))
    data[data.index(b"ab")] = 0xFF
    properties = only(bytes(data)).properties
    assert properties is not None
    assert properties.content_type == "\N{REPLACEMENT CHARACTER}b"


def test_a_topic_that_is_no_utf8_is_left_to_routing() -> None:
    assert only(Publish(b"\xff\xfe", b"v").encode(4), 4).topic == b"\xff\xfe"


@VERSIONS
def test_a_pubrel_is_taken_off_the_stream(version: int) -> None:
    packets, _ = read(Ack(Kind.PUBREL, 0x1234).encode(version), version)
    assert [packet.packet_id for packet in packets if isinstance(packet, Release)] == [0x1234]


def test_a_pubrel_of_mqtt_5_may_have_a_reason() -> None:
    packets, progress = read(Ack(Kind.PUBREL, 9, reason=0x92).encode(5), 5)
    assert len(packets) == 1
    assert progress.position == 5


@VERSIONS
@pytest.mark.parametrize(
    "control",
    [
        Connack(),
        Suback(Kind.SUBACK, 1, (0, 1)),
        Suback(Kind.UNSUBACK, 1, (0,)),
        Ping(Kind.PINGRESP),
        Disconnect(),
        Ack(Kind.PUBACK, 3),
        Ack(Kind.PUBREC, 3),
        Ack(Kind.PUBCOMP, 3),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_what_is_pahos_is_left_in_its_place(version: int, control: object) -> None:
    before, packet = Publish(b"t", b"1").encode(version), control.encode(version)  # type: ignore[attr-defined]
    data = before + packet + Publish(b"t", b"2").encode(version)
    packets, progress = read(data, version)
    assert [each.payload for each in packets if isinstance(each, Message)] == [b"1"]
    assert progress == Progress(len(before), len(packet), len(packet))


@VERSIONS
def test_half_a_packet_is_waited_for_and_says_how_long_it_will_be(version: int) -> None:
    data = Publish(b"t", b"x" * 300, 1, 5).encode(version)
    packets, progress = read(data[:-1], version)
    assert packets == []
    assert progress == Progress(0, 0, len(data))


@VERSIONS
def test_half_a_packet_of_pahos_is_waited_for(version: int) -> None:
    data = Suback(Kind.SUBACK, 1, (0,) * 40).encode(version)
    assert read(data[:10], version)[1] == Progress(0, 0, len(data))


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x80", b"\x30\x80\x80\x80"])
def test_half_a_header_says_nothing_yet(data: bytes) -> None:
    assert read(data, 4) == ([], Progress(0, 0, 0))


MALFORMED = {
    "a Remaining Length of five bytes": b"\x30\x80\x80\x80\x80\x01",
    "QoS 3": b"\x36\x05\x00\x01t\x00\x01",
    "identifier 0 at QoS 1": b"\x32\x05\x00\x01t\x00\x00",
    "an empty topic": b"\x30\x03\x00\x00v",
    "a topic beyond its packet": b"\x30\x03\x00\x09t" + b"x" * 20,
    "no room for a topic": b"\x30\x01\x00\x00\x00\x00",
    "an empty PUBLISH": b"\x30\x00",
    "an identifier beyond its packet": b"\x32\x03\x00\x01t\x00\x01",
    "PUBREL with identifier 0": b"\x62\x02\x00\x00",
    "PUBREL of one byte": b"\x62\x01\x01\x00",
    "PUBREL with wrong flags": b"\x60\x02\x00\x01",
    "PINGREQ from a server": b"\xc0\x00",
    "CONNECT from a server": b"\x10\x00",
    "type 0": b"\x00\x00",
    "a control packet of 2 MB": b"\x90\x80\x80\x80\x01",
}


@pytest.mark.parametrize("data", [*MALFORMED.values()], ids=[*MALFORMED])
def test_what_mqtt_forbids_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        read(data, 4)


MALFORMED_PROPERTIES = {
    "longer than the packet": b"\x7f\x01\x01",
    "shorter than what they hold": b"\x01\x01\x01",
    "a topic alias, which was not allowed": b"\x03\x23\x00\x01",
    "of another packet": b"\x02\x13\x01",
    "a string beyond them": b"\x04\x03\x00\x09a",
    "a length of five bytes": b"\x80\x80\x80\x80\x01",
    "cut inside a number": b"\x03\x02\x00\x00",
}


@pytest.mark.parametrize("properties", [*MALFORMED_PROPERTIES.values()], ids=[*MALFORMED_PROPERTIES])
def test_properties_that_do_not_fit_are_refused(properties: bytes) -> None:
    body = b"\x00\x01t" + properties
    with pytest.raises(MalformedPacket):
        read(bytes([0x30, len(body)]) + body, 5)


def test_what_came_before_a_malformed_packet_is_not_lost() -> None:
    packets: list[Packet] = []
    with pytest.raises(MalformedPacket):
        packet_codec.read(Publish(b"t", b"1", 1, 1).encode(4) + b"\x00\x00", 0, False, packets)
    assert [packet.packet_id for packet in packets] == [1]


# -- out -----------------------------------------------------------------------------------------------


def test_qos_1_is_answered_with_puback_and_qos_2_with_pubrec_in_their_order() -> None:
    messages = [
        Message.of(b"t", qos << 1, number, None, b"") for qos, number in ((1, 1), (2, 0xFFFE), (1, 256))
    ]
    data = packet_codec.acknowledgements(messages)
    assert len(data) == packet_codec.ACKNOWLEDGEMENT_BYTES * len(messages)
    for version in (4, 5):
        assert list(Frames(version).feed(data)) == [
            Ack(Kind.PUBACK, 1),
            Ack(Kind.PUBREC, 0xFFFE),
            Ack(Kind.PUBACK, 256),
        ]


@pytest.mark.parametrize(
    ("mqtt5", "known", "reason"), [(False, False, 0), (True, True, 0), (True, False, 0x92)]
)
def test_pubcomp_tells_mqtt_5_that_an_identifier_was_not_known(mqtt5: bool, known: bool, reason: int) -> None:
    data = packet_codec.pubcomp(0x0102, known, mqtt5)
    assert list(Frames(5 if mqtt5 else 4).feed(data)) == [Ack(Kind.PUBCOMP, 0x0102, reason)]
