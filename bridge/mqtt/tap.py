"""The tap: an object between the socket and paho, which paho uses as its socket.

The tap takes PUBLISH and PUBREL off the incoming stream for the bridge, and gives every other packet to paho,
in the pieces in which paho reads. Paho would need 50 µs for each message, and paho can't delay PUBREC until
the message is safe (docs/decisions/0001-publish-goes-round-paho.md).

The tap keeps the order of the stream: it stops at a packet for paho until paho has read the packet, so the
bridge handles no PUBLISH before the CONNACK in front of it. What leaves is outgoing.py's.
"""

import socket
import ssl

from bridge.errors import without_frames
from bridge.message import Packet
from bridge.mqtt import packet_codec
from bridge.mqtt.outgoing import NOT_NOW, Outgoing

# Bytes. A plain socket that gives so few at once is empty: the message came alone, and looking whether there
# is more would cost as much as reading it did.
_A_FEW = 4096
# Bytes of one read from the kernel: after a read that brought few, and after one that brought more. Memory
# for a long read can cost more than the read of a message. With TLS a read returns at most 16 KiB.
_SHORT, _LONG = 8 * 1024, 256 * 1024


class Tap:
    """A connected, non-blocking socket, plain or TLS, whose PUBLISH and PUBREL packets go to the bridge.

    The methods under "for paho" are those of paho's SocketLike protocol.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        # A read of TLS ends with a record of TLS, and tells nothing about what follows.
        self._few = 0 if isinstance(sock, ssl.SSLSocket) else _A_FEW
        self._chunk = _SHORT
        self.outgoing = Outgoing(sock)
        self.is_drained = False  # the last read has taken all there was, but perhaps not the stream's end
        self._data = b""
        self._position = 0
        self._begun = bytearray()  # parts of an incomplete packet; joined once, when the packet is complete
        self.missing = 0  # bytes of the incomplete packet that have not come yet
        self._for_paho = b""
        self._ended = False
        self.error: OSError | None = None  # why the stream ended; None after the peer's FIN
        self._heard = False
        self.bytes_read = 0

    # -- for paho ------------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        if self._for_paho:
            taken, self._for_paho = self._for_paho[:size], self._for_paho[size:]
            return taken
        if self._ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        return self.outgoing.send_of_paho(data)

    def pending(self) -> int:
        return len(self._for_paho)

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Do nothing: the session closes the socket itself, see `finish_sending` and `close_socket`."""

    # -- for the connection --------------------------------------------------------------------------

    def fill(self) -> bool:
        """Read from the socket once. False: there is nothing more to read now, or the stream has ended."""
        try:
            chunk = self._sock.recv(self._chunk)
        except NOT_NOW:
            return False
        except OSError as error:
            self.error = without_frames(error)
            chunk = b""
        if not chunk:
            self._ended = True
            return False
        self._heard = True
        size = len(chunk)
        self.bytes_read += size
        self.is_drained = size <= self._few
        self._chunk = _SHORT if size <= _A_FEW else _LONG
        if self.missing > size:
            self._begun += chunk
            self.missing -= size
        elif self.missing:
            self._data = b"".join((self._begun, chunk))
            self._begun, self.missing = bytearray(), 0
        else:
            self._data = self._data[self._position :] + chunk if self._data else chunk
            self._position = 0
        return True

    def packets(self, mqtt5: bool, into: list[Packet]) -> bool:
        """Append the packets that came to `into`, up to a packet for paho. True: paho has something to read.

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
                self.missing = wanted - len(self._begun)
            if wanted or self._position == len(self._data):
                # Drop the buffer at once: else a large message would be in memory twice.
                self._data, self._position = b"", 0
        return self._ended

    def take_heard(self) -> bool:
        """Whether any byte has come since the last call."""
        heard, self._heard = self._heard, False
        return heard

    @property
    def head(self) -> int | None:
        """The first byte of the next packet that was read from the socket; None: there is none."""
        return self._data[self._position] if self._position < len(self._data) else None

    @property
    def ended(self) -> bool:
        return self._ended

    def finish_sending(self) -> None:
        """Send FIN: the bytes before it still arrive. A close with unread data would send RST instead."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._ended = True

    def discard(self) -> bool:
        """Read and drop incoming bytes. True: the peer has closed its side too."""
        while not self._ended and self.fill():
            self._data, self._position, self.missing = b"", 0, 0
            self._begun.clear()
        return self._ended

    def close_socket(self) -> None:
        self._sock.close()
