"""The MQTT session: its states, and the events that lead from one state to the next.

    CONNECTING -> SUBSCRIBING -> LIVE        and from each of them, when the connection ends,
    BACKING_OFF -> CONNECTING                or, when the service stops, STOPPING -> STOPPED

All code here runs in the loop's thread. It blocks only to read the password file and to sync the subscription
record, twice where filters changed or the session is new; and with delivery exactly-once, where the handler
waits until a CONNECT, or a lost session, is on disk. A connection is used once: each attempt has a new
socket, a new tap and a new paho client, so no data of an old connection can reach the new one.
"""

import socket
import time
from enum import Enum
from pathlib import Path

from paho.mqtt.reasoncodes import ReasonCode

from bridge.errors import BridgeError, MalformedPacket, SpoolUnusable
from bridge.loop import Loop
from bridge.message import Message
from bridge.mqtt import packet_codec, reasons
from bridge.mqtt.backoff import Backoff
from bridge.mqtt.broker_limits import BrokerLimits
from bridge.mqtt.connection import Connection
from bridge.mqtt.connector import connect_in_background, log_tls_failure, watch_expiry, why
from bridge.mqtt.protocol_version import ProtocolVersion
from bridge.mqtt.rival import End, Rival
from bridge.mqtt.session_handler import Handler
from bridge.mqtt.subscription_record import SubscriptionRecord
from bridge.mqtt.subscriptions import Subscriptions
from bridge.observe.events import Event, log
from bridge.settings import MqttSettings, read_mqtt_password

_PAHO_LOOKS_EVERY = 1.0  # seconds between two of paho's keepalive checks
_FAREWELL = 1.0  # seconds the broker gets to close its side after DISCONNECT
_ANSWERS_BEHIND_MESSAGES = 10  # times connack_timeout: for a SUBACK while messages keep coming before it
_LOG_AGAIN_AFTER = 60.0  # seconds between two lines about attempts that fail for the same reason


class State(Enum):
    CONNECTING = "connecting"
    SUBSCRIBING = "subscribing"
    LIVE = "live"
    BACKING_OFF = "backing_off"
    STOPPING = "stopping"
    STOPPED = "stopped"


_LIVE = State.LIVE  # a name of its own, because a look-up in the class takes six times as long


