"""What delivery exactly-once costs, beside the default mode in the same run."""

from collections.abc import Callable
from functools import partial

from tests.bench import latency, peers, report
from tests.bench.growth import drained
from tests.bench.growth.drained import Cost
from tests.bench.growth.load import Load
from tests.bench.peers import Peer
from tests.bench.rig import Rig

WINDOWS = (32, 1000)  # the broker's: EMQX's by default, and a large one
_MODES = ("at-least-once", "exactly-once")
_RATE, _ONE_BY_ONE = 200, 2000  # messages/s, and how many, where they come one by one


def measure(here: Rig, rounds: int, count: int) -> str:
    """Backlogs of `count` through each window, and messages that come one by one. The modes take turns.

    The backlogs' broker keeps its window (growth/feeder.py), which mosquitto does not.
    """
    tables = []
    for window in WINDOWS:
        load = Load(count, window=window)
        done = [[_drain(here, load, mode) for mode in _MODES] for _ in range(rounds)]
        tables.append(_drains(window, done))
    one_by_one = [Peer(mode, mode, partial(peers.bridge, as_shipped=True, delivery=mode)) for mode in _MODES]
    return "\n\n".join([*tables, latency.measure(here, one_by_one, rounds, _RATE, _ONE_BY_ONE)])


def _drain(here: Rig, load: Load, mode: str) -> Cost:
    return drained.cost(here, load, Peer(mode, mode, partial(drained.bridge, load, delivery=mode)))


def _drains(window: int, done: list[list[Cost]]) -> str:
    def spread(mode: int, figure: Callable[[Cost], float], digits: int = 0) -> str:
        return report.spread([figure(turn[mode]) for turn in done], digits)

    columns = [
        f"window of {window}",
        "messages/s",
        "CPU µs a message",
        "peak MB",
        "bytes to disk a message",
    ]
    return report.table(
        columns,
        (
            [
                name,
                spread(mode, lambda one: one.rate),
                spread(mode, lambda one: one.cpu_us, 1),
                spread(mode, lambda one: one.peak_mb),
                spread(mode, lambda one: one.written),
            ]
            for mode, name in enumerate(_MODES)
        ),
    )
