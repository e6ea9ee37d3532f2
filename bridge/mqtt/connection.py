"""One connection to the broker, from CONNECT to close: the tap, and the paho client that talks through it.

It reads, writes and parts; what any of it means is the session's.
"""

import socket
from collections.abc import Callable

from bridge.errors import MalformedPacket
from bridge.message import Packet
from bridge.mqtt.client import TappedClient
from bridge.mqtt.connector import tls_names
from bridge.mqtt.tap import Tap
from bridge.settings import MqttSettings
from bridge.tls.failures import explain

_READS_PER_TURN = 4  # then Kafka's reports have their turn, and acknowledgements leave
_BEFORE_CONNACK = {0x20, 0xF0, None}  # CONNACK and AUTH; None: nothing came


class Connection:
    """`accepted`: CONNACK 0 came. `closed_because`: why it is no longer of use; empty: it is.

    Paho's callbacks run inside `open`, `read`, `flush` and `look`. They only set `closed_because`: what
    is to be closed is closed when paho has returned.
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
        self._tls_names = tls_names(settings)
        self._sent_fin = False
        self.client = TappedClient(self._tap, settings, client_id, mqtt5, clean, password)
        self.mqtt5 = mqtt5
        self.accepted = False
        self.closed_because = ""

    def fileno(self) -> int:
        return self._tap.fileno()

    @property
    def error(self) -> OSError | None:
        """What the kernel or TLS said, where the peer did not just close."""
        return self._tap.error and explain(self._tap.error, self._tls_names)

    # -- reading -------------------------------------------------------------------------------------

    def read(self, receive: Callable[[list[Packet]], None]) -> bool:
        """Give what has come to `receive` and to paho. True: there may be more.

        Raises MalformedPacket; what came before it was received.
        """
        more = True
        for _ in range(_READS_PER_TURN):
            more = self._tap.fill()
            self._take_packets(receive)
            if self.closed_because or not more:
                break
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
                    receive(packets)
            if for_paho:
                self.client.loop_read()

    # -- writing -------------------------------------------------------------------------------------

    def write(self, data: bytes, acknowledgements: bool) -> None:
        """Send behind what waits already. Raises OSError when the connection broke."""
        self._tap.write(data, acknowledgements)

    def flush(self) -> None:
        """Send what waits, as far as the kernel takes it. Raises OSError when the connection broke."""
        self._tap.flush()
        if self.client.want_write():
            self.client.loop_write()

    @property
    def wants_write(self) -> bool:
        return self._tap.wants_write or self.client.want_write()

    def take_handed_over(self) -> int:
        """How many acknowledgements the kernel has taken since the last call."""
        return self._tap.take_handed_over()

    def look(self) -> None:
        """Let paho see to the keepalive. Not before CONNACK: it would close what is silent so long."""
        self.client.loop_misc()

    # -- parting -------------------------------------------------------------------------------------

    def part(self) -> bool:
        """FIN behind the last byte; True: the broker has closed its side too.

        Closing with unread data would send RST, which can destroy acknowledgements under way.
        """
        if not self._sent_fin and not self.wants_write:
            self._sent_fin = True
            self._tap.finish_sending()
        return self._sent_fin and self._tap.discard()

    def close(self) -> None:
        self.closed_because = self.closed_because or "closed"
        self._tap.close_socket()
