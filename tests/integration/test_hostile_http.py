"""Clients that are slow, broken or hostile. After each test the page still answers, and nothing is left."""

import contextlib
import http.client
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.http import connection
from bridge.http.server import CONNECTIONS, Server
from bridge.settings import HttpSettings
from tests.harness.conditions import wait_until
from tests.harness.erlang import free_port
from tests.harness.snapshots import healthy
from tests.harness.tls import Authority, Certificate

FREE = {"share": 1.0, "saved": 60.0}  # the bound of processor time is not what most tests are about


@dataclass
class Target:
    port: int
    server: Server

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def raw(self, data: bytes) -> bytes:
        """Send `data`, and return all that comes back until the server closes."""
        with self.connect() as client:
            with contextlib.suppress(OSError):
                client.sendall(data)
            return _all(client)

    def status(self, data: bytes) -> int:
        found = re.match(rb"HTTP/1\.1 (\d+) ", self.raw(data))
        return int(found[1]) if found else 0

    def get(self, path: str = "/status.json") -> int:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(client):
            client.request("GET", path)
            answer = client.getresponse()
            answer.read()
            return answer.status


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", 0.6)
    monkeypatch.setattr(connection, "IDLE_TIMEOUT", 1.2)
    monkeypatch.setattr(connection, "WRITE_TIMEOUT", 1.0)
    monkeypatch.setattr(connection, "_LINGER", 0.2)
    port = free_port()
    server = Server(HttpSettings(listen=f"127.0.0.1:{port}"), healthy, **FREE)
    server.start()
    made = Target(port, server)
    with contextlib.closing(server):
        wait_until(lambda: _reachable(port), 10, "the server listens")
        assert made.get() == 200  # what is opened and loaded at the first request is there now
        wait_until(lambda: not server._clients, 10, "the first client is gone")
        before = _descriptors()
        yield made
        assert made.get() == 200
        wait_until(lambda: not server._clients, 10, lambda: f"no client is left: {len(server._clients)}")
        wait_until(lambda: _descriptors() <= before, 5, lambda: f"{before} descriptors, now {_descriptors()}")
    assert server._thread is not None
    assert not server._thread.is_alive()


def _with_certificate(pair: Certificate) -> Target:
    """A server that speaks TLS alone, and listens. The caller closes it."""
    port = free_port()
    settings = HttpSettings(listen=f"127.0.0.1:{port}", cert_file=pair.certificate, key_file=pair.key)
    server = Server(settings, healthy, **FREE)
    server.start()
    wait_until(lambda: _reachable(port), 10, "the server listens")
    return Target(port, server)


