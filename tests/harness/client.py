"""An MQTT client that does nothing by itself: no acknowledgement, no ping, no reconnect."""

import contextlib
import select
import socket
from collections import deque
from typing import Self, TypeVar

from tests.harness.brokers import MQTT, Credentials
from tests.harness.fields import Property
from tests.harness.packets import (
    Ack,
    Connack,
    Connect,
    Filter,
    Frames,
    Kind,
    Packet,
    Publish,
    Suback,
    Subscribe,
    Unsubscribe,
)

P = TypeVar("P", bound=Packet)

_PATIENCE = 10.0  # seconds to wait for each answer
_PARTING = 2.0  # seconds to wait for the broker to close its side


class Client:
    """Connects when it is constructed; `connack` is the broker's answer. The session expires after an hour.

    A context manager: at its end the connection is closed without a DISCONNECT. Raises TimeoutError if an
    answer does not come, ConnectionError if the broker has closed.
    """

    def __init__(
        self,
        address: str,
        client_id: str,
        *,
        version: int = 5,
        credentials: Credentials | None = None,
        clean_start: bool = False,
        unsubscribe: str = "",
    ) -> None:
        """`unsubscribe` is sent in one piece with CONNECT: whoever has the session is not back before it."""
        self.version = version
        username, password = credentials or (None, None)
        properties = {Property.SESSION_EXPIRY: 3600} if version == 5 else {}
        self._frames = Frames(version)
        self._came: deque[Packet] = deque()
        self._socket = socket.create_connection((address, MQTT), timeout=_PATIENCE)
        connect = Connect(
            client_id,
            version,
            clean_start=clean_start,
            username=username,
            password=password,
            properties=properties,
        )
        behind = Unsubscribe(1, (unsubscribe,)).encode(version) if unsubscribe else b""
        try:
            self._socket.sendall(connect.encode() + behind)
            self.connack = self.expect(Connack)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the broker hangs, or is gone
            self._socket.settimeout(_PARTING)
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(65536):  # until the broker has closed its side too
                pass
        self._socket.close()

    def send(self, packet: Publish | Ack | Subscribe) -> None:
        self._socket.sendall(packet.encode(self.version))

    def receive(self) -> Packet:
        """Return the next packet."""
        while not self._came:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the broker has closed the connection")
            self._came.extend(self._frames.feed(data))
        return self._came.popleft()

    def has_packet(self, within: float) -> bool:
        """Whether a packet is there, or the broker sends something within so many seconds."""
        return bool(self._came) or bool(select.select([self._socket], [], [], within)[0])

    def expect(self, kind: type[P]) -> P:
        """Return the next packet, which must be of this class."""
        packet = self.receive()
        assert isinstance(packet, kind), packet
        return packet

    def expect_ack(self, kind: Kind, identifier: int) -> None:
        ack = self.expect(Ack)
        assert (ack.kind, ack.identifier) == (kind, identifier), ack

    # -- whole exchanges ---------------------------------------------------------------------------

    def subscribe(self, topic_filter: str, qos: int) -> None:
        self.send(Subscribe(1, (Filter(topic_filter, qos),)))
        assert self.expect(Suback).reasons == (qos,)

    def publish(self, topic: str, payload: bytes, qos: int, identifier: int = 1) -> None:
        """Publish, and return when the broker has acknowledged the message completely."""
        self.send(Publish(topic.encode(), payload, qos, identifier))
        if qos == 1:
            self.expect_ack(Kind.PUBACK, identifier)
        if qos == 2:
            self.expect_ack(Kind.PUBREC, identifier)
            self.send(Ack(Kind.PUBREL, identifier))
            self.expect_ack(Kind.PUBCOMP, identifier)

    def acknowledge(self, publish: Publish) -> None:
        if publish.qos == 1:
            self.send(Ack(Kind.PUBACK, publish.identifier))
        if publish.qos == 2:
            self.send(Ack(Kind.PUBREC, publish.identifier))
            self.expect_ack(Kind.PUBREL, publish.identifier)
            self.send(Ack(Kind.PUBCOMP, publish.identifier))


def take_session(address: str, client_id: str, credentials: Credentials | None = None) -> Client:
    """A client that has had the session of another one: its CONNACK has come.

    The owner takes the session back at once, on some brokers before they have answered this client; then
    another one tries. Raises AssertionError after ten.
    """
    for _ in range(9):
        with contextlib.suppress(AssertionError, ConnectionError):
            return Client(address, client_id, credentials=credentials)
    return Client(address, client_id, credentials=credentials)
