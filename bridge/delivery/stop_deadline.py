"""How long a stop waits for Kafka to confirm what it was sent. Pure."""

from bridge.delivery.counts import Counts

_SILENCE = 5.0  # seconds; a Kafka that only chooses another leader says nothing for two to four


class StopDeadline:
    """Over when `stop_timeout` has passed; sooner where Kafka is silent and all is on disk: waiting lets the
    queue of EMQ overflow, which loses, and leaving may double.
    """

    def __init__(self, timeout: float, counts: Counts, now: float) -> None:
        self._counts = counts
        self._delivered = counts.delivered
        self._silent_at = now + _SILENCE
        self._ends_at = now + timeout
        self._is_over = False

    def is_over(self, now: float) -> bool:
        """Once it is, it stays so."""
        if self._counts.delivered != self._delivered:
            self._delivered = self._counts.delivered
            self._silent_at = now + _SILENCE
        if now >= self._ends_at or (now >= self._silent_at and not self._counts.in_flight):
            self._is_over = True
        return self._is_over

    def due(self, now: float) -> float:
        """Seconds until it may be over without anything else happening."""
        return min((at - now for at in (self._silent_at, self._ends_at) if at > now), default=0.0)

    def end(self) -> None:
        self._is_over = True
