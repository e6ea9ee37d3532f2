"""The MQTT session: its states, and what leads from one to the next.

    CONNECTING -> SUBSCRIBING -> LIVE        and from each of them, when the connection ends,
    BACKING_OFF -> CONNECTING                or, when the service stops, STOPPING -> STOPPED

Everything here runs in the loop's thread and never blocks. A connection is used once: each attempt has
a new socket, a new tap and a new paho client, so nothing of an old connection can reach the new one.
"""

import socket
import time
from collections.abc import Collection, Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol

from paho.mqtt.reasoncodes import ReasonCode

from bridge.errors import BridgeError, MalformedPacket
from bridge.loop import Loop
from bridge.message import Message, Packet
from bridge.mqtt import wire
from bridge.mqtt.applied import AppliedFilters
from bridge.mqtt.backoff import Backoff
from bridge.mqtt.client import TappedClient
from bridge.mqtt.connector import connect_in_background
from bridge.mqtt.protocol import Protocol as ProtocolChoice
from bridge.mqtt.reasons import (
    CONNACK_WAYS_OUT,
    KEEP_ALIVE_TIMEOUT,
    SESSION_TAKEN_OVER,
    UNSUPPORTED_PROTOCOL_VERSION,
)
from bridge.mqtt.subscriptions import Subscriptions
from bridge.mqtt.tap import Tap
from bridge.observe.events import Event, log
from bridge.routing import Subscription
from bridge.settings import MqttSettings, read_mqtt_password

_READS_PER_TURN = 4  # then Kafka's reports have their turn, and acknowledgements leave
_PAHO_LOOKS_EVERY = 1.0  # seconds between two of paho's looks at keepalive
_BEFORE_CONNACK = {0x20, 0xF0, None}  # CONNACK and AUTH; None: nothing came
_FAREWELL = 1.0  # seconds the broker gets to close its side after DISCONNECT
_SHORT_LIFE, _SHORT_LIVES = 5.0, 3  # LIVE for less, this often in a row: another uses the client id


class State(Enum):
    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    LIVE = "live"
    BACKING_OFF = "backing_off"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Handler(Protocol):
    """Who the session works for."""

    def subscriptions(self, refused: Collection[str]) -> Sequence[Subscription]:
        """What to subscribe when the broker refuses these filters. Raises ConfigurationError."""

    def connected(self, session_present: bool, mqtt5: bool) -> None: ...
    def session_lost(self) -> None:
        """The broker no longer knew a session that should have been there."""

    def receive(self, packets: list[Packet]) -> None: ...
    def handed_over(self, acknowledgements: int) -> None: ...
    def disconnected(self) -> None: ...
    def taken_over(self) -> None:
        """Another client has the session, or had it. Called before `disconnected`."""


