"""Attacks the HTTP server of a bridge until it is killed: python -m tests.bench.attackers HOST PORT CORE

Slow heads, half-open connections, floods of requests, long heads, wrong methods, wrong hosts: all at once,
several hundred connections a second, of which the page's budget answers a few dozen. They stand for other
machines, so they run on a core of their own.
"""

import contextlib
import itertools
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

_FLOODS = 8  # threads that make requests, each as fast as it is answered
_PAUSE = (
    0.02  # seconds between two connections of a thread; without it the attackers' own cost would be measured
)
_SLOW = 64  # connections that send a byte a second

_HOST = b"Host: localhost\r\n"
_REQUESTS = (
    b"GET /status.json HTTP/1.1\r\n" + _HOST + b"Connection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"DELETE /status.json HTTP/1.1\r\n" + _HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n" + _HOST + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
    b"GET /status.json HTTP/1.1\r\n" + _HOST + b"\r\n" * 2,
    b"\x16\x03\x01" + b"\x00" * 200,
)


def main() -> None:
    where = sys.argv[1], int(sys.argv[2])
    os.sched_setaffinity(0, {int(sys.argv[3])})
    for attack in [*[_flood] * _FLOODS, _slow, _reset]:
        threading.Thread(target=_for_ever, args=(attack, where), daemon=True).start()
    threading.Event().wait()


def _for_ever(attack: Callable[[tuple[str, int]], None], where: tuple[str, int]) -> None:
    while True:
        with contextlib.suppress(OSError):
            attack(where)


def _flood(where: tuple[str, int]) -> None:
    for request in itertools.islice(itertools.cycle(_REQUESTS), 100):
        with contextlib.suppress(OSError), socket.create_connection(where, timeout=5) as client:
            client.sendall(request)
            while client.recv(65_536):
                pass
        time.sleep(_PAUSE)


def _slow(where: tuple[str, int]) -> None:
    with contextlib.ExitStack() as clients:
        opened = [clients.enter_context(socket.create_connection(where, timeout=5)) for _ in range(_SLOW)]
        for client in opened:
            client.sendall(b"GET / HTTP/1.1\r\nX: ")
        while True:
            time.sleep(1)
            for client in opened:
                client.sendall(b"x")


def _reset(where: tuple[str, int]) -> None:
    with socket.create_connection(where, timeout=5) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(_REQUESTS[0])
    time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
