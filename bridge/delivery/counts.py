"""Counts the messages that went through the bridge. The sums must add up. Pure.

At any moment:  received + restored = settled + in flight + dropped
                settled = delivered + spooled + unreadable + dead-lettered + skipped
"""

from collections import Counter
from dataclasses import dataclass, field

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

    @property
    def in_flight(self) -> int:
        settled = self.delivered + self.spooled + self.unreadable + self.dead_lettered + self.skipped
        return self.received + self.restored - settled - self.dropped.total()

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
