"""A session's backlog: QoS 1 messages that wait at the broker for one client."""

import socket
from contextlib import closing

from tests.harness.packets import Connack, Connect, Disconnect, Frames, Publish

DEVICES = 50
SIZE = 100  # bytes of payload; it begins with the message's number
_AT_ONCE = 500  # messages that are sent before waiting for their PUBACKs
_PUBACK_BYTES = 4


def payload(number: int) -> bytes:
    return b"%-*d" % (SIZE, number)


def number_of(value: bytes | None) -> int:
    """The number of a message, from its payload. Raises ValueError for other records."""
    return int((value or b"")[:SIZE])


def topic(site: str, number: int) -> bytes:
    return b"sensors/%s/d%d/temp" % (site.encode(), number % DEVICES)


def publish(host: str, port: int, site: str, count: int) -> None:
    """Publish messages 0 to `count` - 1, and return when the broker has acknowledged all."""
    # The tests' encoder is slow, so it makes the beginning of each device's packets only once.
    tail = SIZE + 2  # the payload, and the Packet Identifier before it
    heads = [
        Publish(topic(site, device), payload(0), qos=1, identifier=1).encode(4)[:-tail]
        for device in range(DEVICES)
    ]
    with closing(connect(host, port, "bench-publisher")) as connection:
        for first in range(0, count, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, count))
            connection.sendall(
                b"".join(
                    heads[number % DEVICES] + (number - first + 1).to_bytes(2) + payload(number)
                    for number in numbers
                )
            )
            left = len(numbers) * _PUBACK_BYTES
            while left:
                left -= len(_received(connection, left))
        connection.sendall(Disconnect().encode(4))


def forget_session(host: str, port: int, client_id: str) -> None:
    """Make the broker drop this client's session."""
    with closing(connect(host, port, client_id)) as connection:
        connection.sendall(Disconnect().encode(4))


def connect(host: str, port: int, client_id: str) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=30.0)
    connection.sendall(Connect(client_id, version=4, clean_start=True).encode())
    answer = list(Frames().feed(_received(connection, 4)))
    if answer != [Connack()]:
        raise RuntimeError(f"{host}:{port} answered CONNECT with {answer}")
    return connection


def _received(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size, socket.MSG_WAITALL)
    if not data:
        raise ConnectionError("the broker closed the connection")
    return data
