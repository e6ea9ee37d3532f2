"""A proxy between a client and Kafka that delays, drops and repeats what a transaction depends on.

One listener for each broker, which advertises the proxy's address to its clients (`PROPERTIES`). The proxy
reads the header of each request, so that it knows what each answer is for (Kafka protocol guide, "Protocol
Primitives" and "Messages"). Other requests pass unchanged.
"""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum
from random import Random
from typing import Self

from tests.harness.host import Host

FOR_PROXY, ADVERTISED = 9091, 9192
# A listener of its own, because brokers must reach each other without the proxy.
PROPERTIES = f"""
listeners=PLAINTEXT://${{address}}:9092,CONTROLLER://${{address}}:9093,PROXY://${{address}}:{FOR_PROXY}
advertised.listeners=PLAINTEXT://${{address}}:9092,PROXY://${{address}}:{ADVERTISED}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXY:PLAINTEXT
"""
PRODUCE, INIT_PRODUCER_ID, ADD_PARTITIONS, ADD_OFFSETS, END_TXN, TXN_OFFSET_COMMIT = 0, 22, 24, 25, 26, 28
OF_TRANSACTIONS = (PRODUCE, INIT_PRODUCER_ID, ADD_PARTITIONS, ADD_OFFSETS, END_TXN, TXN_OFFSET_COMMIT)
_SIZE = struct.Struct(">i")
_REQUEST = struct.Struct(">hhi")  # api_key, api_version, correlation_id


class Fault(Enum):
    ANSWER_DELAYED = "the answer comes later, within the client's patience"
    ANSWER_LATE = "the answer comes when the client has given up"
    ANSWER_LOST = "the request arrives, and the connection ends before the answer"
    ANSWER_DROPPED = "the request arrives, and no answer comes"
    ANSWER_TWICE = "the answer comes twice"
    REQUEST_LOST = "the connection ends before the request arrives"
    REQUEST_LATE = "the connection ends, and the request arrives later all the same"


class KafkaProxy:
    """`chance`: of each request of a transaction, one in so many meets a fault. `faults` counts them.

    `requests` counts requests by api_key. Set `chance` to 0 to let all pass. `next`: the fault that the next
    request with this api_key meets. `rate`: bytes/s that all requests together take on their way, if any.
    """

    def __init__(
        self, hosts: Sequence[Host], seed: int, chance: float = 0.0, rate: float | None = None
    ) -> None:
        self._rate = rate
        self._line_is_free_at = 0.0
        self.chance = chance
        self.faults: Counter[tuple[int, Fault]] = Counter()
        self.requests: Counter[int] = Counter()
        self.next: dict[int, Fault] = {}
        self._random = Random(seed)
        self._lock = threading.Lock()
        self._hosts = hosts
        self._listeners: list[socket.socket] = []
        self._open: set[socket.socket] = set()
        self._ends = False

    @property
    def bootstrap(self) -> str:
        return ",".join(f"{host.address}:{ADVERTISED}" for host in self._hosts)

    def __enter__(self) -> Self:
        for host in self._hosts:
            listener = socket.create_server((host.address, ADVERTISED), backlog=64)
            self._listeners.append(listener)
            threading.Thread(target=self._accept, args=(listener, host), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            ends = list(self._open)
        for sock in ends:
            _end(sock)

    def draw(self, api: int) -> Fault | None:
        """Which fault the request meets."""
        with self._lock:
            self.requests[api] += 1
            if fault := self.next.pop(api, None):
                self.faults[api, fault] += 1
                return fault
            if api not in OF_TRANSACTIONS or self._random.random() >= self.chance:
                return None
            fault = self._random.choice(list(Fault))
            self.faults[api, fault] += 1
            return fault

    def carry(self, size: int) -> None:
        """Return once a request of this size is over the line."""
        if self._rate is None:
            return
        with self._lock:
            self._line_is_free_at = max(self._line_is_free_at, time.monotonic()) + size / self._rate
            wait = self._line_is_free_at - time.monotonic()
        time.sleep(wait)

    def seconds(self, least: float, most: float) -> float:
        with self._lock:
            return self._random.uniform(least, most)

    def _accept(self, listener: socket.socket, host: Host) -> None:
        while not self._ends:
            with suppress(OSError):
                client, _ = listener.accept()
                try:
                    broker = socket.create_connection((host.address, FOR_PROXY), 2.0)
                except OSError:
                    _end(client)
                    continue
                broker.settimeout(None)
                with self._lock:
                    self._open |= {client, broker}
                _Carried(self, client, broker).start()


class _Carried:
    """One connection of a client, and the one to its broker."""

    def __init__(self, proxy: KafkaProxy, client: socket.socket, broker: socket.socket) -> None:
        self._proxy = proxy
        self._client, self._broker = client, broker
        self._expected: dict[int, Fault] = {}  # by correlation id
        self._mutes = False

    def start(self) -> None:
        for carry in (self._requests, self._answers):
            threading.Thread(target=carry, daemon=True).start()

    def _requests(self) -> None:
        with suppress(OSError):
            while frame := _frame(self._client):
                self._proxy.carry(len(frame))
                api, _, correlation = _REQUEST.unpack_from(frame, _SIZE.size)
                fault = self._proxy.draw(api)
                if fault is Fault.REQUEST_LOST:
                    break
                if fault is Fault.REQUEST_LATE:
                    self._mutes = True
                    _end(self._client)
                    time.sleep(self._proxy.seconds(0.0, 3.0))
                    self._broker.sendall(frame)
                    time.sleep(self._proxy.seconds(0.5, 2.0))
                    break
                if fault:
                    self._expected[correlation] = fault
                self._broker.sendall(frame)
        _end(self._client)
        _end(self._broker)

    def _answers(self) -> None:
        with suppress(OSError):
            while frame := _frame(self._broker):
                (correlation,) = _SIZE.unpack_from(frame, _SIZE.size)
                fault = self._expected.pop(correlation, None)
                if self._mutes or fault is Fault.ANSWER_DROPPED:
                    continue
                if fault is Fault.ANSWER_LOST:
                    break
                if fault is Fault.ANSWER_DELAYED:
                    time.sleep(self._proxy.seconds(0.05, 3.0))
                elif fault is Fault.ANSWER_LATE:
                    time.sleep(self._proxy.seconds(4.5, 7.0))
                self._client.sendall(frame)
                if fault is Fault.ANSWER_TWICE:
                    self._client.sendall(frame)
        if not self._mutes:
            _end(self._client)
            _end(self._broker)


def _frame(sock: socket.socket) -> bytes:
    """The next request or answer with its size; empty: the connection has ended."""
    head = _read(sock, _SIZE.size)
    if not head:
        return b""
    (size,) = _SIZE.unpack(head)
    body = _read(sock, size)
    return head + body if body else b""


def _read(sock: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(size - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def _end(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
