"""Which brokers are up, as librdkafka's statistics tell.

librdkafka makes the statistics as one JSON text. Its part "topics" grows with the topics, to megabytes; the
part "brokers" stands before it, and only that part is parsed (docs/decisions/0019-which-brokers-are-up.md).
"""

import json
import time
from contextlib import suppress
from dataclasses import dataclass

_BROKERS = '"brokers":'
_NOBODY = -1  # the node id of a bootstrap address, and of librdkafka's own entries
_IDLE = "INIT"  # no connection, and no need of one: librdkafka connects to the brokers that it needs
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class Broker:
    """`since`: monotonic seconds of the last change of `is_up`. `round_trip_p99`: seconds, or None."""

    number: int
    address: str
    is_up: bool
    since: float
    round_trip_p99: float | None = None


class Brokers:
    """The brokers by the newest statistics. `take` may run in any thread; it swaps `known` in whole.

    `taken_at`: monotonic seconds of the newest statistics; 0: none came yet.
    `any_up`: a broker, or a bootstrap address, has a connection that works.
    `ever_up`: one has had a connection since the start.
    """

    def __init__(self) -> None:
        self.known: tuple[Broker, ...] = ()
        self.any_up = self.ever_up = False
        self.taken_at = 0.0

    def take(self, statistics: str) -> None:
        """Take librdkafka's statistics (its STATISTICS.md).

        This runs in librdkafka's callback. An error there would end the loop, so a format that this code does
        not know only leaves the brokers as they were.
        """
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            self._take(statistics)

    def _take(self, statistics: str) -> None:
        begin = statistics.find(_BROKERS)
        if begin < 0:
            return
        now = time.monotonic()
        found, _ = _decode(statistics, statistics.index("{", begin))
        before = {broker.number: broker for broker in self.known}
        after: dict[int, Broker] = {}
        for each in found.values():
            number, state = each["nodeid"], each["state"]
            if number <= _NOBODY:
                continue
            earlier = before.get(number)
            if state == _IDLE and earlier is None:
                continue  # it was never needed, so nothing is known of it
            is_up = earlier.is_up if state == _IDLE and earlier else state == "UP"
            rtt = each.get("rtt", {})
            broker = Broker(
                number,
                each.get("nodename") or each["name"].partition("/")[0],
                is_up,
                earlier.since if earlier and earlier.is_up == is_up else now,
                rtt["p99"] / 1e6 if rtt.get("cnt") else (earlier.round_trip_p99 if earlier else None),
            )
            after[number] = broker
        for number, earlier in before.items():
            after.setdefault(number, earlier)
        any_up = any(each["state"] == "UP" for each in found.values())
        self.known = tuple(after[number] for number in sorted(after))
        self.any_up = any_up
        self.taken_at = now
        self.ever_up |= any_up
