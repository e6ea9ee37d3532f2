"""Decides whether the broker or the bridge caused a loss, a duplicate or a wrong order. Pure.

A verdict compares what devices sent with what is in Kafka. A recording relay in front of the bridge also
knows what the broker sent, how often and in which order; the bridge is responsible for every other
difference.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tests.harness.relay import Sighting
from tests.harness.verdict import Verdict


@dataclass(frozen=True)
class Blame:
    """The findings for QoS 1 and 2. `resent` counts the PUBLISHes after the first of each id. Each of them
    may become a duplicate, unless the bridge can recognise the message.
    """

    lost_by_broker: frozenset[str]  # acknowledged to its publisher, and never sent to the bridge
    lost_by_bridge: frozenset[str]  # sent to the bridge, and not in Kafka
    doubled_by_bridge: frozenset[str]  # more often in Kafka than the broker sent it
    reordered_by_bridge: tuple[tuple[str, str], ...]  # (came late, came early); sent in the other order
    resent: int

    def __str__(self) -> str:
        names = ("lost by the bridge", self.lost_by_bridge), ("doubled unasked", self.doubled_by_bridge)
        parts = [f"{what}: {' '.join(sorted(ids)[:10])}" for what, ids in names if ids]
        parts += [f"reordered: {self.reordered_by_bridge[:10]}"] if self.reordered_by_bridge else []
        return ", ".join([f"lost by the broker {len(self.lost_by_broker)}, resent {self.resent}", *parts])


def blame(verdict: Verdict, sightings: Iterable[Sighting], missing: set[str]) -> Blame:
    """`missing` holds the ids that are among the sightings but not in Kafka."""
    sent = [seen.id for seen in sightings if seen.id and seen.qos]
    times = Counter(sent)
    first = {name: at for at, name in reversed(list(enumerate(sent)))}
    return Blame(
        lost_by_broker=verdict.lost - times.keys(),
        lost_by_bridge=frozenset(missing & times.keys()),
        doubled_by_bridge=frozenset(
            name for name, places in verdict.doubled.items() if len(places) > times[name]
        ),
        reordered_by_bridge=tuple(
            (late, early) for late, early in verdict.inversions if first[late] < first[early]
        ),
        resent=times.total() - len(times),
    )
