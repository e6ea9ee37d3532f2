"""The stream of bytes to the broker: PUBACK, PUBREC and PUBCOMP leave here, and so do paho's packets.

One object writes both, so an acknowledgement never lands inside a packet of paho, nor the other way round.
"""

import socket
import ssl
from collections import deque

from bridge.mqtt.packet_codec import ACKNOWLEDGEMENT_BYTES

NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Waiting:
    """Bytes to send, and how many of them the kernel has taken."""

    __slots__ = ("acknowledgements", "data", "taken")

    def __init__(self, data: bytes, acknowledgements: bool, taken: int) -> None:
        self.data, self.acknowledgements = data, acknowledgements
        self.taken = taken


class Outgoing:
    """The sending side of a connected, non-blocking socket, plain or TLS.

    Every method but `take_handed_over` raises OSError when the connection broke.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._waiting: deque[_Waiting] = deque()
        self._inside_a_packet = False  # the kernel took only a part of paho's last packet
        self._handed_over = 0
        self.error: OSError | None = None  # why the connection broke, where sending found out

    @property
    def waits(self) -> bool:
        """Whether bytes of the bridge wait for the kernel."""
        return bool(self._waiting)

    def write(self, data: bytes, acknowledgements: bool) -> bool:
        """Send `data` after the bytes that wait already. True: nothing waits.

        `acknowledgements`: `data` is PUBACKs and PUBRECs alone.
        """
        taken = 0
        if not self._waiting and not self._inside_a_packet:  # nearly always: the kernel takes all at once
            try:
                taken = self._sock.send(data)
            except NOT_NOW:
                pass
            except OSError as error:
                self.error = self.error or error
                raise
            if acknowledgements:
                self._handed_over += -(-taken // ACKNOWLEDGEMENT_BYTES)
        if taken < len(data):
            self._waiting.append(_Waiting(data, acknowledgements, taken))
            if taken:
                self.flush()
        return not self._waiting

    def flush(self) -> None:
        """Send waiting bytes, as far as the kernel takes them."""
        waiting = self._waiting
        while waiting and not self._inside_a_packet:
            first = waiting[0]
            try:
                taken = self._sock.send(first.data[first.taken :] if first.taken else first.data)
            except NOT_NOW:
                return
            except OSError as error:
                self.error = self.error or error
                raise
            if first.acknowledgements:
                begun = -(-first.taken // ACKNOWLEDGEMENT_BYTES)
                self._handed_over += -(-(first.taken + taken) // ACKNOWLEDGEMENT_BYTES) - begun
            first.taken += taken
            if first.taken == len(first.data):
                waiting.popleft()

    def send_of_paho(self, data: bytes | bytearray) -> int:
        """Send a packet of paho, or its rest. Returns how many bytes the kernel took.

        Raises BlockingIOError where the kernel takes none now, or the bridge's own bytes must leave first.
        """
        if not self._inside_a_packet:
            self.flush()
            if self._waiting:
                raise BlockingIOError
        try:
            taken = self._sock.send(data)
        except NOT_NOW:
            # TLS may have encrypted these bytes already: paho must send the same bytes again, before others.
            self._inside_a_packet |= isinstance(self._sock, ssl.SSLSocket)
            raise
        except OSError as error:  # paho keeps only that there was one
            self.error = self.error or error
            raise
        self._inside_a_packet = taken < len(data)
        return taken

    def take_handed_over(self) -> int:
        """Return how many acknowledgements the kernel has taken since the last call, in whole or in part."""
        handed_over, self._handed_over = self._handed_over, 0
        return handed_over
