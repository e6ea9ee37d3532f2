"""How brokers of several families number, resend and forget: one persistent session, without sockets. Pure.

The pure ledger and the real bridge are driven by the same model: tests/properties asks it directly, the
SimulatedBroker puts it on a socket. Every message has a serial number of the model's own, which no bridge
sees, so that two messages with the same topic and payload are still told apart by the judge.
"""

import enum
from collections import deque
from dataclasses import dataclass, field


class Identifiers(enum.Enum):
    """How a broker picks a Packet Identifier."""

    UPWARD = "upward"  # EMQX, mosquitto: counts on, and resends with the same one
    LOWEST_FREE = "lowest free"  # HiveMQ: the lowest that is not in use; resends with the same one
    RESTARTED = "restarted"  # RabbitMQ 3.10: from 1 on every connection, resends with new ones


@dataclass
class Sending:
    """A message in the session. `released`: QoS 2, PUBREC seen, PUBREL is what is sent from now on."""

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
    """`window` is how many may be unacknowledged. What `take()` returns is to be sent, in that order."""

    identifiers: Identifiers
    window: int
    queue: deque[Sending] = field(default_factory=deque)
    inflight: dict[int, Sending] = field(default_factory=dict)  # by identifier, in order of first sending
    acked: list[Sending] = field(default_factory=list)
    _last: int = 0
    _serial: int = 0
    _resend: deque[Sending] = field(default_factory=deque)  # what must be sent again on this connection

    def publish(self, topic: bytes, payload: bytes, qos: int = 1) -> Sending:
        """A publisher's message arrives for this session."""
        self._serial += 1
        sending = Sending(self._serial, topic, payload, qos)
        self.queue.append(sending)
        return sending

    def connected(self) -> None:
        """The client is back, the session present: what is unacknowledged goes out again first."""
        if self.identifiers is not Identifiers.RESTARTED:
            self._resend = deque(self.inflight.values())
            return
        self._resend = deque([*self.inflight.values(), *self._resend])  # some may have waited for room
        self.inflight = {}
        self._last = 0
        for sending in self._resend:
            sending.released = False  # it has forgotten that too

    def take(self) -> Sending | None:
        """The next message to send: one sent before, else a new one if the window has room."""
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
        """What is unacknowledged, once more on the connection it was sent on (EMQX 4.x, every 30 s)."""
        again = [sending for sending in self.inflight.values() if sending not in self._resend]
        for sending in again:
            sending.attempts += 1
        return again

    def puback(self, identifier: int) -> None:
        """PUBACK: the identifier is free. One that is unknown is ignored, as brokers do."""
        sending = self.inflight.get(identifier)
        if sending is not None and sending.qos == 1:
            self._done(identifier)

    def pubrec(self, identifier: int) -> bool:
        """PUBREC; True when PUBREL is due."""
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
