"""Measures curves in rounds: every round has all points of a curve, and begins with another one."""
# ruff: noqa: T201 - it reports its progress

import sys
from collections.abc import Sequence

from tests.bench import report
from tests.bench.drain import Incomplete
from tests.bench.growth.curves import Curve
from tests.bench.growth.drained import Figures
from tests.bench.growth.figures import Measured
from tests.bench.rig import Rig
from tests.harness.conditions import NotInTime


def measure(here: Rig, curve: Curve, points: Sequence[int], rounds: int, messages: int) -> Measured:
    """A point that fails is told and not tried again: the others are still of use."""
    found: dict[int, list[Figures]] = {point: [] for point in points}
    failed: set[int] = set()
    for number in range(rounds):
        start = number % len(points)
        for point in [*points[start:], *points[:start]]:
            if point in failed:
                continue
            try:
                figures = curve.measure(here, point, messages)
            except (Incomplete, NotInTime, OSError, RuntimeError) as error:
                failed.add(point)
                found[point].clear()
                _tell(f"{curve.name}, {point:,} {curve.grows}: failed: {error}")
                continue
            found[point].append(figures)
            text = ", ".join(f"{column} {value:,.2f}" for column, value in figures.items())
            _tell(f"round {number + 1}, {point:,} {curve.grows}: {text}")
    text = f"{curve.about}, {messages:,} messages, {rounds} rounds"
    return Measured(report.heading(text), found)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
