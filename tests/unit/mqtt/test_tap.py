"""The tap on a socket pair: what paho gets, what the session gets, and in which order the tap sends bytes."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import MalformedPacket
from bridge.message import Message, Packet
from bridge.mqtt import tap as tap_module
from bridge.mqtt.tap import Tap
from tests.harness.packets import Ack, Connack, Frames, Kind, Ping, Publish, Suback

SMALL_BUFFER = 4096  # bytes; the kernel makes the buffer twice as large


class Broker:
    """The other end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.frames = Frames(4)

    def send(self, *packets: object) -> None:
        self.sock.sendall(b"".join(packet.encode(4) for packet in packets))  # type: ignore[attr-defined]

    def receive(self) -> bytes:
        """Return all bytes that have come so far."""
        data = b""
        while True:
            try:
                chunk = self.sock.recv(1 << 20)
            except (BlockingIOError, ssl.SSLWantReadError):
                return data
            if not chunk:
                return data
            data += chunk

    def packets(self) -> list[object]:
        return list(self.frames.feed(self.receive()))


@pytest.fixture
def pair() -> Iterator[tuple[Tap, Broker]]:
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    yield Tap(ours), Broker(theirs)
    ours.close()
    theirs.close()


def message(number: int) -> Publish:
    return Publish(b"t", b"%d" % number, 1, number)


def taken(tap: Tap) -> tuple[list[int], bool]:
    """Return the identifiers that the tap took off the stream, and whether paho has something to read."""
    packets: list[Packet] = []
    for_paho = tap.packets(False, packets)
    return [packet.packet_id for packet in packets], for_paho


def paho_reads(tap: Tap) -> bytes:
    data = b""
    while tap.pending():
        data += tap.recv(1)
    return data


ACK = b"\x40\x02\x00\x01"


# -- in ------------------------------------------------------------------------------------------------


