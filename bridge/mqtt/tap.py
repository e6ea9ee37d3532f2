"""The tap: what stands between the socket and paho.

To paho it is a socket. It takes PUBLISH and PUBREL off the incoming stream for the bridge, and leaves
every other packet to paho, byte by byte as paho reads. Paho's own way would cost 50 µs a message, and
can't hold back PUBREC (docs/decisions/0001-publish-goes-round-paho.md).

Strictly first in, first out: it stops at a packet of paho's until paho has consumed it, so that no
PUBLISH is judged before the CONNACK in front of it. It owns the one outgoing stream, so that an
acknowledgement never lands inside a packet of paho's.
"""

import socket
import ssl
from collections import deque

from bridge.message import Packet
from bridge.mqtt import packet_codec
from bridge.mqtt.packet_codec import ACKNOWLEDGEMENT_BYTES

_CHUNK = 256 * 1024  # bytes asked of the kernel at once; TLS gives at most 16 KiB a call
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Outgoing:
    """Bytes for the kernel, and how many of them went."""

    __slots__ = ("acknowledgements", "data", "taken")

    def __init__(self, data: bytes, acknowledgements: bool) -> None:
        self.data, self.acknowledgements = data, acknowledgements
        self.taken = 0


class Tap:
    """A connected, non-blocking socket, plain or TLS, with PUBLISH and PUBREL taken off.

    The lower-case methods that paho calls are those of its SocketLike protocol.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = b""
        self._position = 0
        self._begun = bytearray()  # a packet that is not complete: joined once it is, not at each read
        self._missing = 0  # bytes of it still to come
        self._for_paho = b""
        self._ended = False
        self._outgoing: deque[_Outgoing] = deque()
        self._inside_a_packet = False  # the kernel took only a part of paho's last one
        self._handed_over = 0
        self.error: OSError | None = None  # why the stream ended, unless by the peer's FIN

    # -- what paho sees ------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        if self._for_paho:
            taken, self._for_paho = self._for_paho[:size], self._for_paho[size:]
            return taken
        if self._ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        if not self._inside_a_packet:
            self._flush()
            if self._outgoing:
                raise BlockingIOError
        try:
            taken = self._sock.send(data)
        except _NOT_NOW:
            # TLS has taken the bytes all the same: it wants them again, before any others.
            self._inside_a_packet |= isinstance(self._sock, ssl.SSLSocket)
            raise
        self._inside_a_packet = taken < len(data)
        return taken

    def pending(self) -> int:
        return len(self._for_paho)

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Paho is done. The session closes the socket itself, see `finish_sending`."""

    # -- what the session sees -----------------------------------------------------------------------

    def fill(self) -> bool:
        """Read once. False: there is nothing more to read for now."""
        try:
            chunk = self._sock.recv(_CHUNK)
        except _NOT_NOW:
            return False
        except OSError as error:
            self.error = error
            chunk = b""
        if not chunk:
            self._ended = True
            return False
        if self._missing > len(chunk):
            self._begun += chunk
            self._missing -= len(chunk)
        elif self._missing:
            self._data = b"".join((self._begun, chunk))
            self._begun, self._missing = bytearray(), 0
        else:
            self._data = self._data[self._position :] + chunk
            self._position = 0
        return True

    def packets(self, mqtt5: bool, into: list[Packet]) -> bool:
        """Append what came to `into`, up to a packet of paho's. True: paho has something to read.

        Raises MalformedPacket.
        """
        if self._for_paho:
            return True
        if self._position < len(self._data):
            self._position, control, wanted = packet_codec.read(self._data, self._position, mqtt5, into)
            if control:
                end = self._position + control
                self._for_paho = self._data[self._position : end]
                self._position = end
                return True
            if wanted:
                self._begun += self._data[self._position :]
                self._missing = wanted - len(self._begun)
            if wanted or self._position == len(self._data):  # a large message is not held twice
                self._data, self._position = b"", 0
        return self._ended

    @property
    def head(self) -> int | None:
        """The first byte that was not taken yet."""
        return self._data[self._position] if self._position < len(self._data) else None

    def write(self, data: bytes, acknowledgements: bool) -> None:
        """Send `data` behind what waits already. Raises OSError when the connection broke."""
        self._outgoing.append(_Outgoing(data, acknowledgements))
        self._flush()

    def flush(self) -> None:
        """The kernel has room again. Raises OSError when the connection broke."""
        self._flush()

    def take_handed_over(self) -> int:
        """How many acknowledgements the kernel has taken since the last call, in whole or in part."""
        handed_over, self._handed_over = self._handed_over, 0
        return handed_over

    @property
    def wants_write(self) -> bool:
        return bool(self._outgoing)

    @property
    def ended(self) -> bool:
        return self._ended

    def finish_sending(self) -> None:
        """FIN: what was sent will arrive, which a close with unread data (RST) would not promise."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._ended = True

    def discard(self) -> bool:
        """Read and drop. True: the peer has closed its side too."""
        while not self._ended and self.fill():
            self._data, self._position, self._missing = b"", 0, 0
            self._begun.clear()
        return self._ended

    def close_socket(self) -> None:
        self._sock.close()

    # ------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        outgoing = self._outgoing
        while outgoing and not self._inside_a_packet:
            first = outgoing[0]
            try:
                taken = self._sock.send(first.data[first.taken :] if first.taken else first.data)
            except _NOT_NOW:
                return
            if first.acknowledgements:
                begun = -(-first.taken // ACKNOWLEDGEMENT_BYTES)
                self._handed_over += -(-(first.taken + taken) // ACKNOWLEDGEMENT_BYTES) - begun
            first.taken += taken
            if first.taken == len(first.data):
                outgoing.popleft()
