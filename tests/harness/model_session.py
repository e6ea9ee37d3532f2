"""A model of how families of brokers number, resend and forget: a session without sockets. Pure.

The same model drives the ledger and the real bridge: tests/properties calls it directly, and the
SimulatedBroker connects it to a socket. Every message has a serial number of the model, which the bridge does
not use, so that the test can tell two messages with the same topic and payload apart.
"""

import enum
from collections import deque
from dataclasses import dataclass, field


class Identifiers(enum.Enum):
    """How a broker picks a Packet Identifier."""

    UPWARD = "upward"  # EMQX, mosquitto: counts up; resends with the same identifier
    LOWEST_FREE = "lowest free"  # HiveMQ: the lowest free one; resends with the same identifier
    RESTARTED = "restarted"  # RabbitMQ 3.10: from 1 on every connection; resends with new identifiers


@dataclass
class Sending:
    """A message in the session. `released`: at QoS 2, PUBREC was seen, so PUBREL is sent from now on."""

    serial: int
    topic: bytes
    payload: bytes
    qos: int
    identifier: int = 0
    attempts: int = 0
    released: bool = False

    @property
    def dup(self) -> bool:
        return self.attempts > 1


@dataclass
class ModelSession:
    """`window` limits unacknowledged messages. Send what `take()` returns, in that order."""

    identifiers: Identifiers
    window: int
    queue: deque[Sending] = field(default_factory=deque)
    inflight: dict[int, Sending] = field(default_factory=dict)  # by identifier, in order of first sending
    acked: list[Sending] = field(default_factory=list)
    _last: int = 0
    _serial: int = 0
    _resend: deque[Sending] = field(default_factory=deque)  # messages to resend on this connection

    def publish(self, topic: bytes, payload: bytes, qos: int = 1) -> Sending:
        """A publisher's message arrives for this session."""
        self._serial += 1
        sending = Sending(self._serial, topic, payload, qos)
        self.queue.append(sending)
        return sending

    def connected(self) -> None:
        """The client has reconnected to its session: unacknowledged messages are resent first."""
        if self.identifiers is not Identifiers.RESTARTED:
            self._resend = deque(self.inflight.values())
            return
        self._resend = deque([*self.inflight.values(), *self._resend])  # some may still wait for room
        self.inflight = {}
        self._last = 0
        for sending in self._resend:
            sending.released = False  # this broker forgets PUBREC too

    def take(self) -> Sending | None:
        """The next message to send: a resend if one is due, else a new message if the window has room."""
        if self._resend and self.identifiers is not Identifiers.RESTARTED:
            sending = self._resend.popleft()
        elif len(self.inflight) < self.window and (self._resend or self.queue):
            sending = (self._resend or self.queue).popleft()
            sending.identifier = self._next()
            self.inflight[sending.identifier] = sending
        else:
            return None
        sending.attempts += 1
        return sending

    def resend_live(self) -> list[Sending]:
        """Resend unacknowledged messages on the same connection (EMQX 4.x does so every 30 s)."""
        again = [sending for sending in self.inflight.values() if sending not in self._resend]
        for sending in again:
            sending.attempts += 1
        return again

    def puback(self, identifier: int) -> None:
        """PUBACK: free the identifier. An unknown identifier is ignored, as by brokers."""
        sending = self.inflight.get(identifier)
        if sending is not None and sending.qos == 1:
            self._done(identifier)

    def pubrec(self, identifier: int) -> bool:
        """PUBREC: returns whether PUBREL is due."""
        sending = self.inflight.get(identifier)
        if sending is None or sending.qos != 2:
            return False
        sending.released = True
        return True

    def pubcomp(self, identifier: int) -> None:
        sending = self.inflight.get(identifier)
        if sending is not None and sending.released:
            self._done(identifier)

    def _done(self, identifier: int) -> None:
        self.acked.append(self.inflight.pop(identifier))

    def _next(self) -> int:
        if self.identifiers is Identifiers.LOWEST_FREE:
            return next(number for number in range(1, 0x10000) if number not in self.inflight)
        while True:
            self._last = self._last % 0xFFFF + 1
            if self._last not in self.inflight:
                return self._last
