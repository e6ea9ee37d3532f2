"""A broker that passes on what is published, and keeps its window: one session of QoS 1 for MQTT 5.

    python -m tests.bench.growth.window_broker HOST PORT WINDOW

mosquitto 2.0.11 lets out more than its window (feeder.py). This broker sends at most WINDOW unacknowledged
messages to its session, as EMQ does, and queues the others, in order of arrival. Whoever speaks MQTT 5 is the
session; whoever speaks MQTT 3.1.1 publishes. Nothing outlives a connection.
"""

import contextlib
import selectors
import socket
import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice

from tests.bench.peers import Place
from tests.harness.kit import ROOT
from tests.harness.packets import (
    Ack,
    Connack,
    Connect,
    Disconnect,
    Frames,
    Kind,
    Packet,
    Ping,
    Publish,
    Suback,
    Subscribe,
)
from tests.harness.process import Process

PORT = 1885  # and the next one: mosquitto and the feeder have the usual ones
_MQTT5 = 5
_IDENTIFIERS = 65535
_CHUNK = 16_384  # bytes


@contextlib.contextmanager
def running(place: Place, window: int) -> Iterator[None]:
    """Run such a broker at the place's address inside the block."""
    log = place.directory / f"{place.client_id}.broker.log"
    command = [sys.executable, "-m", __name__, place.mqtt_host, str(place.mqtt_port), str(window)]
    broker = Process(
        "window broker", command, log=log, cwd=ROOT, ready=lambda: "listening" in log.read_text()
    )
    try:
        broker.start()
        yield
    finally:
        broker.kill9()


def main(host: str, port: str, window: str) -> None:
    with socket.create_server((host, int(port))) as server:
        print("listening", flush=True)  # noqa: T201 - the bench waits for it
        WindowBroker(server, int(window)).serve()


class WindowBroker:
    def __init__(self, server: socket.socket, window: int) -> None:
        self.in_flight = 0
        self._server = server
        self._window = window
        self._queue: deque[Publish] = deque()
        self._session: socket.socket | None = None
        self._sent = 0
        self._frames: dict[socket.socket, Frames] = {}
        self._ready = selectors.DefaultSelector()
        self._ready.register(server, selectors.EVENT_READ)

    def serve(self) -> None:
        while True:
            self.turn()

    def turn(self, timeout: float | None = None) -> None:
        """Take what has come, then send as much as the window allows."""
        for key, _ in self._ready.select(timeout):
            if key.fileobj is self._server:
                connection, _ = self._server.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._frames[connection] = Frames()
                self._ready.register(connection, selectors.EVENT_READ)
            else:
                self._read(key.fileobj)  # type: ignore[arg-type] # sockets alone are registered
        self._send()

    def close(self) -> None:
        for connection in list(self._frames):
            self._forget(connection)
        self._ready.close()

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(_CHUNK)
            frames = self._frames[connection]
            answers = b"".join(
                self._answer(connection, frames, packet).encode(frames.version)
                for packet in frames.feed(data)
                if self._wants_answer(packet)
            )
            if answers:
                connection.sendall(answers)
        except ConnectionError:
            data = b""
        if not data:
            self._forget(connection)

    def _wants_answer(self, packet: Packet) -> bool:
        """Take what wants none."""
        if isinstance(packet, Ack):
            self.in_flight -= 1
        return not isinstance(packet, Ack | Disconnect)

    def _answer(self, connection: socket.socket, frames: Frames, packet: Packet) -> Packet:
        match packet:
            case Connect():
                if frames.version == _MQTT5:
                    self._session, self.in_flight = connection, 0
                return Connack()
            case Publish():
                self._queue.append(packet)
                return Ack(Kind.PUBACK, packet.identifier)
            case Subscribe():
                return Suback(Kind.SUBACK, packet.identifier, (1,) * len(packet.filters))
            case Ping():
                return Ping(Kind.PINGRESP)
        raise RuntimeError(f"nothing here sends {packet}")

    def _send(self) -> None:
        count = min(self._window - self.in_flight, len(self._queue))
        if self._session is None or count <= 0:
            return
        messages = list(islice(self._queue, count))
        packets = [
            Publish(each.topic, each.payload, 1, number % _IDENTIFIERS + 1).encode(_MQTT5)
            for number, each in enumerate(messages, self._sent)
        ]
        for _ in messages:
            self._queue.popleft()
        self._sent += count
        self.in_flight += count
        try:
            self._session.sendall(b"".join(packets))
        except ConnectionError:
            self._forget(self._session)

    def _forget(self, connection: socket.socket) -> None:
        if connection is self._session:
            self._session = None
        self._ready.unregister(connection)
        del self._frames[connection]
        connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
