"""Decides how long a stop waits for Kafka to confirm the messages in flight. Pure."""

from bridge.delivery.counts import Counts

_SILENCE = 5.0  # seconds; while Kafka elects another leader, it confirms nothing for two to four


class StopDeadline:
    """Ends the wait when `stop_timeout` has passed; earlier if Kafka is silent and all messages are on disk.

    While the bridge waits, EMQ's queue may overflow, which loses messages. If the bridge leaves before Kafka
    has confirmed, messages may be duplicated. Loss is worse.
    """

    def __init__(self, timeout: float, counts: Counts, now: float) -> None:
        self._counts = counts
        self._delivered = counts.delivered
        self._silent_at = now + _SILENCE
        self._ends_at = now + timeout
        self._is_over = False

    def is_over(self, now: float) -> bool:
        """Whether the wait has ended. Once True, the answer stays True."""
        if self._counts.delivered != self._delivered:
            self._delivered = self._counts.delivered
            self._silent_at = now + _SILENCE
        if now >= self._ends_at or (now >= self._silent_at and not self._counts.in_flight):
            self._is_over = True
        return self._is_over

    def due(self, now: float) -> float:
        """Seconds until `is_over` may become True although nothing else happens."""
        return min((at - now for at in (self._silent_at, self._ends_at) if at > now), default=0.0)

    def end(self) -> None:
        self._is_over = True
