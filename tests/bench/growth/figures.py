"""The results of all curves, as JSON: {curve: {"heading": text, "rounds": {point: [{column: figure}, ...]}}}.

A run replaces the curves that it measured, and leaves the file's others.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench import report
from tests.bench.growth.drained import CPU, Figures

OF_FIRST = "of the first row's"


@dataclass(frozen=True)
class Measured:
    """One curve. A point without rounds could not be measured."""

    heading: str
    rounds: Mapping[int, Sequence[Figures]]

    @property
    def points(self) -> list[int]:
        return sorted(point for point, rounds in self.rounds.items() if rounds)

    def values(self, point: int, column: str) -> list[float]:
        return [figures[column] for figures in self.rounds[point]]

    def middle(self, point: int, column: str) -> float:
        return median(self.values(point, column))


def save(file: Path, measured: Mapping[str, Measured]) -> None:
    kept = load(file) if file.exists() else {}
    curves = {
        name: {"heading": curve.heading, "rounds": {str(point): each for point, each in curve.rounds.items()}}
        for name, curve in {**kept, **measured}.items()
    }
    file.write_text(json.dumps(curves, indent=1, ensure_ascii=False) + "\n")


def load(file: Path) -> dict[str, Measured]:
    return {
        name: Measured(curve["heading"], {int(point): each for point, each in curve["rounds"].items()})
        for name, curve in json.loads(file.read_text()).items()
    }


def table(grows: str, curve: Measured) -> str:
    """A row for each point. Its ratio to the first point is the median of the ratios of all rounds."""
    if not curve.points:
        return "No point could be measured."
    columns = list(curve.rounds[curve.points[0]][0])
    has_cpu = CPU in columns
    titles = [grows, *columns, *([OF_FIRST] if has_cpu else [])]
    rows = []
    for point in sorted(curve.rounds):
        if not curve.rounds[point]:
            rows.append([f"{point:,}", *("-" for _ in titles[1:])])
            continue
        row = [f"{point:,}", *(_cell(curve.values(point, column)) for column in columns)]
        if has_cpu:
            row.append(_cell(_ratios(curve, point)))
        rows.append(row)
    return report.table(titles, rows)


def _ratios(curve: Measured, point: int) -> list[float]:
    """The point's CPU in each round, as a ratio to that of the first point in the same round."""
    first = curve.values(curve.points[0], CPU)
    return [ours / base for ours, base in zip(curve.values(point, CPU), first, strict=False)]


def _cell(values: Sequence[float]) -> str:
    size = abs(median(values))
    return report.spread(values, digits=0 if size >= 100 else 1 if size >= 10 else 2)
