"""Draws the figures: the cost of a message, one bar for each bridge."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.bench.report import Round

# Readable on white and on black. The same figures give the same file.
_INK = "#808080"
_OURS, _OTHERS = "#2f9e44", "#748ffc"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}


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
