"""The recording relay: it forwards, records, cuts and stalls."""

import socket
from collections.abc import Iterator

import pytest

from tests.harness.conditions import wait_until
from tests.harness.packets import Ack, Connack, Connect, Kind
from tests.harness.relay import RecordingRelay, Towards
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as broker:
        yield broker


@pytest.fixture
def relay(broker: ScriptedBroker) -> Iterator[RecordingRelay]:
    with RecordingRelay((broker.address, broker.port)) as relay:
        yield relay


@pytest.fixture
def client(relay: RecordingRelay) -> Iterator[socket.socket]:
    with socket.create_connection((relay.address, relay.port), timeout=5) as client:
        client.sendall(Connect("me", 5).encode())
        yield client


@pytest.fixture
def connection(broker: ScriptedBroker, client: socket.socket) -> Connection:
    return broker.next_connection()


def test_it_notes_each_sending_and_its_acknowledgement(
    relay: RecordingRelay, client: socket.socket, connection: Connection
) -> None:
    connection.connack()
    connection.publish(b"t", b"a-1 ...", qos=1, identifier=7)
    connection.publish(b"t", b"a-1 ...", qos=1, identifier=7, dup=True)
    connection.publish(b"t", b"a-2 ...", qos=2, identifier=8)
    wait_until(lambda: relay.ids == {"a-1", "a-2"}, 5, "all were passed on")
    client.sendall(Ack(Kind.PUBACK, 7).encode(5))
    connection.expect_puback(7)

    first, second = relay.sent("a-1")
    assert (first.identifier, first.dup, first.qos, first.connection) == (7, False, 1, 1)
    assert second.dup
    assert "PUBACK" in relay.story("a-1")
    assert "never acknowledged" in relay.story("a-2")
    assert relay.story("a-3") == "a-3: the broker never sent it"


def test_bytes_pass_unchanged_both_ways(
    relay: RecordingRelay, client: socket.socket, connection: Connection
) -> None:
    connection.connack(reason=0x87)
    assert client.recv(100) == Connack(reason=0x87).encode(5)
    client.sendall(b"\xe0\x00")
    connection.expect_disconnect()


def test_the_end_of_one_side_is_the_end_of_the_other(client: socket.socket, connection: Connection) -> None:
    client.close()
    assert connection.expect_end() == "closed by the bridge"


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_a_cut_ends_both_sides(
    reset: bool, relay: RecordingRelay, client: socket.socket, connection: Connection
) -> None:
    assert relay.cut(reset) == 1

    if reset:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    else:
        assert client.recv(1) == b""
    assert connection.expect_end() == ("reset by the bridge" if reset else "closed by the bridge")


def test_a_stall_holds_one_direction_and_then_lets_it_pass(
    relay: RecordingRelay, client: socket.socket, connection: Connection
) -> None:
    with relay.stalled(Towards.BROKER):
        client.sendall(Ack(Kind.PUBACK, 1).encode(5))
        connection.connack()
        assert client.recv(100)  # the other direction goes on
        connection.expect_silence(0.2)
    connection.expect_puback(1)


def test_what_is_no_mqtt_passes_too(
    relay: RecordingRelay, client: socket.socket, connection: Connection
) -> None:
    connection.send(b"\xff" * 50)
    connection.connack()
    wait_until(lambda: len(client.recv(100, socket.MSG_PEEK)) == 55, 5, "55 bytes came")


def test_nobody_behind_it_is_a_closed_door() -> None:
    with (
        RecordingRelay(("127.0.0.1", 1)) as relay,
        socket.create_connection((relay.address, relay.port), timeout=5) as client,
    ):
        assert client.recv(1) == b""
