"""Counts the messages that went through the bridge. The sums must add up. Pure.

At any moment:  received + restored = settled + in flight + dropped
                settled = delivered + spooled + unreadable + dead-lettered + skipped
"""

from collections import Counter
from dataclasses import dataclass, field

# The closed lists of reasons. Each is a label of a metric.
DROPPED = ("qos0_limit",)
SKIPPED = ("route_drops", "retained", "empty", "other_subscription")
DEAD_LETTERED = ("unroutable", "too_large", "bad_timestamp", "invalid")

STATES = ("in_flight", "spooled")  # these are current values; the others count since the start


@dataclass(slots=True)
class Counts:
    """Messages since the start. A copy that joined a known message counts in `joined`, not in `received`."""

    received: int = 0
    delivered: int = 0  # Kafka holds them on all in-sync replicas
    restored: int = 0  # were on disk when the bridge was started
    spooled: int = 0  # on disk now; Kafka has not confirmed them
    unreadable: int = 0  # could not be read back; stay on disk until the next start; logged as ERROR
    dead_lettered: int = 0  # Kafka can never take them; each was logged as ERROR
    dead_letters_removed: int = 0  # from the disk, because a limit of [dead_letters] was reached
    skipped: int = 0  # by a route: action drop, retained skip, or another subscription brings this message
    joined: int = 0  # copies of messages that the ledger knows
    dropped: Counter[str] = field(default_factory=Counter)  # QoS 0 only, by reason
    sessions_lost: int = 0
    # The rest is for people who watch the service. Messages of QoS 1, the most common ones, are what remains.
    received_qos0: int = 0
    received_qos2: int = 0
    delivered_bytes: int = 0  # of payload
    delivered_by_route: Counter[str] = field(default_factory=Counter)
    skipped_by_route: Counter[str] = field(default_factory=Counter)
    skipped_by_reason: Counter[str] = field(default_factory=Counter)
    dead_lettered_by_reason: Counter[str] = field(default_factory=Counter)
    spooled_total: int = 0  # written to disk since the start

    @property
    def in_flight(self) -> int:
        settled = self.delivered + self.spooled + self.unreadable + self.dead_lettered + self.skipped
        return self.received + self.restored - settled - self.dropped.total()

    @property
    def received_by_qos(self) -> tuple[int, int, int]:
        others = self.received_qos0 + self.received_qos2
        return self.received_qos0, self.received - others, self.received_qos2

    def as_fields(self) -> dict[str, int]:
        return {
            "received": self.received,
            "delivered": self.delivered,
            "in_flight": self.in_flight,
            "restored": self.restored,
            "spooled": self.spooled,
            "unreadable": self.unreadable,
            "dead_lettered": self.dead_lettered,
            "dead_letters_removed": self.dead_letters_removed,
            "skipped": self.skipped,
            "dropped": self.dropped.total(),
            "joined": self.joined,
            "sessions_lost": self.sessions_lost,
        }
