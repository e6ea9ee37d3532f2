"""The scripted broker with a plain socket as client, and the packets compared with paho's."""

import socket
from collections.abc import Iterator

import pytest

from tests.harness.conditions import NotInTime
from tests.harness.fields import Malformed, Property
from tests.harness.packets import Ack, Connack, Connect, Filter, Frames, Kind, Publish, Subscribe
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as broker:
        yield broker


@pytest.fixture
def client(broker: ScriptedBroker) -> Iterator[socket.socket]:
    with socket.create_connection((broker.address, broker.port), timeout=5) as client:
        client.sendall(Connect("me", 5, clean_start=False).encode())
        yield client


def test_a_connect_is_kept_word_by_word(broker: ScriptedBroker, client: socket.socket) -> None:
    with broker.connection() as connection:
        assert connection.hello == Connect("me", 5, clean_start=False)
    assert len(broker.connects) == 1


def test_what_is_said_in_one_segment_arrives_in_one(broker: ScriptedBroker, client: socket.socket) -> None:
    with broker.connection() as connection, connection.one_segment():
        connection.connack(session_present=True)
        connection.publish(b"t", b"x", qos=1, identifier=7, dup=True)

    packets = list(_frames(client.recv(100)))
    assert packets == [Connack(session_present=True), Publish(b"t", b"x", 1, 7, dup=True)]


def test_acknowledgements_are_expected_in_their_order(broker: ScriptedBroker, client: socket.socket) -> None:
    with broker.connection() as connection:
        for kind, identifier in ((Kind.PUBACK, 2), (Kind.PUBACK, 1), (Kind.PUBREC, 3)):
            client.sendall(Ack(kind, identifier).encode(5))

        connection.expect_puback(2)
        with pytest.raises(AssertionError, match="PUBACK 7 expected"):
            connection.expect_puback(7)
        with pytest.raises(AssertionError, match=r"PUBACK expected.*PUBREC"):
            connection.expect_puback()


def test_what_does_not_come_is_an_error_that_tells_what_came(
    broker: ScriptedBroker, client: socket.socket
) -> None:
    with broker.connection() as connection:
        client.sendall(b"\xe0\x00")
        with pytest.raises(NotInTime, match=r"Ack within 0\.1 s.*Disconnect"):
            connection.expect_puback(deadline=0.1)
    with pytest.raises(NotInTime, match=r"no CONNECT within 0\.1 s; 1 came"):
        broker.next_connection(0.1)


def test_silence_is_broken_by_a_packet_or_the_end(broker: ScriptedBroker, client: socket.socket) -> None:
    with broker.connection() as connection:
        connection.expect_silence(0.05)
        client.close()
        with pytest.raises(AssertionError, match="closed by the bridge"):
            connection.expect_silence(5)


def test_pings_and_subscriptions_are_answered_unasked(broker: ScriptedBroker, client: socket.socket) -> None:
    with broker.connection() as connection:
        connection.grants = lambda subscribe: [0x87 for _ in subscribe.filters]
        client.sendall(b"\xc0\x00" + b"\x82\x08\x00\x05\x00\x00\x02a/\x11")

        assert connection.expect_subscribe() == Subscribe(5, (Filter("a/", 1, retain_handling=1),))
        connection.expect_pings(1)
    assert _all(client) == b"\xd0\x00" + b"\x90\x04\x00\x05\x00\x87"


def test_a_reset_is_a_reset(broker: ScriptedBroker, client: socket.socket) -> None:
    broker.next_connection().reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_script_for_every_connection(broker: ScriptedBroker) -> None:
    def refuse(connection: Connection) -> None:
        connection.connack(reason=0x86)

    with broker.always(refuse):
        for _ in range(3):
            with socket.create_connection((broker.address, broker.port), timeout=5) as client:
                client.sendall(Connect("me", 5).encode())
                assert list(_frames(client.recv(100))) == [Connack(reason=0x86)]
    assert len(broker.connects) == 3


def test_malformed_bytes_fail_the_test_that_caused_them(
    broker: ScriptedBroker, client: socket.socket
) -> None:
    connection = broker.next_connection()
    client.sendall(b"\x40\x05\x00\x01\x00\x00\xff")

    with pytest.raises(Malformed, match="left over"):
        connection.expect_end()


def test_properties_come_back_as_they_went() -> None:
    properties = {
        Property.PAYLOAD_FORMAT: 1,
        Property.MESSAGE_EXPIRY: 70000,
        Property.CONTENT_TYPE: "text/plain",
        Property.CORRELATION_DATA: b"\x00\xff",
        Property.USER_PROPERTY: [("a", "1"), ("a", "ü")],
        Property.SUBSCRIPTION_IDENTIFIER: [1, 268_435_455],
    }
    packet = Publish("ä".encode(), bytes(range(256)) * 70, 2, 65535, True, True, properties)

    assert list(_frames(packet.encode(5))) == [packet]


@pytest.mark.parametrize("cut", range(1, 9))
def test_packets_may_come_in_pieces(cut: int) -> None:
    frames = Frames(4)
    data = Publish(b"t", b"abc", 1, 3).encode(4)

    assert [*frames.feed(data[:cut]), *frames.feed(data[cut:])] == [Publish(b"t", b"abc", 1, 3)]


def _frames(data: bytes) -> Iterator[object]:
    return Frames(5).feed(data)


def _all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(4096), b""))
