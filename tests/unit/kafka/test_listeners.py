"""What answers at several addresses: all are asked at once, since one that hangs takes seconds."""

import socket
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from bridge.kafka import listeners
from bridge.loop import start_thread

CONNECT, CONNACK = 0x10, bytes([0x20, 2, 0, 0])


@pytest.fixture
def open_ports() -> Iterator[list[socket.socket]]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    yield servers
    for server in servers:
        server.close()


def test_all_are_asked_at_once(open_ports: list[socket.socket]) -> None:
    all_are_asked = threading.Barrier(len(open_ports), timeout=2.0)

    def be_mqtt(server: socket.socket) -> None:
        server.accept()[0].close()
        all_are_asked.wait()  # one after another would break it
        while True:
            connection, _ = server.accept()
            with connection:
                if connection.recv(64)[0] == CONNECT:
                    connection.sendall(CONNACK)
                    return

    for server in open_ports:
        start_thread(partial(be_mqtt, server), "server")
    asked = [f"127.0.0.1:{server.getsockname()[1]}" for server in open_ports]
    found = listeners.look_at_all(asked)
    assert list(found) == asked
    assert all(listener and listener.is_mqtt for listener in found.values())


def test_one_that_hangs_is_none(open_ports: list[socket.socket]) -> None:
    hangs = f"127.0.0.1:{open_ports[0].getsockname()[1]}"  # the kernel takes the connection, nobody reads
    assert listeners.look_at_all([hangs]) == {hangs: None}
