"""One simulated IoT device: a publisher that knows the outcome of each of its messages.

It does not use paho, which resends after a reconnect: such a resend is a new message for EMQ, and the verdict
would count it as duplicated by the bridge. A device here abandons its unacknowledged messages when its
connection ends.
"""

import contextlib
import errno
import os
import random
import selectors
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from tests.harness.fields import Malformed
from tests.harness.packets import Ack, Connack, Connect, Disconnect, Frames, Kind, Packet, Publish

NO_MATCHING_SUBSCRIBERS = 0x10  # MQTT 5, 3.4.2.1: the broker took the message, and nobody subscribes


@dataclass
class Tally:
    """What publishers know of their messages, as ids "<device>-<number>".

    Only the devices' thread writes here. Other threads may take lengths and copies (`set.copy` is atomic in
    the interpreter), but must not iterate.
    """

    acked: set[str] = field(default_factory=set)  # QoS 1: PUBACK seen, QoS 2: PUBCOMP seen
    unknown: set[str] = field(default_factory=set)  # unacknowledged when the connection ended: abandoned
    unmatched: set[str] = field(default_factory=set)  # MQTT 5: acknowledged with "nobody subscribes"
    refused: set[str] = field(default_factory=set)  # MQTT 5: acknowledged with an error
    sent0: set[str] = field(default_factory=set)  # QoS 0: nothing is promised
    connects: int = 0  # CONNACKs that accepted
    skipped: int = 0  # sending times at which no device could send

    @property
    def sent(self) -> int:
        """How many messages were written to a socket and have an outcome."""
        return sum(map(len, (self.acked, self.unknown, self.unmatched, self.refused, self.sent0)))

    @classmethod
    def of_all(cls, tallies: Iterable["Tally"]) -> "Tally":
        """Merge the tallies of devices that have stopped."""
        whole = cls()
        for tally in tallies:
            for each in fields(cls):
                mine, theirs = getattr(whole, each.name), getattr(tally, each.name)
                setattr(whole, each.name, mine | theirs if isinstance(mine, set) else mine + theirs)
        return whole


class Device:
    """Publishes over one non-blocking connection, with its own client id. Reconnects after a loss."""

    WINDOW = 20  # unacknowledged messages, as many as small clients keep
    PATIENCE = 15.0  # s without the expected answer until the connection is given up

    def __init__(
        self,
        name: str,
        address: tuple[str, int],
        version: int,
        topic: str,
        qos: int,
        tally: Tally,
        credentials: tuple[str, str] | None = None,
    ) -> None:
        self.name, self.topic, self.qos = name, topic, qos
        self._address, self._version, self._tally = address, version, tally
        self._credentials = credentials
        self._socket: socket.socket | None = None
        self._events = 0  # events that are registered with the selector
        self._frames = Frames(version)
        self._outgoing = bytearray()
        self._unacked: dict[int, str] = {}  # Packet Identifier -> id, oldest first
        self._unmatched: set[int] = set()  # QoS 2: identifiers whose PUBREC said that nobody subscribes
        self._sequence = 0
        self._waiting_since = 0.0  # since when the oldest missing answer is awaited
        self._retry_delay = 0.1
        self.retry_at = 0.0  # when to connect again, while there is no connection
        self._accepted = False  # CONNACK seen

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def ready(self) -> bool:
        """Whether the device may publish now."""
        return self._accepted and len(self._unacked) < self.WINDOW

    @property
    def outstanding(self) -> int:
        return len(self._unacked)

    def connect(self, selector: selectors.BaseSelector, now: float) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._frames = Frames(self._version)
        self._waiting_since = now
        self._events = selectors.EVENT_READ | selectors.EVENT_WRITE  # writable: connected
        selector.register(self._socket, self._events, self)
        failed = self._socket.connect_ex(self._address)
        username, password = self._credentials or (None, None)
        connect = Connect(
            f"device-{self.name}", self._version, keepalive=0, username=username, password=password
        )
        self._outgoing[:] = connect.encode()
        if failed not in (0, errno.EINPROGRESS):
            self.lost(selector, now)

    def publish(self, size: int, selector: selectors.BaseSelector, now: float) -> None:
        """Publish one message whose payload is its id, padded to `size` bytes."""
        self._sequence += 1
        name = f"{self.name}-{self._sequence}"
        identifier = (self._sequence - 1) % 0xFFFF + 1 if self.qos else 0
        payload = f"{name} ".encode().ljust(size, b".")
        if self.qos:
            if not self._unacked:
                self._waiting_since = now
            self._unacked[identifier] = name
        else:
            self._tally.sent0.add(name)
        self._outgoing += Publish(self.topic.encode(), payload, self.qos, identifier).encode(self._version)
        self.write(selector, now)

    def write(self, selector: selectors.BaseSelector, now: float) -> None:
        """Send waiting bytes; ask the selector for writability only while bytes wait."""
        assert self._socket is not None
        try:
            del self._outgoing[: self._socket.send(self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self.lost(selector, now)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
        if events != self._events:
            selector.modify(self._socket, events, self)
            self._events = events

    def read(self, selector: selectors.BaseSelector, now: float) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError(os.strerror(errno.ECONNRESET))
            for packet in self._frames.feed(data):
                self._handle(packet, now)
        except BlockingIOError:
            return
        except (OSError, Malformed):
            self.lost(selector, now)
            return
        if self._outgoing:
            self.write(selector, now)

    def _handle(self, packet: Packet, now: float) -> None:
        self._waiting_since = now
        match packet:
            case Connack(reason=0):
                self._accepted, self._retry_delay = True, 0.1
                self._tally.connects += 1
            case Ack(kind=Kind.PUBREC, reason=reason) if reason < 0x80:
                if reason == NO_MATCHING_SUBSCRIBERS:  # PUBCOMP does not repeat the reason
                    self._unmatched.add(packet.identifier)
                self._outgoing += Ack(Kind.PUBREL, packet.identifier).encode(self._version)
            case Ack(kind=Kind.PUBACK | Kind.PUBREC | Kind.PUBCOMP):
                name = self._unacked.pop(packet.identifier)
                self._outcome(packet).add(name)
            case _:  # CONNACK that refuses, DISCONNECT
                raise ConnectionError(f"{packet}")

    def _outcome(self, ack: Ack) -> set[str]:
        if ack.reason == NO_MATCHING_SUBSCRIBERS or ack.identifier in self._unmatched:
            self._unmatched.discard(ack.identifier)
            return self._tally.unmatched
        return self._tally.refused if ack.reason >= 0x80 else self._tally.acked

    def is_stuck(self, now: float) -> bool:
        """Whether the device has waited too long for CONNACK or an acknowledgement."""
        awaits = self.connected and (not self._accepted or bool(self._unacked))
        return awaits and now - self._waiting_since > self.PATIENCE

    def lost(self, selector: selectors.BaseSelector, now: float) -> None:
        """The connection is lost: abandon unacknowledged messages, and reconnect soon."""
        assert self._socket is not None
        selector.unregister(self._socket)
        self._socket.close()
        self._socket = None
        self._accepted = False
        self._outgoing.clear()
        self._tally.unknown.update(self._unacked.values())
        self._unacked.clear()
        self._unmatched.clear()
        self.retry_at = now + random.uniform(self._retry_delay / 2, self._retry_delay)
        self._retry_delay = min(self._retry_delay * 2, 2.0)

    def leave(self, selector: selectors.BaseSelector, now: float) -> None:
        """Send DISCONNECT and close."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send(Disconnect().encode(self._version))
            self.lost(selector, now)
