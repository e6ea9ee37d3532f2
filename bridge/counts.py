"""What went through the bridge, as sums that must add up. Pure.

At any moment:  received = settled + in flight + dropped     settled = delivered + given up + skipped
"""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Messages since the start. A copy that joined a message in flight is not received again."""

    received: int = 0
    delivered: int = 0  # Kafka holds it on all in-sync replicas
    given_up: int = 0  # can never be delivered; each one was an ERROR in the log
    skipped: int = 0  # by a route: action drop, retained skip, the copy of another subscription
    joined: int = 0  # copies of messages that were known
    dropped: Counter[str] = field(default_factory=Counter)  # QoS 0 only, by reason
    sessions_lost: int = 0

    @property
    def in_flight(self) -> int:
        return self.received - self.delivered - self.given_up - self.skipped - self.dropped.total()

    def as_fields(self) -> dict[str, int]:
        return {
            "received": self.received,
            "delivered": self.delivered,
            "in_flight": self.in_flight,
            "given_up": self.given_up,
            "skipped": self.skipped,
            "dropped": self.dropped.total(),
            "joined": self.joined,
            "sessions_lost": self.sessions_lost,
        }
