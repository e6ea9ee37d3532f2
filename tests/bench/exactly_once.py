"""What delivery exactly-once costs, beside the default mode in the same run."""

from collections.abc import Callable
from functools import partial

from tests.bench import latency, report
from tests.bench.drain import Drain, drain
from tests.bench.peers import Peer, bridge
from tests.bench.rig import Rig

WINDOWS = (32, 1000)  # the broker's: EMQX's by default, and a large one
_AS_SHIPPED = 100  # mqtt.receive_maximum
_MODES = ("at-least-once", "exactly-once")
_RATE, _ONE_BY_ONE = 200, 2000  # messages/s, and how many, where they come one by one


def measure(here: Rig, rounds: int, count: int) -> str:
    """Backlogs of `count` through each window, and messages that come one by one. The modes take turns."""
    tables = []
    for window in WINDOWS:
        here.allow_inflight(window)
        done = [[drain(here, mode, count, mqtt5=True) for mode in _modes(window)] for _ in range(rounds)]
        tables.append(_drains(window, done))
    return "\n\n".join([*tables, latency.measure(here, _modes(_AS_SHIPPED), rounds, _RATE, _ONE_BY_ONE)])


def _modes(window: int) -> list[Peer]:
    """Both modes, as shipped, but for a Receive Maximum that a larger window of the broker needs."""
    least = max(window, _AS_SHIPPED)
    return [
        Peer(mode, mode, partial(bridge, as_shipped=True, window=least, delivery=mode)) for mode in _MODES
    ]


def _drains(window: int, done: list[list[Drain]]) -> str:
    def spread(mode: int, figure: Callable[[Drain], float], digits: int = 0) -> str:
        return report.spread([figure(turn[mode]) for turn in done], digits)

    columns = [
        f"window of {window}",
        "messages/s",
        "CPU µs a message",
        "peak MB",
        "bytes to disk a message",
        "copies",
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
                spread(mode, lambda one: one.copies),
            ]
            for mode, name in enumerate(_MODES)
        ),
    )
