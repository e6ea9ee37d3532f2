"""One connection to the broker, from CONNECT to close: the tap, and the paho client that uses the tap.

The connection reads, writes and closes. The session decides when, and what the packets mean.
"""

import errno
import socket
from collections.abc import Callable

from paho.mqtt.reasoncodes import ReasonCode

from bridge.errors import MalformedPacket
from bridge.message import Packet
from bridge.mqtt import reasons
from bridge.mqtt.client import TappedClient
from bridge.mqtt.connector import tls_names, why
from bridge.mqtt.rival import End
from bridge.mqtt.tap import Tap
from bridge.settings import MqttSettings
from bridge.tls.failures import explain

_SILENCE = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH}  # nothing was heard of the peer
CLOSED_BY_PEER = "the peer closed the connection (FIN), without DISCONNECT"
_READS_PER_TURN = 4  # after these reads the loop handles Kafka's reports and sends acknowledgements
_BEFORE_CONNACK = {0x20, 0xF0, None}  # first bytes of CONNACK and AUTH; None: no packet has come yet


class Connection:
    """A tap and its paho client.

    `outgoing`: where acknowledgements are written.
    `accepted`: the broker has sent CONNACK 0. `closed_because`: why the connection is no longer usable;
    empty: it is usable.

    Paho calls the callbacks inside `read`, `flush`, `look` and the client's send methods. A callback must
    not close the connection: it sets `closed_because`, and the session closes the connection after paho has
    returned.
    """

    def __init__(
        self,
        sock: socket.socket,
        settings: MqttSettings,
        client_id: str,
        mqtt5: bool,
        clean: bool,
        password: str | None,
    ) -> None:
        self._tap = Tap(sock)
        self.outgoing = self._tap.outgoing
        self._tls_names = tls_names(settings)
        self._sent_fin = False
        self.needs_turn = False  # the last read has brought a packet for paho, or an answer to it waits
        self.publishes = 0  # reads in which messages came, or a part of a long one
        self.client = TappedClient(self._tap, settings, client_id, mqtt5, clean, password)
        self.mqtt5 = mqtt5
        self.accepted = False
        self.closed_because = ""

    def fileno(self) -> int:
        return self._tap.fileno()

    @property
    def error(self) -> OSError | None:
        """The error of the kernel or of TLS that ended the stream; None where the peer closed the stream."""
        error = self._socket_error
        return error and explain(error, self._tls_names)

    @property
    def _socket_error(self) -> OSError | None:
        return self._tap.error or self.outgoing.error

    @property
    def end(self) -> End:
        """How it ended, by what the socket tells."""
        error = self._socket_error
        if error is None:
            return End.CLOSED if self._tap.ended else End.OTHER
        return End.SILENT if error.errno in _SILENCE else End.CLOSED

    def why_closed(self, reason: ReasonCode, by_broker: bool) -> str:
        """Why the connection ended, of which paho says `reason`.

        Paho calls each end that has no reason code of MQTT "Unspecified error". The socket tells more.
        """
        if by_broker:
            return f"DISCONNECT from the broker: {reason}"
        if reason.value == reasons.KEEP_ALIVE_TIMEOUT:
            return str(reason)
        if self.error:
            return why(self.error)
        if self._tap.ended:
            return CLOSED_BY_PEER
        named = "" if reason.value == reasons.UNSPECIFIED else f": {reason}"
        return f"paho could not read what the broker sent{named}"

    @property
    def bytes_read(self) -> int:
        return self._tap.bytes_read

    # -- reading -------------------------------------------------------------------------------------

    def read(self, receive: Callable[[list[Packet]], None]) -> bool:
        """Read from the socket. Give PUBLISH and PUBREL to `receive`, and all other packets to paho.

        Returns True if the socket may hold more bytes: one call reads at most _READS_PER_TURN times. Raises
        MalformedPacket, after `receive` has got the packets that arrived before the malformed one.
        """
        self.needs_turn = False
        tap = self._tap
        more = True
        for _ in range(_READS_PER_TURN):
            more = tap.fill() and not tap.is_drained
            self._take_packets(receive)
            if self.closed_because or not more:
                break
        if tap.missing:
            self.publishes += 1
        return more

    def _take_packets(self, receive: Callable[[list[Packet]], None]) -> None:
        for_paho = True
        while for_paho and not self.closed_because:
            if not self.accepted and self._tap.head not in _BEFORE_CONNACK:
                raise MalformedPacket("what answers is no MQTT broker, or no CONNACK comes first")
            packets: list[Packet] = []
            try:
                for_paho = self._tap.packets(self.mqtt5, packets)
            finally:
                if packets:
                    self.publishes += 1
                    receive(packets)
            if for_paho:
                self.needs_turn = True
                self.client.loop_read()

    # -- writing -------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send waiting bytes until the kernel takes no more. Raises OSError when the connection broke."""
        self.outgoing.flush()
        if self.client.want_write():
            self.client.loop_write()

    @property
    def wants_write(self) -> bool:
        return self.outgoing.waits or self.client.want_write()

    def look(self) -> None:
        """Let paho check the keepalive. Call this only after CONNACK.

        Before CONNACK, paho would close a connection that is silent for the keepalive time.
        """
        if self._tap.take_heard():
            self.client.heard()
        self.client.loop_misc()

    # -- closing -------------------------------------------------------------------------------------

    def part(self) -> bool:
        """Send FIN after the last byte. Returns True once the broker has closed its side too.

        If the bridge closed the socket with unread data, the kernel would send RST, and RST can destroy
        acknowledgements that the broker has not read yet.
        """
        if not self._sent_fin and not self.wants_write:
            self._sent_fin = True
            self._tap.finish_sending()
        return self._sent_fin and self._tap.discard()

    def close(self) -> None:
        self.closed_because = self.closed_because or "closed"
        self._tap.close_socket()
