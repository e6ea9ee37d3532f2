"""Makes the table of all rounds of each fault, which docs/reference/guarantees.md quotes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

_HEAD = (
    "fault",
    "rounds",
    "published",
    "QoS 1",
    "QoS 2",
    "lost",
    "doubled",
    "bound",
    "out of order",
    "stall s",
    "LIVE s",
    "MB",
)


@dataclass(frozen=True)
class Outcome:
    """One round. `bound` limits the duplicates; `seconds_to_live` is 0 if the session was not cut.

    `qos_1` and `qos_2` are the messages that EMQ acknowledged: those that may not be lost.
    """

    published: int
    lost: int
    doubled: int
    bound: int
    inversions: int
    stall: float  # s
    seconds_to_live: float  # s
    peak_mb: float  # of the bridge
    qos_1: int
    qos_2: int


def markdown(outcomes: Mapping[str, Sequence[Outcome]], failed: Mapping[str, int]) -> str:
    """A row for each fault: sums of counts, median and worst of times. `failed` rounds are shown too."""
    rows = [_HEAD, ("---",) * len(_HEAD)]
    rows += [_row(fault, outcomes.get(fault, ()), failed.get(fault, 0)) for fault in {**outcomes, **failed}]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(fault: str, rounds: Sequence[Outcome], failed: int) -> tuple[str, ...]:
    count = f"{len(rounds)}, {failed} failed" if failed else f"{len(rounds)}"
    if not rounds:
        return (fault, count, *("",) * (len(_HEAD) - 2))
    return (
        fault,
        count,
        f"{sum(each.published for each in rounds):,}",
        f"{sum(each.qos_1 for each in rounds):,}",
        f"{sum(each.qos_2 for each in rounds):,}",
        f"{sum(each.lost for each in rounds)}",
        f"{sum(each.doubled for each in rounds)}",
        f"{sum(each.bound for each in rounds):,}",
        f"{sum(each.inversions for each in rounds)}",
        _times([each.stall for each in rounds]),
        _times([each.seconds_to_live for each in rounds if each.seconds_to_live]),
        f"{max(each.peak_mb for each in rounds):.0f}",
    )


def _times(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.1f} ({max(seconds):.1f})" if seconds else "-"
