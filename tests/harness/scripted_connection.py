"""One connection of the ScriptedBroker: the test sends packets, and checks what the bridge sends.

Every wait has a deadline; its error says which packets came instead.
"""

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tests.harness.conditions import NotInTime
from tests.harness.fields import NONE, Malformed, Properties
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
    Unsubscribe,
)

DEADLINE = 10.0  # s to wait for each expected packet
DRAIN = 1.0  # s to wait for the bridge's FIN
P = TypeVar("P", bound=Packet)


class Connection:
    """`hello` is the CONNECT. Automatic answers can be switched off before the packet comes."""

    def __init__(
        self, accepted: socket.socket, changed: threading.Condition, forget: "Callable[[Connection], None]"
    ) -> None:
        self.socket = accepted
        self.hello: Connect | None = None
        self.introduced = False
        self.answers_pings = True
        self.answers_subscribe = True
        self.grants: Callable[[Subscribe], Sequence[int]] = _as_asked
        self.on_packet: Callable[[Packet], None] | None = None  # gets the packets instead of the script
        self.ended: str | None = None  # "closed by the bridge", "reset by the bridge", "closed here"
        self.malformed: Malformed | None = None
        self.received: list[Packet] = []  # all packets but CONNECT and PINGREQ
        self.pings: list[float] = []  # when PINGREQs came (monotonic, s)
        self._unread: deque[Packet] = deque()
        self._frames = Frames()
        self._changed = changed
        self._forget = forget
        self._segment: bytearray | None = None
        self._sending = threading.Lock()  # a packet leaves whole: answers come from the broker's own thread

    @property
    def version(self) -> int:
        return self._frames.version

    # -- broker to bridge ------------------------------------------------------------------------

    def connack(self, session_present: bool = False, reason: int = 0, properties: Properties = NONE) -> None:
        self.send(Connack(session_present, reason, properties).encode(self.version))

    def publish(
        self,
        topic: bytes,
        payload: bytes,
        *,
        qos: int = 0,
        identifier: int = 0,
        dup: bool = False,
        retain: bool = False,
        properties: Properties = NONE,
    ) -> None:
        packet = Publish(topic, payload, qos, identifier, dup, retain, properties)
        self.send(packet.encode(self.version))

    def pubrel(self, identifier: int) -> None:
        self.send(Ack(Kind.PUBREL, identifier).encode(self.version))

    def suback(self, subscribe: Subscribe, *reasons: int) -> None:
        self.send(Suback(Kind.SUBACK, subscribe.identifier, reasons).encode(self.version))

    def disconnect(self, reason: int) -> None:
        self.send(Disconnect(reason).encode(self.version))

    @contextlib.contextmanager
    def one_segment(self) -> Iterator[None]:
        """Send all packets of the block in one piece, so that the bridge reads them together."""
        self._segment = bytearray()
        yield
        data, self._segment = bytes(self._segment), None
        self.send(data)

    def send(self, data: bytes) -> None:
        """Send any bytes. Raises NotInTime if the bridge does not read them."""
        if self._segment is not None:
            self._segment += data
            return
        view = memoryview(data)
        with self._sending:
            while view:
                try:
                    view = view[self.socket.send(view) :]
                except BlockingIOError:
                    if not select.select([], [self.socket], [], DEADLINE)[1]:
                        raise NotInTime(f"the bridge reads {len(view)} bytes more") from None

    def close(self) -> None:
        """Send FIN after all pending data; read and discard what the bridge still sends."""
        with self._changed:
            if self.ended is not None:
                return
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
            self._changed.wait_for(lambda: self.ended is not None, DRAIN)
            if self.ended is None:
                self._end("closed here")

    def reset(self) -> None:
        """Send RST: the bridge may lose data that it has not read yet."""
        with self._changed:
            if self.ended is None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._end("closed here")

    # -- bridge to broker ----------------------------------------------------------------------------

    def expect_puback(self, identifier: int | None = None, deadline: float = DEADLINE) -> int:
        """Return the identifier of the next acknowledgement: a PUBACK (of `identifier`, if given)."""
        return self._expect_ack(Kind.PUBACK, identifier, deadline)

    def expect_pubrec(self, identifier: int | None = None, deadline: float = DEADLINE) -> int:
        return self._expect_ack(Kind.PUBREC, identifier, deadline)

    def expect_pubcomp(self, identifier: int | None = None, deadline: float = DEADLINE) -> int:
        return self._expect_ack(Kind.PUBCOMP, identifier, deadline)

    def expect_pubacks(self, identifiers: Sequence[int], deadline: float = DEADLINE) -> None:
        """Expect PUBACKs of exactly these identifiers, in this order."""
        got = [self._expect_ack(Kind.PUBACK, None, deadline) for _ in identifiers]
        assert got == list(identifiers), f"PUBACKs came for {got} instead of {list(identifiers)}"

    def expect_subscribe(self, deadline: float = DEADLINE) -> Subscribe:
        return self._expect(Subscribe, lambda packet: isinstance(packet, Subscribe), deadline)

    def expect_unsubscribe(self, deadline: float = DEADLINE) -> Unsubscribe:
        return self._expect(Unsubscribe, lambda packet: isinstance(packet, Unsubscribe), deadline)

    def expect_disconnect(self, reason: int | None = None, deadline: float = DEADLINE) -> Disconnect:
        found = self._expect(Disconnect, lambda packet: isinstance(packet, Disconnect), deadline)
        assert reason is None or found.reason == reason, f"{found}, not {reason:#04x}"
        return found

    def expect_end(self, deadline: float = DEADLINE) -> str:
        """Wait until the bridge ends the connection, and return how."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.ended, deadline):
                raise NotInTime(f"the bridge ends the connection within {deadline:g} s; {self._tell()}")
            if self.malformed is not None:
                raise self.malformed
            assert self.ended is not None
            return self.ended

    def expect_pings(self, count: int, deadline: float = DEADLINE) -> None:
        """Wait for `count` PINGREQs, counted from CONNECT."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.pings) >= count or self.ended, deadline):
                raise NotInTime(f"{count} PINGREQs within {deadline:g} s; {self._tell()}")
            assert len(self.pings) >= count, self._tell()

    def expect_silence(self, seconds: float) -> None:
        """Expect no unread packet and no end of the connection for so many seconds."""
        with self._changed:
            broken = self._changed.wait_for(lambda: self._unread or self.ended, seconds)
            assert not broken, f"not silent for {seconds:g} s: {self._tell()}"

    def _expect_ack(self, kind: Kind, identifier: int | None, deadline: float) -> int:
        found = self._expect(Ack, lambda packet: isinstance(packet, Ack), deadline)
        assert found.kind is kind, f"{kind.name} expected: {found} came; {self._tell()}"
        if identifier is not None:
            assert found.identifier == identifier, f"{kind.name} {identifier} expected: {found} came"
        return found.identifier

    def _expect(self, cls: type[P], wanted: Callable[[Packet], bool], deadline: float) -> P:
        """Take the first unread packet of that class; others stay unread."""
        with self._changed:

            def found() -> Packet | None:
                return next(filter(wanted, self._unread), None)

            self._changed.wait_for(lambda: found() or self.ended, deadline)
            packet = found()
            if not isinstance(packet, cls):
                raise NotInTime(f"{cls.__name__} within {deadline:g} s; {self._tell()}")
            self._unread.remove(packet)
            return packet

    def _tell(self) -> str:
        state = self.malformed or self.ended or "the connection is open"
        return f"unread: {list(self._unread) or 'nothing'}; {state}; last received: {self.received[-3:]}"

    # -- the broker's thread -------------------------------------------------------------------------

    def read(self) -> None:
        """Read what has arrived. Called by the broker's thread, under the lock. Raises Malformed."""
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            self._end("reset by the bridge")
            return
        if not data:
            self._end("closed by the bridge")
            return
        for packet in self._frames.feed(data):
            self._handle(packet)
            if self.ended is not None:  # a script closed the connection
                return

    def _handle(self, packet: Packet) -> None:
        answer: Suback | None = None
        match packet:
            case Connect():
                self.hello = packet
                return
            case Ping(kind=Kind.PINGREQ):
                self.pings.append(time.monotonic())
                if self.answers_pings:
                    self._answer(Ping(Kind.PINGRESP))
                return
            case Subscribe() if self.answers_subscribe:
                answer = Suback(Kind.SUBACK, packet.identifier, tuple(self.grants(packet)))
            case Unsubscribe() if self.answers_subscribe:
                answer = Suback(Kind.UNSUBACK, packet.identifier, (0,) * len(packet.filters))
            case _:
                pass
        self.received.append(packet)
        if self.on_packet is not None:
            self.on_packet(packet)
        else:
            self._unread.append(packet)
        if answer is not None:
            self._answer(answer)

    def _answer(self, packet: Suback | Ping) -> None:
        with contextlib.suppress(OSError), self._sending:  # the bridge may have closed already
            self.socket.send(packet.encode(self.version))

    def _end(self, how: str) -> None:
        self._forget(self)
        self.socket.close()
        self.ended = how
        self._changed.notify_all()


def _as_asked(subscribe: Subscribe) -> Sequence[int]:
    return [one.qos for one in subscribe.filters]