def test_a_publish_goes_round_paho(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    broker.send(message(1), message(2))
    assert tap.fill()
    assert taken(tap) == ([1, 2], False)
    with pytest.raises(BlockingIOError):
        tap.recv(1)


def test_what_stands_behind_pahos_packet_waits_for_paho(
    pair: tuple[Tap, Broker],
) -> None:
    tap, broker = pair
    broker.send(message(1), Connack(), message(2))
    tap.fill()
    assert taken(tap) == ([1], True)
    assert taken(tap) == ([], True)
    assert tap.recv(2) == b"\x20\x02"
    assert taken(tap) == ([], True)
    assert paho_reads(tap) == b"\x00\x00"
    assert taken(tap) == ([2], False)


def test_paho_gets_its_packets_one_at_a_time(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    broker.send(Suback(Kind.SUBACK, 1, (1,)), Ping(Kind.PINGRESP))
    tap.fill()
    assert taken(tap) == ([], True)
    assert paho_reads(tap) == Suback(Kind.SUBACK, 1, (1,)).encode(4)
    assert taken(tap) == ([], True)
    assert paho_reads(tap) == Ping(Kind.PINGRESP).encode(4)
    assert taken(tap) == ([], False)


def test_half_a_packet_of_pahos_is_held_back(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    broker.sock.sendall(b"\x20\x02")
    tap.fill()
    assert taken(tap) == ([], False)
    broker.sock.sendall(b"\x00\x00")
    tap.fill()
    assert taken(tap) == ([], True)
    assert paho_reads(tap) == b"\x20\x02\x00\x00"


def test_what_was_read_is_not_kept_until_something_else_comes(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    broker.send(message(1))
    tap.fill()
    assert taken(tap) == ([1], False)
    assert tap._data == b"", "a message of megabytes would be in memory twice"


def test_nothing_to_read_is_no_end(pair: tuple[Tap, Broker]) -> None:
    tap, _ = pair
    assert not tap.fill()
    assert not tap.ended


def test_a_socket_that_gives_a_few_bytes_is_known_to_be_empty(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    broker.send(message(1))
    assert tap.fill()
    assert tap.is_drained
    broker.sock.sendall(Publish(b"t", b"x" * 8192, 1, 2).encode(4))
    assert tap.fill()
    assert not tap.is_drained, "where much comes, more may have come meanwhile"


def test_a_large_payload_is_joined_once(pair: tuple[Tap, Broker], monkeypatch: pytest.MonkeyPatch) -> None:
    tap, broker = pair
    for size in ("_SHORT", "_LONG"):
        monkeypatch.setattr(tap_module, size, 1000)
    tap._chunk = 1000
    payload = bytes(range(256)) * 200
    data = message(1).encode(4) + Publish(b"t", payload, 1, 2).encode(4) + message(3).encode(4)
    packets: list[Packet] = []
    copied = 0
    for start in range(0, len(data), 1000):
        broker.sock.sendall(data[start : start + 1000])
        while tap.fill():
            copied += len(tap._data)
            tap.packets(False, packets)
    assert [packet.packet_id for packet in packets] == [1, 2, 3]
    assert isinstance(packets[1], Message)
    assert packets[1].payload == payload
    assert copied < 3 * len(data)


def test_what_came_before_the_end_is_taken_before_it(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    broker.send(message(1), Ping(Kind.PINGRESP), message(2))
    broker.sock.close()
    assert tap.fill()
    assert not tap.fill()
    assert taken(tap) == ([1], True)
    paho_reads(tap)
    assert taken(tap) == ([2], True)
    assert tap.recv(1) == b""  # so paho sees the end of the stream too
    assert tap.error is None


def test_half_a_message_at_the_end_is_no_message(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    broker.sock.sendall(Publish(b"t", b"x" * 100, 1, 1).encode(4)[:-1])
    broker.sock.close()
    while tap.fill():
        pass
    assert taken(tap) == ([], True)
    assert tap.recv(1) == b""


def test_a_reset_is_the_end_and_says_why() -> None:
    with socket.create_server(("127.47.0.2", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close sends RST
    theirs.close()
    with ours:
        ours.settimeout(5)  # the RST may not have come yet: let the read wait for it
        tap = Tap(ours)
        assert not tap.fill()
        assert tap.ended
        assert isinstance(tap.error, ConnectionResetError)
        assert tap.recv(1) == b""


def test_a_malformed_packet_is_told_behind_what_came_before_it(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    broker.sock.sendall(message(1).encode(4) + b"\x00\x00")
    tap.fill()
    packets: list[Packet] = []
    with pytest.raises(MalformedPacket):
        tap.packets(False, packets)
    assert [packet.packet_id for packet in packets] == [1]


# -- out -----------------------------------------------------------------------------------------------


def fill_up(tap: Tap, number: int = 0) -> int:
    """Write acknowledgements until the kernel takes no more. Returns the number of acknowledgements."""
    while not tap.outgoing.waits:
        tap.outgoing.write(ACK, acknowledgements=True)
        number += 1
    return number


def test_acknowledgements_leave_at_once(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    tap.outgoing.write(ACK * 3, acknowledgements=True)
    assert not tap.outgoing.waits
    assert broker.receive() == ACK * 3
    assert tap.outgoing.take_handed_over() == 3
    assert tap.outgoing.take_handed_over() == 0


def test_what_is_no_acknowledgement_is_not_counted_as_one(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    tap.outgoing.write(Ack(Kind.PUBCOMP, 1).encode(4), acknowledgements=False)
    assert broker.receive()
    assert tap.outgoing.take_handed_over() == 0


def test_only_what_the_kernel_took_counts_as_handed_over(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    written = fill_up(tap)
    assert tap.outgoing.take_handed_over() == written - 1
    assert len(broker.receive()) == (written - 1) * len(ACK)
    tap.outgoing.flush()
    assert tap.outgoing.take_handed_over() == 1
    assert not tap.outgoing.waits


class Sock:
    """A socket whose kernel takes `room[0]` bytes at the next send."""

    def __init__(self) -> None:
        self.room: list[int] = []
        self.sent = b""

    def send(self, data: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        size = min(self.room.pop(0), len(data))
        self.sent += bytes(data[:size])
        return size


@pytest.mark.parametrize(
    ("takes", "handed_over"),
    [([1], 1), ([3], 1), ([4], 1), ([5], 2), ([8], 2), ([2, 2], 1), ([2, 3], 2), ([1, 1, 1, 1, 1], 2)],
)
def test_an_acknowledgement_that_went_in_part_counts_once(takes: list[int], handed_over: int) -> None:
    sock = Sock()
    tap = Tap(sock)  # type: ignore[arg-type]
    sock.room = list(takes)
    tap.outgoing.write(ACK * 4, acknowledgements=True)
    for _ in takes:
        tap.outgoing.flush()
    assert sock.sent == (ACK * 4)[: sum(takes)]
    assert tap.outgoing.take_handed_over() == handed_over


def test_an_acknowledgement_never_lands_inside_a_packet_of_pahos() -> None:
    sock = Sock()
    tap = Tap(sock)  # type: ignore[arg-type]
    sock.room = [5]
    assert tap.send(b"SUBSCRIBE") == 5
    sock.room = [100, 100]
    tap.outgoing.write(ACK, acknowledgements=True)
    assert sock.sent == b"SUBSC"
    assert tap.send(b"RIBE") == 4
    tap.outgoing.flush()
    assert sock.sent == b"SUBSCRIBE" + ACK


def test_pahos_packet_never_lands_inside_an_acknowledgement() -> None:
    sock = Sock()
    tap = Tap(sock)  # type: ignore[arg-type]
    sock.room = [2]
    tap.outgoing.write(ACK, acknowledgements=True)
    with pytest.raises(BlockingIOError):
        tap.send(b"DISCONNECT")
    sock.room = [100, 100]
    assert tap.send(b"DISCONNECT") == 10
    assert sock.sent == ACK + b"DISCONNECT"


def test_paho_is_told_what_the_kernel_took_and_no_more(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    sent = 0
    while sent < 1_000_000:
        try:
            sent += tap.send(b"x" * 100_000)
        except BlockingIOError:
            break
    assert len(broker.receive()) == sent


def test_a_broken_connection_is_told_to_who_writes(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    broker.sock.close()
    with pytest.raises(OSError, match="Broken pipe"):
        tap.outgoing.write(ACK, acknowledgements=True)
    assert tap.outgoing.take_handed_over() == 0


# -- the end -------------------------------------------------------------------------------------------


def test_paho_cannot_close_the_socket(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    tap.close()
    tap.outgoing.write(ACK, acknowledgements=True)
    assert broker.receive() == ACK


def test_a_farewell_reads_what_still_comes_until_the_peer_has_closed_too(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    tap.outgoing.write(ACK, acknowledgements=True)
    tap.finish_sending()
    assert broker.receive() == ACK
    broker.send(message(1))
    assert not tap.discard()
    broker.sock.close()
    assert tap.discard()
    assert taken(tap) == ([], True)


def test_a_farewell_to_who_has_gone_is_over(pair: tuple[Tap, Broker]) -> None:
    tap, broker = pair
    broker.sock.close()
    tap.finish_sending()
    assert tap.discard()


# -- TLS -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key in one file."""
    path = tmp_path_factory.mktemp("tls") / "broker.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=broker"
    subprocess.run(
        [*command.split(), "-keyout", f"{path}.key", "-out", path],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    path.write_text(path.read_text() + Path(f"{path}.key").read_text())
    return path


@pytest.fixture
def tls_pair(pair: tuple[Tap, Broker], certificate: Path) -> Iterator[tuple[Tap, Broker]]:
    tap, broker = pair
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(certificate)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    ours = client.wrap_socket(tap._sock, do_handshake_on_connect=False)
    theirs = server.wrap_socket(broker.sock, server_side=True, do_handshake_on_connect=False)
    waiting = [ours, theirs]
    for _ in range(10):
        for sock in list(waiting):
            try:
                sock.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(sock)
    assert not waiting
    yield Tap(ours), Broker(theirs)
    ours.close()
    theirs.close()


def test_all_that_tls_holds_back_is_read(tls_pair: tuple[Tap, Broker]) -> None:
    tap, broker = tls_pair
    sent = [Publish(b"t", b"x" * 1000, 1, number) for number in range(1, 101)]
    packets: list[Packet] = []
    for start in range(0, 100, 20):  # more than the 16 KiB of one read with TLS
        broker.send(*sent[start : start + 20])
        while tap.fill():
            tap.packets(False, packets)
    assert [packet.packet_id for packet in packets] == list(range(1, 101))


def test_acknowledgements_leave_by_tls(tls_pair: tuple[Tap, Broker]) -> None:
    tap, broker = tls_pair
    tap.outgoing.write(ACK * 3, acknowledgements=True)
    assert broker.receive() == ACK * 3
    assert tap.outgoing.take_handed_over() == 3


def test_what_tls_could_not_write_is_not_mixed_with_what_comes_after(tls_pair: tuple[Tap, Broker]) -> None:
    tap, broker = tls_pair
    ping, pings = b"\xc0\x00", 0
    try:
        while True:
            pings += tap.send(ping) // len(ping)
    except (BlockingIOError, ssl.SSLWantWriteError):
        pass
    got = broker.receive()
    tap.outgoing.write(ACK, acknowledgements=True)
    assert tap.send(ping) == len(ping)
    tap.outgoing.flush()
    assert got + broker.receive() == ping * (pings + 1) + ACK