class Session:
    """`state_directory` None: nothing is kept, neither at the broker (clean start) nor on disk."""

    def __init__(
        self,
        settings: MqttSettings,
        loop: Loop,
        handler: Handler,
        client_id: str,
        state_directory: Path | None,
    ) -> None:
        self.state = State.BACKING_OFF
        self._settings = settings
        self._loop = loop
        self._handler = handler
        self._client_id = client_id
        self._clean = state_directory is None
        record = AppliedFilters(state_directory, f"{client_id} at {settings.host}:{settings.port}")
        self._subscriptions = Subscriptions(handler.subscriptions, record)
        self._protocol = ProtocolChoice(settings.protocol)
        self._backoff = Backoff(settings.reconnect)
        self._tap: Tap | None = None
        self._client: TappedClient | None = None
        self._connack = False  # this connection has had its CONNACK
        self._sent_fin = False
        self._closed_because = ""  # set by paho's callbacks, acted on when paho has returned
        self._next_delay: float | None = None  # where not the backoff decides
        self._expects_session = False
        self._short_lives = 0
        self._live_since = 0.0
        # Deadlines, in monotonic seconds; 0: none
        self._connect_at = time.monotonic()
        self._answer_by = 0.0  # to CONNECT, SUBSCRIBE or UNSUBSCRIBE
        self._look_at = 0.0
        self._ask_again_at = 0.0
        self._farewell_by = 0.0

    # -- what the service calls ----------------------------------------------------------------------

    def turn(self) -> float:
        """Do what is due. Returns for how many seconds nothing else is due: 0 where there is more to read."""
        more = False
        if self._tap and self.state is not State.STOPPING:
            more = self._read()
        self._write()
        self._keep_time()
        if self._tap and self.state is not State.STOPPING:
            self._loop.watch(self._tap.fileno(), write=self._wants_write())
        if more or self.state is State.STOPPED:
            return 0.0
        due = [
            each
            for each in (
                self._connect_at,
                self._answer_by,
                self._look_at,
                self._ask_again_at,
                self._farewell_by,
            )
            if each
        ]
        return max(0.0, min(due) - time.monotonic()) if due else 60.0

    def acknowledge(self, messages: list[Message]) -> None:
        """PUBACK or PUBREC for messages that came on this connection, in this order."""
        self._send(wire.acknowledgements(messages), acknowledgements=True)

    def complete(self, packet_id: int, known: bool) -> None:
        """PUBCOMP."""
        if self._client:
            self._send(wire.pubcomp(packet_id, known, self._client.mqtt5), acknowledgements=False)

    def take_no_more(self) -> None:
        """The service stops: nothing is read any more, acknowledgements still leave."""
        if self._tap:
            self._loop.forget(self._tap.fileno())
        self._connect_at = self._ask_again_at = 0.0
        self._set(State.STOPPING if self._tap else State.STOPPED)

    def say_goodbye(self) -> None:
        """DISCONNECT, which keeps the session, behind the acknowledgements; then comes STOPPED."""
        if self._tap and self._client:
            self._farewell_by = time.monotonic() + _FAREWELL
            if self._connack:
                self._client.send_disconnect()

    def abandon(self) -> None:
        """Close at once."""
        self._drop_connection()
        self._set(State.STOPPED)

    @property
    def is_mqtt5(self) -> bool:
        return self._protocol.mqtt5

    # -- reading and writing -------------------------------------------------------------------------

    def _read(self) -> bool:
        """True: there may be more to read."""
        tap, client = self._tap, self._client
        if tap is None or client is None:
            return False
        more = True
        for _ in range(_READS_PER_TURN):
            more = tap.fill()
            try:
                self._take_packets(tap, client)
            except MalformedPacket as error:
                self._malformed(client, error)
            if self._tap is not tap:
                return False
            if not more:
                break
        return more

    def _take_packets(self, tap: Tap, client: TappedClient) -> None:
        for_paho = True
        while for_paho and self._tap is tap:
            if not self._connack and tap.head not in _BEFORE_CONNACK:
                raise MalformedPacket("what answers is no MQTT broker, or no CONNACK comes first")
            packets: list[Packet] = []
            try:
                for_paho = tap.packets(client.mqtt5, packets)
            finally:
                if packets:
                    self._handler.receive(packets)
            if for_paho:
                client.loop_read()
                self._see_if_closed()

    def _send(self, data: bytes, acknowledgements: bool) -> None:
        tap = self._tap
        if tap is None:
            return
        try:
            tap.write(data, acknowledgements)
        except OSError as error:
            self._lost(_why(error))
            return
        self._report_handed_over(tap)

    def _write(self) -> None:
        tap, client = self._tap, self._client
        if tap is None or client is None:
            return
        try:
            tap.flush()
        except OSError as error:
            self._lost(_why(error))
            return
        self._report_handed_over(tap)
        if client.want_write():
            client.loop_write()
            self._report_handed_over(tap)
            self._see_if_closed()

    def _report_handed_over(self, tap: Tap) -> None:
        if count := tap.take_handed_over():
            self._handler.handed_over(count)

    def _wants_write(self) -> bool:
        return bool((self._tap and self._tap.wants_write) or (self._client and self._client.want_write()))

    # -- time ----------------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        now = time.monotonic()
        if self._connect_at and now >= self._connect_at:
            self._connect_at = 0.0
            self._connect()
        if self._answer_by and now >= self._answer_by:
            awaited = "SUBACK" if self._connack else "CONNACK"
            log(Event.MQTT_CONNACK_TIMEOUT, awaited=awaited, seconds=self._settings.connack_timeout)
            self._lost(f"no {awaited}")
        if self._look_at and now >= self._look_at and self._client:
            self._look_at = now + _PAHO_LOOKS_EVERY
            self._client.loop_misc()
            self._see_if_closed()
        if self._ask_again_at and now >= self._ask_again_at and self._client:
            self._ask_again_at = 0.0
            self._subscriptions.ask_again(self._client)
            self._live_when_subscribed()
        if self._farewell_by and self._tap:
            self._part(self._tap, now)

    # -- connecting ----------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._set(State.CONNECTING)
        log(Event.MQTT_CONNECTING, host=self._settings.host, port=self._settings.port)
        connect_in_background(self._settings, lambda result: self._loop.post(lambda: self._tcp(result)))

    def _tcp(self, result: socket.socket | OSError) -> None:
        if self.state is not State.CONNECTING:
            if isinstance(result, socket.socket):
                result.close()
            return
        if isinstance(result, OSError):
            log(
                Event.MQTT_CONNECT_FAILED,
                host=self._settings.host,
                port=self._settings.port,
                reason=_why(result),
            )
            self._back_off()
            return
        try:
            password = read_mqtt_password(self._settings)
        except BridgeError as error:
            result.close()
            log(Event.MQTT_REFUSED, reason=str(error))
            self._next_delay = self._backoff.refused_delay()
            self._back_off()
            return
        self._tap = Tap(result)
        self._client = TappedClient(
            self._tap, self._settings, self._client_id, self._protocol.mqtt5, self._clean, password
        )
        self._client.listen(self._on_connack, self._on_suback, self._on_unsuback, self._on_closed)
        self._connack = False
        self._closed_because = ""
        self._answer_by = time.monotonic() + self._settings.connack_timeout
        self._client.send_connect()
        self._see_if_closed()

    def _part(self, tap: Tap, now: float) -> None:
        """FIN behind the last byte, then wait for the broker's: a close with unread data would send RST."""
        if not self._sent_fin and not self._wants_write():
            self._sent_fin = True
            tap.finish_sending()
        if now >= self._farewell_by or (self._sent_fin and tap.discard()):
            self.abandon()
        else:
            self._loop.watch(tap.fileno(), write=self._wants_write())

    # -- what paho tells; nothing is closed inside its callbacks ----------------------------------------

    def _on_connack(self, session_present: bool, reason: ReasonCode) -> None:
        if reason.is_failure:
            self._refused(reason)
            return
        if not self._protocol.accepted():
            self._closed_because = "learned that 3.1.1 is spoken; is MQTT 5 spoken too?"
            self._next_delay = 0.0
            return
        client = self._client
        if client is None:
            return
        if self._connack:
            raise MalformedPacket("a second CONNACK")
        self._connack = True
        self._look_at = time.monotonic() + _PAHO_LOOKS_EVERY
        log(
            Event.MQTT_CONNECTED,
            session_present=session_present,
            protocol="5" if client.mqtt5 else "3.1.1",
        )
        expected = self._expects_session or (self._subscriptions.expects_session and not self._clean)
        if expected and not session_present:
            self._handler.session_lost()
            log(
                Event.MQTT_SESSION_LOST,
                client_id=self._client_id,
                meaning="what the broker held for it is gone; durable sessions or a longer"
                " mqtt.session_expiry keep it",
            )
        self._expects_session = not self._clean
        self._handler.connected(session_present, client.mqtt5)
        self._set(State.SUBSCRIBING)
        self._subscriptions.connected(session_present)
        self._subscriptions.apply(client)
        self._live_when_subscribed()

    def _refused(self, reason: ReasonCode) -> None:
        self._closed_because = f"CONNACK: {reason}"
        if reason.value == UNSUPPORTED_PROTOCOL_VERSION and self._protocol.version_refused():
            log(Event.MQTT_PROTOCOL_FALLBACK, reason=str(reason))
            self._next_delay = 0.0
            return
        way_out = CONNACK_WAYS_OUT.get(reason.value)
        if way_out is None:
            log(Event.MQTT_UNAVAILABLE, reason=str(reason))
            return
        self._next_delay = self._backoff.refused_delay()
        log(
            Event.MQTT_REFUSED,
            reason=str(reason),
            client_id=self._client_id,
            username=self._settings.username,
            way_out=way_out,
        )

    def _on_suback(self, number: int, reasons: list[int]) -> None:
        if self._client:
            self._subscriptions.granted(self._client, number, reasons)
            self._live_when_subscribed()

    def _on_unsuback(self, number: int) -> None:
        self._subscriptions.taken_off(number)
        self._live_when_subscribed()

    def _live_when_subscribed(self) -> None:
        if not self._subscriptions.settled:
            self._answer_by = time.monotonic() + self._settings.connack_timeout
            return
        self._answer_by = 0.0
        if self._subscriptions.some_refused and not self._ask_again_at:
            self._ask_again_at = time.monotonic() + self._backoff.refused_delay()
        if self.state is State.SUBSCRIBING and self._subscriptions.any_granted:
            self._live_since = time.monotonic()
            self._set(State.LIVE)
            log(Event.MQTT_LIVE, client_id=self._client_id, protocol="5" if self.is_mqtt5 else "3.1.1")

    def _on_closed(self, reason: ReasonCode, by_broker: bool) -> None:
        if self._closed_because:
            return
        self._closed_because = f"DISCONNECT from the broker: {reason}" if by_broker else str(reason)
        if by_broker and reason.value == SESSION_TAKEN_OVER:
            self._taken_over("the broker says so")
        elif reason.value == KEEP_ALIVE_TIMEOUT:
            log(Event.MQTT_KEEPALIVE_TIMEOUT)

    def _see_if_closed(self) -> None:
        """Paho's callbacks have said what they know, and paho has returned."""
        if not self._closed_because or self.state in (State.STOPPING, State.STOPPED):
            return
        tap_error = self._tap.error if self._tap else None
        because = _why(tap_error) if tap_error else self._closed_because
        if not self._connack and self._next_delay is None:
            was_mqtt5 = self._protocol.mqtt5
            if not self._closed_because.startswith("CONNACK"):
                self._protocol.closed_before_connack()
                log(Event.MQTT_UNAVAILABLE, reason=f"closed before CONNACK: {because}")
            if self._protocol.fell_back and was_mqtt5:
                log(Event.MQTT_PROTOCOL_FALLBACK, reason="closed on MQTT 5, answered on 3.1.1")
                self._next_delay = 0.0
        self._lost(because)

    # -- the end of a connection ---------------------------------------------------------------------

    def _malformed(self, client: TappedClient, error: MalformedPacket) -> None:
        log(Event.MQTT_MALFORMED_PACKET, reason=error.reason)
        self._closed_because = f"malformed packet: {error.reason}"
        client.send_disconnect(malformed=True)
        self._lost(self._closed_because)

    def _taken_over(self, evidence: str) -> None:
        self._next_delay = self._backoff.refused_delay()
        self._handler.taken_over()
        log(
            Event.MQTT_TAKEN_OVER,
            client_id=self._client_id,
            evidence=evidence,
            way_out="give each bridge its own mqtt.client_id (with a $share group they divide the work)",
        )

    def _lost(self, because: str) -> None:
        if self._tap is None:
            return
        if self._connack:
            lived = time.monotonic() - self._live_since if self.state is State.LIVE else 0.0
            log(Event.MQTT_CLOSED, reason=because, live_seconds=round(lived, 1))
            self._backoff.was_live_for(lived)
            self._watch_for_a_rival(lived)
        self._drop_connection()
        if self.state is State.STOPPING:
            self._set(State.STOPPED)
        else:
            self._back_off()

    def _watch_for_a_rival(self, lived: float) -> None:
        """MQTT 3.1.1 does not say that a session was taken over: it just closes, again and again."""
        short = self.state is State.LIVE and lived < _SHORT_LIFE
        self._short_lives = self._short_lives + 1 if short else 0
        if self._short_lives >= _SHORT_LIVES and not self.is_mqtt5 and self._next_delay is None:
            self._taken_over(f"closed {self._short_lives} times in a row soon after it was live")

    def _drop_connection(self) -> None:
        tap, self._tap, self._client = self._tap, None, None
        if tap is None:
            return
        self._loop.forget(tap.fileno())
        tap.close_socket()
        self._report_handed_over(tap)
        self._answer_by = self._look_at = self._ask_again_at = self._farewell_by = 0.0
        if self._connack:
            self._connack = False
            self._handler.disconnected()

    def _back_off(self) -> None:
        delay, self._next_delay = self._next_delay, None
        if delay is None:
            delay = self._backoff.next_delay()
        self._connect_at = time.monotonic() + delay
        self._set(State.BACKING_OFF)
        log(Event.MQTT_BACKING_OFF, seconds=round(delay, 2))

    def _set(self, state: State) -> None:
        self.state = state


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
