"""Draws the figures: the cost of a message, one bar for each bridge, or against what grows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.bench.growth.figures import Measured
from tests.bench.report import Round

# Readable on white and on black. The same figures give the same file.
_INK = "#808080"
_OURS, _OTHERS = "#2f9e44", "#748ffc"
_LINES = (_OURS, _OTHERS, "#e8590c")
_LINEAR = 10  # up to here what grows has a linear axis, which may begin with 0
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}

Panels = Sequence[tuple[str, Sequence[str]]]
"""Of each diagram: its title, and the columns that are its lines."""


def drains(versions: Mapping[str, Sequence[Round]], heading: str, file: Path) -> None:
    """Draw each peer's median, with a line from minimum to maximum, for each version of MQTT."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 1.2 + 0.32 * sum(len(_costs(rounds)) for rounds in versions.values())))
        figure.suptitle(f"CPU a message, µs: less is better\n{heading}", fontsize=9)
        for axes, (version, rounds) in zip(
            figure.subplots(len(versions), squeeze=False)[:, 0], versions.items(), strict=True
        ):
            costs = _costs(rounds)
            middles = [median(values) for values in costs.values()]
            bars = axes.barh(
                list(costs),
                middles,
                xerr=[
                    [middle - min(values) for middle, values in zip(middles, costs.values(), strict=True)],
                    [max(values) - middle for middle, values in zip(middles, costs.values(), strict=True)],
                ],
                ecolor=_INK,
                color=[_OURS if name.startswith("mqtt-kafka-bridge") else _OTHERS for name in costs],
            )
            axes.bar_label(bars, fmt="%.1f", padding=3)
            axes.set_title(f"MQTT {version}", fontsize=9, loc="left")
            axes.invert_yaxis()
            axes.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})


def _costs(rounds: Sequence[Round]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for each in rounds:
        for drain in each:
            found.setdefault(drain.peer.name, []).append(drain.cpu_us)
    return found


def curve(title: str, grows: str, measured: Measured, panels: Panels, file: Path) -> None:
    """Draw the medians of each column against what grows, with lines from minimum to maximum."""
    points = measured.points
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.2 * len(panels), 3))
        figure.suptitle(title, fontsize=9)
        for axes, (name, columns) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            for column, colour in zip(columns, _LINES, strict=False):
                middles = [measured.middle(point, column) for point in points]
                values = [measured.values(point, column) for point in points]
                axes.errorbar(
                    points,
                    middles,
                    yerr=[
                        [middle - min(each) for middle, each in zip(middles, values, strict=True)],
                        [max(each) - middle for middle, each in zip(middles, values, strict=True)],
                    ],
                    color=colour,
                    ecolor=_INK,
                    marker="o",
                    markersize=3,
                    label=column,
                )
            if points[-1] > _LINEAR:
                axes.set_xscale("log")
            axes.minorticks_off()
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
            axes.set_title(name, fontsize=9, loc="left")
            axes.set_xlabel(grows, fontsize=8)
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
            if len(columns) > 1:
                axes.legend(fontsize=7, frameon=False)
        figure.tight_layout()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
