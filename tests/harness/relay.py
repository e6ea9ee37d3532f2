"""A recording relay between the bridge and the balancer: it records what was sent, and how often.

The recording distinguishes a message that the broker never sent from one that the bridge lost, and shows how
each duplicated id was sent. The relay can also cut connections, and stall either direction.
"""

import contextlib
import enum
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from tests.harness.fields import Malformed
from tests.harness.packets import Ack, Frames, Publish
from tests.harness.verdict import id_of

_CHUNK = 1 << 16


class Towards(enum.Enum):
    BRIDGE = "bridge"
    BROKER = "broker"


@dataclass(frozen=True)
class Sighting:
    """A PUBLISH to the bridge, or an acknowledgement from it. `id` is empty in an acknowledgement."""

    at: float  # monotonic, s
    connection: int
    packet: str  # "PUBLISH", "PUBACK", ...
    identifier: int
    dup: bool = False
    qos: int = 0
    id: str = ""


class RecordingRelay:
    """Forwards a listening address to `target`. Bytes are never changed, only delayed or cut off."""

    def __init__(self, target: tuple[str, int], address: str = "127.0.0.1", port: int = 0) -> None:
        self._target = target
        self._listener = socket.create_server((address, port), backlog=64)
        self.address: str
        self.port: int
        self.address, self.port = self._listener.getsockname()
        self.sightings: list[Sighting] = []
        self.connections = 0
        self._open: set[_Carried] = set()
        self._stalled: set[Towards] = set()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._accept, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._thread.join()
        self._listener.close()
        self.cut()

    def cut(self, reset: bool = False) -> int:
        """End all connections on both sides, by FIN or by RST; returns how many there were.

        Data that a stall holds back is lost.
        """
        with self._changed:
            cut = list(self._open)
            for carried in cut:
                carried.cut(reset)
            self._changed.notify_all()
        for carried in cut:
            carried.join()
        return len(cut)

    @contextlib.contextmanager
    def stalled(self, *directions: Towards) -> Iterator[None]:
        """Pass nothing in these directions (in both if none is named); afterwards pass what waited.

        The kernel's buffers fill behind a stall, as they do behind a host that hangs.
        """
        chosen = set(directions or Towards)
        with self._changed:
            self._stalled |= chosen
        try:
            yield
        finally:
            with self._changed:
                self._stalled -= chosen
                self._changed.notify_all()

    def sent(self, name: str) -> list[Sighting]:
        """Every PUBLISH of the message with this id by the broker."""
        return [seen for seen in list(self.sightings) if seen.id == name]

    @property
    def ids(self) -> set[str]:
        """All ids that the broker sent."""
        return {seen.id for seen in list(self.sightings) if seen.id}

    @property
    def acknowledged(self) -> set[str]:
        """All ids whose PUBLISH the bridge has answered, by PUBACK or PUBREC."""
        under_way: dict[tuple[int, int], str] = {}
        found = set()
        for seen in list(self.sightings):
            if seen.id:
                under_way[seen.connection, seen.identifier] = seen.id
            elif seen.packet in ("PUBACK", "PUBREC"):
                found.add(under_way.get((seen.connection, seen.identifier), ""))
        return found - {""}

    def story(self, name: str) -> str:
        """What happened to one id, for the message of a failed assertion."""
        lines = [f"{name}:"] if (sent := self.sent(name)) else [f"{name}: the broker never sent it"]
        for seen in sent:
            acks = [
                f"{ack.packet} {ack.at - seen.at:.3f} s later"
                for ack in list(self.sightings)
                if not ack.id and ack.at >= seen.at
                if (ack.connection, ack.identifier) == (seen.connection, seen.identifier)
            ]
            lines.append(
                f"  connection {seen.connection}, identifier {seen.identifier}, QoS {seen.qos}"
                f"{', DUP' if seen.dup else ''}: {acks[0] if acks else 'never acknowledged'}"
            )
        return "\n".join(lines)

    # -- threads ---------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                bridge, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(self._target, timeout=2.0)
            except OSError:
                bridge.close()
                continue
            broker.settimeout(None)
            with self._changed:
                self.connections += 1
                carried = _Carried(self.connections, bridge, broker)
                self._open.add(carried)
            for towards in Towards:
                carried.start(threading.Thread(target=self._carry, args=(carried, towards), daemon=True))

    def _carry(self, carried: "_Carried", towards: Towards) -> None:
        """Forward one direction of one connection until that direction ends."""
        source, target = carried.ends(towards)
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                with self._changed:
                    carried.record(towards, data, self.sightings)
                    self._changed.wait_for(lambda: towards not in self._stalled or carried.was_cut)
                    if carried.was_cut:
                        break
                target.sendall(data)
        with self._changed:
            if carried.finish(target):
                self._open.discard(carried)


class _Carried:
    """One connection through the relay. Used by the threads of its two directions and of `cut`."""

    def __init__(self, number: int, bridge: socket.socket, broker: socket.socket) -> None:
        self.number = number
        self.was_cut = False
        self._bridge, self._broker = bridge, broker
        self._threads: list[threading.Thread] = []
        self._frames = {towards: Frames() for towards in Towards}
        self._legible = True
        self._running = len(Towards)
        for end in (bridge, broker):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def ends(self, towards: Towards) -> tuple[socket.socket, socket.socket]:
        """The source and the destination socket of this direction."""
        ends = (self._broker, self._bridge)
        return ends if towards is Towards.BRIDGE else ends[::-1]

    def cut(self, reset: bool) -> None:
        """Wake the threads; the last of them closes the sockets, which sends the RST."""
        self.was_cut = True
        for end in (self._bridge, self._broker):
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def finish(self, target: socket.socket) -> bool:
        """Tell the target that a direction has ended. True if it was the last direction."""
        self._running -= 1
        if self._running:
            if not self.was_cut:
                with contextlib.suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
            return False
        self._bridge.close()
        self._broker.close()
        return True

    def record(self, towards: Towards, data: bytes, sightings: list[Sighting]) -> None:
        """Record the packets that these bytes complete. Data other than MQTT is not recorded."""
        if not self._legible:
            return
        frames = self._frames[towards]
        try:
            for packet in frames.feed(data):
                now = time.monotonic()
                if isinstance(packet, Publish):
                    name = id_of(packet.payload) or ""
                    publish = Sighting(
                        now, self.number, "PUBLISH", packet.identifier, packet.dup, packet.qos, name
                    )
                    sightings.append(publish)
                elif isinstance(packet, Ack):
                    sightings.append(Sighting(now, self.number, packet.kind.name, packet.identifier))
        except Malformed:
            self._legible = False
        if towards is Towards.BROKER:
            self._frames[Towards.BRIDGE].version = frames.version  # known from CONNECT
