"""Collects the view's data: some each second, the rest whenever the view is drawn."""

import time
from collections import deque
from collections.abc import Mapping, Sequence

from tests.harness.haproxy import PASSWORD, USER
from tests.harness.lab.chain import CLIENT_ID, Chain
from tests.harness.lab.score import Score
from tests.harness.lab.snapshot import Seat, Snapshot, Told, checked
from tests.harness.process import Process

# Seconds. Averaged over one second, a rate of 50 would show as 49, 51, 50.
_RATE_OVER = 3

_QUEUE = 1000  # EMQ's default queue for a session that takes nothing; TwoDoors uses the same


class Watch:
    """`look` may block, so a thread of its own calls it; `snapshot` never blocks."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._score = Score(0, 0, 0, 0, 0, 0)
        self._seats: dict[str, Seat] | None = None
        self._scores: deque[tuple[float, Score]] = deque(maxlen=_RATE_OVER + 1)

    def look(self) -> Score:
        self._seats = self._chain.seats()
        self._score = self._chain.scoreboard.take()
        self._scores.append((time.monotonic(), self._score))
        return self._score

    def snapshot(self, elapsed: float, ends_in: float | None, told: Sequence[Told], keys: str) -> Snapshot:
        chain = self._chain
        published_rate, delivered_rate = self._rates()
        return Snapshot(
            elapsed=int(elapsed),
            ends_in=None if ends_in is None else max(0, int(ends_in)),
            stand_in=chain.stand_in,
            devices=chain.plan.devices,
            conditions=self._conditions(),
            beyond_reach=frozenset() if chain.is_controlled else frozenset(("emq1", "emq2")),
            seats=self._seats if chain.condition("haproxy") != "down" else _NOBODY,
            score=self._score,
            published_rate=published_rate,
            delivered_rate=delivered_rate,
            page=chain.page,
            dashboards=chain.dashboards if chain.emq.family != "rabbitmq" else "none with RabbitMQ",
            console=f"{chain.console}   ({USER}, {PASSWORD})",
            told=tuple(str(entry) for entry in told),
            warning=self._warning(),
            keys=keys,
        )

    def _rates(self) -> tuple[float, float]:
        """Published and delivered messages per second."""
        if len(self._scores) < 2:
            return 0.0, 0.0
        (first, before), (last, now) = self._scores[0], self._scores[-1]
        seconds = last - first
        return (now.published - before.published) / seconds, (now.delivered - before.delivered) / seconds

    def _warning(self) -> str:
        if self._score.is_shared:
            return f'Another client has used the client id "{CLIENT_ID}" (deploy/lab status tells more)'
        if self._chain.emq.family != "mosquitto":
            return ""
        if self._chain.has_dropped:
            return f"EMQ's queue for the bridge ({_QUEUE} messages) was full, so EMQ dropped messages"
        if self._score.in_flight > 0.9 * _QUEUE:
            return f"EMQ's queue for the bridge is nearly full: it takes {_QUEUE} messages"
        return ""

    def _conditions(self) -> Mapping[str, str]:
        seats = self._seats or {}
        return {
            name: self._chain.condition(name) if isinstance(node, Process) else checked(seats.get(name))
            for name, node in self._chain.nodes.items()
        }


_NOBODY = {name: Seat("DOWN", 0, 0) for name in ("emq1", "emq2")}