def _reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _resident() -> float:
    """MB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _all(client: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65536):
            parts.append(data)
    return b"".join(parts)


HOST = b"Host: localhost\r\n"
CLOSE = b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("a right one", b"GET / HTTP/1.1\r\n" + HOST + CLOSE, 200),
        ("HTTP/1.0 without a host", b"GET /livez HTTP/1.0\r\n\r\n", 200),
        ("no host", b"GET / HTTP/1.1\r\n" + CLOSE, 400),
        ("two hosts", b"GET / HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n" + CLOSE, 400),
        ("a foreign host", b"GET / HTTP/1.1\r\nHost: evil.example\r\n" + CLOSE, 403),
        ("POST with a body", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nabcd", 413),
        ("POST", b"POST / HTTP/1.1\r\n" + HOST + CLOSE, 405),
        ("GET with a body", b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n123456789", 413),
        (
            "a body in chunks",
            b"GET / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            413,
        ),
        (
            "two lengths",
            b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
        ),
        ("another path", b"GET /etc/passwd HTTP/1.1\r\n" + HOST + CLOSE, 404),
        ("a path upwards", b"GET /../../etc/passwd HTTP/1.1\r\n" + HOST + CLOSE, 404),
        ("a proxy's request", b"GET http://evil.example/ HTTP/1.1\r\n" + HOST + CLOSE, 404),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405),
        ("a header without a colon", b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n", 400),
        ("a null in a header", b"GET / HTTP/1.1\r\n" + HOST + b"a: b\0c\r\n\r\n", 400),
        ("a long header", b"GET / HTTP/1.1\r\n" + HOST + b"a: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        ("many headers", b"GET / HTTP/1.1\r\n" + HOST + b"a: b\r\n" * 2_000 + b"\r\n", 431),
        ("a long path", b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\n" + HOST + CLOSE, 431),
        ("a megabyte of nothing", b"x" * 1_000_000, 431),
        ("half a request", b"GET / HTTP/1.1\r\nHost: loc", 408),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_of_the_wrong_form_gets_its_status(
    target: Target, name: str, data: bytes, status: int
) -> None:
    assert target.status(data) == status


def test_no_answer_quotes_the_request(target: Target) -> None:
    answer = target.raw(b"GET / HTTP/1.1\r\n" + HOST + b"<script>bad\r\n\r\n")
    assert b"<script>" not in answer


def test_each_answer_has_the_headers_that_keep_other_pages_out(target: Target) -> None:
    for request in (b"GET / HTTP/1.1\r\n" + HOST + CLOSE, b"nonsense\r\n\r\n"):
        head = target.raw(request).partition(b"\r\n\r\n")[0].lower()
        assert b"content-security-policy: default-src 'none'" in head
        assert b"x-content-type-options: nosniff" in head
        assert b"access-control-allow-origin" not in head


def test_head_has_the_length_and_no_body(target: Target) -> None:
    head, _, body = target.raw(b"HEAD / HTTP/1.1\r\n" + HOST + CLOSE).partition(b"\r\n\r\n")
    assert int(re.search(rb"content-length: (\d+)", head.lower())[1]) > 500  # type: ignore[index]
    assert body == b""


def test_requests_of_one_packet_are_answered_in_order(target: Target) -> None:
    one = b"GET /livez HTTP/1.1\r\n" + HOST
    answer = target.raw(one + b"\r\n" + one.replace(b"livez", b"nix") + b"\r\n" + one + CLOSE)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"404", b"200"]


def test_slow_clients_hold_no_place_for_long(target: Target) -> None:
    with contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(target.connect()) for _ in range(3 * CONNECTIONS)]
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(b"GET / HTTP/1.1\r\nX: ")
        assert target.get() == 200  # although all places were taken
        assert len(target.server._clients) <= CONNECTIONS
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(b"a")
            answer = _all(client)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


def test_clients_that_vanish_without_a_word_are_forgotten(target: Target) -> None:
    for number in range(200):
        client = target.connect()
        if number % 2:
            client.sendall(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        if number % 3:  # RST instead of FIN
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


def test_a_client_that_closes_its_half_gets_its_answer(target: Target) -> None:
    with target.connect() as client:
        client.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        client.shutdown(socket.SHUT_WR)
        assert _all(client).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_takes_no_answers_is_left(target: Target) -> None:
    clients = []
    for _ in range(8):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", target.port))
        client.settimeout(0.3)
        with contextlib.suppress(OSError):
            for _ in range(400):
                client.sendall(b"GET /page.js HTTP/1.1\r\n" + HOST + b"\r\n")
        clients.append(client)
    wait_until(lambda: not target.server._clients, 10, "the server has left all of them")
    for client in clients:
        client.close()


def test_ten_thousand_requests_leave_nothing_behind(target: Target) -> None:
    def attack(requests: int) -> None:
        client = http.client.HTTPConnection("127.0.0.1", target.port, timeout=20)
        for number in range(requests):
            if number % 10 == 0:
                client.close()
            client.request("GET", ("/status.json", "/", "/nix", "/livez")[number % 4])
            client.getresponse().read()
        client.close()

    def rounds(requests: int) -> None:
        threads = [threading.Thread(target=attack, args=(requests // 4,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    rounds(1_000)
    before = _resident()
    rounds(9_000)
    assert _resident() - before < 2.0


def test_a_flood_costs_no_more_than_the_threads_share_of_a_core() -> None:
    share, seconds = 0.02, 4.0
    port = free_port()
    server = Server(HttpSettings(listen=f"127.0.0.1:{port}"), healthy, share=share, saved=0.0)
    server.start()
    wait_until(lambda: _reachable(port), 10, "the server listens")
    assert server._thread is not None
    assert server._thread.ident is not None
    clock = time.pthread_getcpuclockid(server._thread.ident)
    answered: list[int] = []
    over = threading.Event()

    def attack() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                answered.append(Target(port, server).get())

    threads = [threading.Thread(target=attack) for _ in range(8)]
    before = time.clock_gettime(clock)
    for thread in threads:
        thread.start()
    over.wait(seconds)
    used = time.clock_gettime(clock) - before
    over.set()
    for thread in threads:
        thread.join()
    server.close()
    assert used / seconds < 2 * share  # one answer costs a tenth of this
    assert len(answered) >= 8  # nobody is refused
    assert set(answered) == {200}


def test_a_port_in_use_is_a_warning_and_is_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = Server(HttpSettings(listen=f"127.0.0.1:{port}"), healthy, retry=0.1)
        server.start()
        lines: list[str] = []

        def logged(event: str) -> list[str]:
            lines.extend(capsys.readouterr().out.splitlines())
            return [line for line in lines if event in line]

        wait_until(lambda: logged("http.unavailable"), 5, "the warning")
    wait_until(lambda: logged("http.listening"), 5, "the address is free again, and the server has it")
    assert Target(port, server).get() == 200
    server.close()
    [warning] = logged("http.unavailable")
    assert "address already in use" in warning
    assert "set another port in http.listen" in warning


def test_an_address_of_another_machine_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(HttpSettings(listen="192.0.2.1:9464"), healthy)
    server.start()
    out: list[str] = []
    wait_until(lambda: (out.append(capsys.readouterr().out), "http.unavailable" in "".join(out))[1], 5, "it")
    server.close()
    assert "no interface of this machine has that address" in "".join(out)


def test_an_empty_address_starts_nothing() -> None:
    server = Server(HttpSettings(listen=""), healthy)
    server.start()
    assert server._thread is None
    server.close()


def test_a_thread_that_can_not_be_started_is_no_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    server = Server(HttpSettings(), healthy)
    server.start()
    server.close()
    assert "http.unavailable" in capsys.readouterr().out


def test_a_client_waits_while_all_places_are_taken_by_tls_handshakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.http.server.HEAD_TIMEOUT", 1.0)
    authority = Authority(tmp_path)
    target = _with_certificate(authority.sign("bridge", address="127.0.0.1"))
    server = target.server
    context = ssl.create_default_context(cafile=authority.certificate)
    with contextlib.closing(server), contextlib.ExitStack() as silent_ones:
        for _ in range(CONNECTIONS):
            silent_ones.enter_context(target.connect())
        wait_until(lambda: len(server._clients) == CONNECTIONS, 10, "all places are taken")
        with context.wrap_socket(target.connect(), server_hostname="127.0.0.1") as client:
            client.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + CLOSE)
            assert _all(client).startswith(b"HTTP/1.1 200 ")


def test_with_a_certificate_there_is_tls_alone_and_a_renewed_one_is_shown(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    first = authority.sign("bridge", address="127.0.0.1")
    target = _with_certificate(first)
    context = ssl.create_default_context(cafile=authority.certificate)

    def serial() -> object:
        plain = socket.create_connection(("127.0.0.1", target.port), timeout=10)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            client.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + CLOSE)
            assert _all(client).startswith(b"HTTP/1.1 200 ")
            certificate = client.getpeercert()
            assert certificate is not None
            return certificate["serialNumber"]

    before = serial()
    assert target.status(b"GET / HTTP/1.1\r\n" + HOST + CLOSE) == 0
    second = authority.sign("bridge2", address="127.0.0.1")
    second.key.replace(first.key)
    second.certificate.replace(first.certificate)
    assert serial() != before
    target.server.close()
