"""A broker of one session that keeps its window, with a backlog of QoS 1 for MQTT 5.

    python -m tests.bench.growth.feeder HOST PORT SITE COUNT DEVICES SIZE WINDOW

mosquitto 2.0.11 (Debian 12) does not keep its window for a backlog: a PUBACK lets out more than one message,
so that a window of 2 becomes one of hundreds. This broker sends at most WINDOW unacknowledged messages. The
first connection gets no message, so that the cost of the start can be measured; the second one gets all.
"""

import socket
import sys

from tests.bench.growth.load import Load, mqtt_topic
from tests.harness.packets import Ack, Connack, Connect, Frames, Kind, Ping, Publish, Suback, Subscribe

_MQTT5 = 5
_PUBACK = 0x40
_PUBACK_BYTES = 4
_PINGRESP = b"\xd0\x00"
_IDENTIFIERS = 65535


def main(host: str, port: str, site: str, count: str, devices: str, size: str, window: str) -> None:
    load = Load(int(count), devices=int(devices), size=int(size), window=int(window))
    tail = load.size + 1 + 2  # the payload, no properties, and the Packet Identifier before them
    heads = [
        Publish(mqtt_topic("sensors", site, device).encode(), load.payload(0), 1, 1).encode(_MQTT5)[:-tail]
        for device in range(load.devices)
    ]
    with socket.create_server((host, int(port))) as server:
        print("listening", flush=True)  # noqa: T201 - the bench waits for it
        for has_session in (False, True):
            connection, _ = server.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Session(connection, load, heads, has_session=has_session).serve()


class Session:
    """One connection. If it `has_session`, it gets the backlog right after its CONNACK."""

    def __init__(
        self, connection: socket.socket, load: Load, heads: list[bytes], *, has_session: bool
    ) -> None:
        self._connection = connection
        self._load = load
        self._heads = heads
        self._has_session = has_session
        self._frames = Frames(_MQTT5)
        self._sent = self._acknowledged = 0
        self._torn = 0  # bytes of a packet that is not complete yet

    def serve(self) -> None:
        """Return when the client has gone."""
        try:
            while data := self._connection.recv(262_144):
                self._take(data)
                if self._has_session:
                    self._send(min(self.room, self._load.count - self._sent))
        except ConnectionError:
            pass  # the client was killed

    @property
    def room(self) -> int:
        return self._load.window - (self._sent - self._acknowledged)

    def _take(self, data: bytes) -> None:
        pubacks, rest = divmod(len(data), _PUBACK_BYTES)
        if not self._torn and not rest and set(data[::_PUBACK_BYTES]) == {_PUBACK}:
            self._acknowledged += pubacks
            return
        for packet in self._frames.feed(data):
            match packet:
                case Connect():
                    self._answer(Connack(self._has_session))
                case Subscribe():
                    self._answer(Suback(Kind.SUBACK, packet.identifier, (1,) * len(packet.filters)))
                case Ping():
                    self._connection.sendall(_PINGRESP)
                case Ack(kind=Kind.PUBACK):
                    self._acknowledged += 1
        self._torn = len(self._frames._data)

    def _answer(self, packet: Connack | Suback) -> None:
        self._connection.sendall(packet.encode(_MQTT5))

    def _send(self, count: int) -> None:
        load, first = self._load, self._sent
        self._connection.sendall(
            b"".join(
                self._heads[number % load.devices]
                + (number % _IDENTIFIERS + 1).to_bytes(2)
                + b"\x00"
                + load.payload(number)
                for number in range(first, first + count)
            )
        )
        self._sent += count


if __name__ == "__main__":
    main(*sys.argv[1:])