class Session:
    """One session with the broker, over all its connections.

    `state_directory` None: the broker keeps no session (clean start), and the bridge keeps no record on disk.
    """

    def __init__(
        self,
        settings: MqttSettings,
        loop: Loop,
        handler: Handler,
        client_id: str,
        state_directory: Path | None,
    ) -> None:
        self._state = State.BACKING_OFF
        self.state_since = time.monotonic()
        self.connects = 0  # CONNACKs that accepted
        self.disconnects = dict.fromkeys((end.name.lower() for end in End), 0)
        self._read_earlier = 0  # bytes of the connections that have ended
        self._settings = settings
        self._loop = loop
        self._handler = handler
        self._client_id = client_id
        self._clean = state_directory is None
        record = SubscriptionRecord(state_directory, settings.session_name(client_id))
        self._subscriptions = Subscriptions(handler.subscriptions, record)
        self._protocol = ProtocolVersion(settings.protocol)
        self._backoff = Backoff(settings.reconnect)
        self._expiry = watch_expiry(settings)
        self._connection: Connection | None = None
        self._next_delay: float | None = None  # seconds; None: the backoff decides
        self._expects_session = False
        self._rival = Rival()
        self._end: End | None = None  # how the connection ended, where the socket does not tell
        self._live_since = 0.0
        self._is_certain = False  # the broker has answered SUBSCRIBE on this connection
        self._limits_logged: set[str] = set()
        self._log_failure_at: dict[str, float] = {}  # by reason
        # Deadlines, in monotonic seconds; 0: none
        self._connect_at = time.monotonic()
        self._answer_by = 0.0  # the broker's answer to CONNECT, SUBSCRIBE or UNSUBSCRIBE
        self._answer_at_last_by = 0.0  # the same, while messages come before the answer
        self._publishes_seen = 0
        self._look_at = 0.0
        self._ask_again_at = 0.0
        self._farewell_by = 0.0

    # -- seen from outside ---------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state is not self._state:
            self._state = state
            self.state_since = time.monotonic()

    @property
    def protocol(self) -> str:
        """The version of MQTT that the session uses: "5" or "3.1.1"."""
        return self._protocol.name

    @property
    def certificates(self) -> dict[str, float]:
        return self._expiry.known()

    @property
    def refused(self) -> tuple[str, ...]:
        """Filters that the broker has refused."""
        return self._subscriptions.refused

    @property
    def bytes_read(self) -> int:
        """Bytes that all connections have brought, after TLS."""
        return self._read_earlier + (self._connection.bytes_read if self._connection else 0)

    # -- called by the service -----------------------------------------------------------------------

    def turn(self) -> float:
        """Do what is due. Returns the seconds until something else is due; 0: there is more to read."""
        more = False
        if self._connection and self.state is not State.STOPPING:
            more = self._read(self._connection)
        if self._connection:
            self._flush(self._connection)
        self._keep_time()
        if self._connection and self.state is not State.STOPPING:
            self._watch(self._connection)
        if more:
            return 0.0
        deadlines = (self._connect_at, self._answer_by, self._look_at, self._ask_again_at, self._farewell_by)
        due = [deadline for deadline in deadlines if deadline]
        return max(0.0, min(due) - time.monotonic()) if due else 60.0

    @property
    def is_calm(self) -> bool:
        """Whether the session is live, and has nothing to do but to read and to acknowledge."""
        return self._state is _LIVE and self._connection is not None and not self._connection.wants_write

    def relay(self) -> bool:
        """Read the messages that have come, between two turns. Only while `is_calm`.

        False: something else has come, there is more to read, or an answer waits for the kernel. Then a turn
        must follow at once.
        """
        connection = self._connection
        if connection is None or self._read(connection):
            return False
        return self._state is _LIVE and not connection.needs_turn

    def acknowledge(self, messages: list[Message]) -> bool:
        """Send PUBACK or PUBREC, in this order, for messages that came on the present connection.

        True: the kernel has taken all of them.
        """
        connection = self._connection
        return connection is not None and self._send(
            connection, packet_codec.acknowledgements(messages), True
        )

    def complete(self, packet_id: int, known: bool) -> None:
        """Send PUBCOMP. `known`: the ledger knew the identifier."""
        if connection := self._connection:
            answer = packet_codec.pubcomp(packet_id, known, connection.mqtt5)
            if not self._send(connection, answer, False):
                connection.needs_turn = True

    def routes_changed(self) -> None:
        """The handler wants other subscriptions now. A connection that is not up yet will ask for them."""
        if self._connection and self._connection.accepted and self.state is not State.STOPPING:
            self._subscriptions.wanted_changed(self._connection.client)
            self._live_when_subscribed()

    def use_password(self, settings: MqttSettings) -> None:
        """Use `settings` from the next connection on. Only the password, or its file, may be another one."""
        self._settings = settings

    def take_no_more(self) -> None:
        """Begin to stop: the session reads nothing more, but still sends acknowledgements."""
        if self._connection:
            self._loop.forget(self._connection.fileno())
        self._connect_at = self._ask_again_at = self._answer_by = 0.0
        self.state = State.STOPPING if self._connection else State.STOPPED

    def say_goodbye(self) -> None:
        """Send DISCONNECT after the acknowledgements; the broker keeps a persistent session.

        The state becomes STOPPED when the broker has closed its side, or after `_FAREWELL`.
        """
        if self._connection:
            self._farewell_by = time.monotonic() + _FAREWELL
            if self._connection.accepted:
                self._connection.client.send_disconnect()

    def abandon(self) -> None:
        """Close the connection at once; the state is STOPPED."""
        self._drop_connection()
        self.state = State.STOPPED

    # -- reading and writing -------------------------------------------------------------------------

    def _read(self, connection: Connection) -> bool:
        """Read packets and hand them on. True: there may be more to read."""
        try:
            more = connection.read(self._handler.receive)
        except MalformedPacket as error:
            self._malformed(connection, error)
            return False
        if connection.closed_because:
            self._see_if_closed(connection)
        return more

    def _send(self, connection: Connection, data: bytes, acknowledgements: bool) -> bool:
        """True: the kernel has taken all."""
        try:
            sent = connection.outgoing.write(data, acknowledgements)
        except OSError as error:
            self._broke(connection, error)
            return False
        if count := connection.outgoing.take_handed_over():
            self._handler.handed_over(count)
        return sent

    def _flush(self, connection: Connection) -> None:
        try:
            connection.flush()
        except OSError as error:
            self._broke(connection, error)
            return
        self._report_handed_over(connection)
        self._see_if_closed(connection)

    def _broke(self, connection: Connection, error: OSError) -> None:
        connection.closed_because = connection.closed_because or why(error)
        if self.state is State.STOPPING:
            self._lost(connection, connection.closed_because)
        self._see_if_closed(connection)

    def _report_handed_over(self, connection: Connection) -> None:
        if count := connection.outgoing.take_handed_over():
            self._handler.handed_over(count)

    def _watch(self, connection: Connection) -> None:
        self._loop.watch(connection.fileno(), write=connection.wants_write)

    # -- time ----------------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        now = time.monotonic()
        if self._connect_at and now >= self._connect_at:
            self._connect_at = 0.0
            self._connect()
        connection = self._connection
        if connection is None:
            return
        if self._answer_by and now >= self._answer_by and not self._waits_behind_messages(connection, now):
            awaited = "SUBACK" if connection.accepted else "CONNACK"
            log(Event.MQTT_CONNACK_TIMEOUT, awaited=awaited, seconds=self._settings.connack_timeout)
            self._end = End.SILENT
            self._lost(connection, f"no {awaited}")
        elif self._farewell_by:
            self._part(connection, now)
        elif self._look_at and now >= self._look_at:
            self._look_at = now + _PAHO_LOOKS_EVERY
            connection.look()
            self._see_if_closed(connection)
        elif self._ask_again_at and now >= self._ask_again_at:
            self._ask_again_at = 0.0
            self._subscriptions.ask_again(connection.client)
            self._live_when_subscribed()

    def _waits_behind_messages(self, connection: Connection, now: float) -> bool:
        """On a slow line SUBACK comes behind messages that take longer than connack_timeout."""
        seen, self._publishes_seen = self._publishes_seen, connection.publishes
        if seen == connection.publishes or now >= self._answer_at_last_by:
            return False
        self._answer_by = now + self._settings.connack_timeout
        return True

    def _await_answer(self, connection: Connection) -> None:
        now = time.monotonic()
        self._answer_by = now + self._settings.connack_timeout
        self._answer_at_last_by = now + self._settings.connack_timeout * _ANSWERS_BEHIND_MESSAGES
        self._publishes_seen = connection.publishes

    def _part(self, connection: Connection, now: float) -> None:
        if connection.part() or now >= self._farewell_by:
            self.abandon()
        else:
            self._watch(connection)

    # -- connecting ----------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.state = State.CONNECTING
        if self._settings.tls.enabled:
            self._expiry.start()
        log(Event.MQTT_CONNECTING, host=self._settings.host, port=self._settings.port)
        connect_in_background(
            self._settings, lambda result: self._loop.post(lambda: self._tcp(result)), self._expiry.shown
        )

    def _tcp(self, result: socket.socket | OSError) -> None:
        if self.state is not State.CONNECTING:
            if isinstance(result, socket.socket):
                result.close()
            return
        if isinstance(result, OSError):
            self._rival.failed()
            if log_tls_failure(result):
                self._next_delay = self._backoff.refused_delay()
            elif self._is_news(why(result)):
                self._log_failed(result)
            self._back_off()
            return
        try:
            password = read_mqtt_password(self._settings)
            self._handler.connecting()
        except SpoolUnusable:  # which is logged
            result.close()
            self._back_off()
            return
        except BridgeError as error:
            result.close()
            log(Event.MQTT_REFUSED, reason=str(error))
            self._next_delay = self._backoff.refused_delay()
            self._back_off()
            return
        connection = Connection(
            result, self._settings, self._client_id, self._protocol.mqtt5, self._clean, password
        )
        self._connection = connection
        self._end = None
        connection.client.listen(self._on_connack, self._on_suback, self._on_unsuback, self._on_closed)
        self._await_answer(connection)
        connection.client.send_connect()
        self._see_if_closed(connection)

    # -- paho's callbacks; they close nothing ----------------------------------------------------------

    def _is_news(self, reason: str) -> bool:
        """An attempt has failed. There may be one a second, so each reason is logged once a minute."""
        now = time.monotonic()
        if now < self._log_failure_at.get(reason, 0.0):
            return False
        self._log_failure_at[reason] = now + _LOG_AGAIN_AFTER
        return True

    def _log_failed(self, error: OSError) -> None:
        host, port, reason = self._settings.host, self._settings.port, why(error)
        if way_out := self._way_to_connect(error):
            log(Event.MQTT_CONNECT_FAILED, host=host, port=port, reason=reason, way_out=way_out)
        else:
            log(Event.MQTT_CONNECT_FAILED, host=host, port=port, reason=reason)

    def _way_to_connect(self, error: OSError) -> str:
        """What a person can do, where the error tells it."""
        if isinstance(error, socket.gaierror):
            return f"correct mqtt.host, or this machine's name resolution: getent hosts {self._settings.host}"
        if not isinstance(error, ConnectionRefusedError):
            return ""
        if not self._settings.is_balancers_port:
            return "start the broker there, or correct mqtt.host and mqtt.port"
        # A person may not know that the port's default is HAProxy's.
        return f"start HAProxy there; without HAProxy set mqtt.port = {self._settings.brokers_port}"

    def _on_connack(self, session_present: bool, reason: ReasonCode, limits: BrokerLimits) -> None:
        connection = self._connection
        if connection is None:
            return
        if reason.is_failure:
            self._refused(connection, reason)
            return
        if not self._protocol.accepted():
            connection.closed_because = "the broker speaks 3.1.1; the next attempt tests MQTT 5 again"
            self._next_delay = 0.0
            return
        if connection.accepted:
            raise MalformedPacket("a second CONNACK")
        connection.accepted = True
        self.connects += 1
        self._look_at = time.monotonic() + _PAHO_LOOKS_EVERY
        log(Event.MQTT_CONNECTED, session_present=session_present, protocol=self._protocol.name)
        expected = self._expects_session or (self._subscriptions.expects_session and not self._clean)
        if expected and not session_present:
            self._handler.session_lost()
            log(
                Event.MQTT_SESSION_LOST,
                client_id=self._client_id,
                meaning="the broker no longer has the messages that it held for this session; durable"
                " sessions or a longer mqtt.session_expiry would keep them",
            )
        self._expects_session = not self._clean
        try:
            self._handler.connected(session_present, connection.mqtt5)
        except SpoolUnusable as error:
            connection.closed_because = f"this machine's disk can't be used: {error.reason}"
            return
        self.state = State.SUBSCRIBING
        self._is_certain = False
        self._await_answer(connection)
        self._subscriptions.connected(
            session_present, connection.mqtt5, self._rival.doubt(time.monotonic()), limits
        )
        if connection.mqtt5:
            self._log_limits(limits)
        self._subscriptions.apply(connection.client)
        self._live_when_subscribed()

    def _log_limits(self, limits: BrokerLimits) -> None:
        for limit, meaning in limits.weakens(self._settings, self._subscriptions.want_identifiers):
            if limit not in self._limits_logged:
                self._limits_logged.add(limit)
                log(Event.MQTT_BROKER_LIMITS, limit=limit, meaning=meaning)

    def _refused(self, connection: Connection, reason: ReasonCode) -> None:
        connection.closed_because = f"CONNACK: {reason}"
        if reason.value == reasons.UNSUPPORTED_PROTOCOL_VERSION and self._protocol.version_refused():
            log(Event.MQTT_PROTOCOL_FALLBACK, reason=str(reason))
            self._next_delay = 0.0
            return
        way_out = reasons.CONNACK_WAYS_OUT.get(reason.value)
        if way_out is None:
            if self._is_news(str(reason)):
                way_out = reasons.if_it_lasts(reason.value)
                log(Event.MQTT_UNAVAILABLE, reason=str(reason), way_out=way_out)
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
        if self._connection:
            self._subscriptions.granted(self._connection.client, number, reasons)
            self._live_when_subscribed()

    def _on_unsuback(self, number: int, reasons: list[int]) -> None:
        if self._connection:
            self._subscriptions.taken_off(self._connection.client, number, reasons)
            self._live_when_subscribed()

    def _live_when_subscribed(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if not self._subscriptions.settled:
            self._await_answer(connection)
            return
        self._answer_by = 0.0
        if not self._is_certain:
            self._is_certain = True
            self._handler.subscribed()
        if self._subscriptions.some_refused and not self._ask_again_at:
            self._ask_again_at = time.monotonic() + self._backoff.refused_delay()
        if self.state is State.SUBSCRIBING and self._subscriptions.any_granted:
            self._live_since = time.monotonic()
            self.state = State.LIVE
            self._log_failure_at.clear()
            log(Event.MQTT_LIVE, client_id=self._client_id, protocol=self._protocol.name)

    def _on_closed(self, reason: ReasonCode, by_broker: bool) -> None:
        connection = self._connection
        if connection is None or connection.closed_because:
            return
        connection.closed_because = connection.why_closed(reason, by_broker)
        if by_broker:
            is_taken_over = reason.value == reasons.SESSION_TAKEN_OVER
            self._end = End.TAKEN_OVER if is_taken_over else End.OTHER
        elif reason.value == reasons.KEEP_ALIVE_TIMEOUT:
            self._end = End.SILENT
            log(Event.MQTT_KEEPALIVE_TIMEOUT)

    def _see_if_closed(self, connection: Connection) -> None:
        """Close the connection if a callback has set `closed_because`. Call this after paho has returned."""
        if connection is not self._connection or not connection.closed_because:
            return
        if self.state is State.STOPPING:
            return
        because = why(connection.error) if connection.error else connection.closed_because
        if not connection.accepted and self._next_delay is None:
            was_mqtt5 = self._protocol.mqtt5
            if connection.error and log_tls_failure(connection.error):
                self._next_delay = self._backoff.refused_delay()
            elif not connection.closed_because.startswith("CONNACK"):
                self._protocol.closed_before_connack()
                if self._is_news(because):
                    log(
                        Event.MQTT_UNAVAILABLE,
                        reason=f"closed before CONNACK: {because}",
                        way_out=reasons.if_it_goes_on_closing(
                            self._settings.is_balancers_port, self._settings.tls.enabled
                        ),
                    )
            if self._protocol.fell_back and was_mqtt5:
                log(Event.MQTT_PROTOCOL_FALLBACK, reason="closed on MQTT 5, answered on 3.1.1")
                self._next_delay = 0.0
        self._lost(connection, because)

    # -- the end of a connection ---------------------------------------------------------------------

    def _malformed(self, connection: Connection, error: MalformedPacket) -> None:
        if connection.accepted:
            log(Event.MQTT_MALFORMED_PACKET, reason=error.reason)
        elif self._is_news(f"malformed packet: {error.reason}"):  # at each attempt, if it is no broker's port
            way_out = (
                f"see whether what listens at {self._settings.host}:{self._settings.port} is an MQTT broker"
            )
            log(Event.MQTT_MALFORMED_PACKET, reason=error.reason, way_out=way_out)
        connection.closed_because = f"malformed packet: {error.reason}"
        connection.client.send_disconnect(malformed=True)
        self._lost(connection, connection.closed_because)

    def _lost(self, connection: Connection, because: str) -> None:
        if connection is not self._connection:
            return
        if connection.accepted:
            lived = time.monotonic() - self._live_since if self.state is State.LIVE else 0.0
            log(Event.MQTT_CLOSED, reason=because, live_seconds=round(lived, 1))
            self._backoff.was_live_for(lived)
            self._protocol.was_live_for(lived)
            end = self._end or connection.end
            self.disconnects[end.name.lower()] += 1
            self._look_for_a_rival(end, lived)
        else:
            self._rival.failed()
        self._drop_connection()
        if self.state is State.STOPPING:
            self.state = State.STOPPED
        else:
            self._back_off()

    def _look_for_a_rival(self, end: End, lived: float) -> None:
        """Step back only from a fight: a tool that took the client id for a moment is gone by now, and EMQ
        queues or drops what devices publish until this bridge is back.
        """
        evidence = self._rival.lost(end, lived, time.monotonic())
        if evidence and self._next_delay is None:
            self._next_delay = self._backoff.refused_delay()
        if not evidence and end is End.TAKEN_OVER:
            evidence = "the broker says so"
        if evidence:
            self._handler.taken_over()
            log(
                Event.MQTT_TAKEN_OVER,
                client_id=self._client_id,
                evidence=evidence,
                way_out="give each bridge its own mqtt.client_id (bridges in a $share group divide the"
                " messages); if no other client uses it, the broker's log tells why it ends the connection",
            )

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._loop.forget(connection.fileno())
        self._read_earlier += connection.bytes_read
        connection.close()
        self._report_handed_over(connection)
        self._answer_by = self._look_at = self._ask_again_at = self._farewell_by = 0.0
        if connection.accepted:
            self._handler.disconnected()

    def _back_off(self) -> None:
        delay, self._next_delay = self._next_delay, None
        if delay is None:
            delay = self._backoff.next_delay()
        self._connect_at = time.monotonic() + delay
        self.state = State.BACKING_OFF
        log(Event.MQTT_BACKING_OFF, seconds=round(delay, 2))
