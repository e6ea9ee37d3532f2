"""Formats the figures as Markdown: medians, and the spread from minimum to maximum."""

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from statistics import median

from tests.bench.drain import Drain
from tests.bench.peers import MQ_BRIDGE, PLAIN_PAHO, Peer

Round = Sequence[Drain]
"""The result of each peer in one round."""


def heading(text: str) -> str:
    """The text, with the date and the machine of the measurement."""
    today = datetime.now(UTC).date().isoformat()
    return f"{text}; {today}, {os.cpu_count()} cores, Python {platform.python_version()}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, the minimum and the maximum."""
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    low, high = min(values), max(values)
    return f"{median(values):,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def drains(rounds: Sequence[Round]) -> str:
    """A row for each peer. Its ratio to another is the median of the ratios of all rounds."""
    peers = list(dict.fromkeys(drain.peer for each in rounds for drain in each))
    columns = [
        "bridge",
        "CPU µs a message",
        "of plain paho's",
        "of mq-bridge's",
        "messages/s",
        "peak MB",
        "start, CPU s",
        "copies",
    ]
    return table(columns, (_row(peer, rounds) for peer in peers))


def _row(peer: Peer, rounds: Sequence[Round]) -> list[str]:
    def values(figure: Callable[[Drain], float]) -> list[float]:
        return [figure(drain) for each in rounds for drain in each if drain.peer is peer]

    return [
        peer.name,
        spread(values(lambda drain: drain.cpu_us)),
        _ratio(peer, PLAIN_PAHO, rounds, digits=3),
        _ratio(peer, MQ_BRIDGE, rounds, digits=2),
        spread(values(lambda drain: drain.rate), digits=0),
        spread(values(lambda drain: drain.peak_mb), digits=0),
        spread(values(lambda drain: drain.start_cpu), digits=2),
        str(sum(int(copies) for copies in values(lambda drain: drain.copies))),
    ]


def _ratio(peer: Peer, other: Peer, rounds: Sequence[Round], digits: int) -> str:
    ratios = []
    for each in rounds:
        cost = {drain.peer: drain.cpu_us for drain in each}
        if peer in cost and other in cost:
            ratios.append(cost[peer] / cost[other])
    return spread(ratios, digits) if ratios and peer is not other else "1" if ratios else "-"
