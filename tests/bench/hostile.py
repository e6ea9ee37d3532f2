"""Measures what an attack on the page costs the messages.

Three states take turns of a few seconds while one bridge runs, because the same bridge in peace differs more
from start to start than an attack costs:

    in peace           nobody attacks
    another attacked   the attackers attack the page of another bridge, which carries no messages
    attacked           the attackers attack the page of the bridge that carries the messages

The attackers stand for other machines, but they run on this one. They have a core of their own, and
everything else shares the other cores in all states. Still, they take caches, and cores that are threads of
one real core slow each other down. So they make no more connections than they must: many times as many as the
page answers. `another attacked` shows what the machine itself loses; the rest is the page's.

The time of the page's own thread does not count: it is bounded to a share of a core. How much it takes shows
that the attack takes all that the page gives.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from enum import Enum

from tests.bench import latency, report
from tests.bench.latency import Latency, Stretch
from tests.bench.peers import AS_SHIPPED, Peer, Place, bridge_settings
from tests.bench.rig import Rig
from tests.harness.bridge import BridgeProcess
from tests.harness.host import Host
from tests.harness.process import Process

_PORT = 9464
_PAGE = "http"  # the page's own thread: bridge.http.server bounds it to 1 % of a core
_MEASURED, _ANOTHER = Host("page", "127.30.3.40"), Host("another", "127.30.3.41")
_TURN = 4  # seconds of peace, and of attack, in turns
_SETTLES = 1  # seconds; in them the attackers start, or the bridge answers what they had asked


class State(Enum):
    PEACE = "in peace"
    ANOTHER = "another attacked"
    ATTACKED = "attacked"


def leave_a_core() -> int:
    """Leave one core to the attackers: this process and those it starts never run there. Returns the core.

    Raises RuntimeError on a machine with one core.
    """
    *others, last = sorted(os.sched_getaffinity(0))
    if not others:
        raise RuntimeError("the attackers need a core of their own, and this machine has one core")
    os.sched_setaffinity(0, others)
    return last


def measure(here: Rig, rounds: int, rate: int, count: int, core: int) -> str:
    """`count` messages at `rate` messages/s in each state, in each round. `core`: the attackers'."""
    done = [_round(here, rate, count, core) for _ in range(rounds)]
    found = {state: [each[state].latency for each in done] for state in State}
    rows = [
        [state.value, *_spread(found[state]), report.spread([_of_page(each[state]) for each in done], 2)]
        for state in State
    ]
    for other in (State.PEACE, State.ANOTHER):
        ratios = [_ratios(*pair) for pair in zip(found[State.ATTACKED], found[other], strict=True)]
        rows.append([f"attacked / {other.value}", *_spread(ratios, 2), ""])
        both = [latency.together([each[state] for each in done]).latency for state in (State.ATTACKED, other)]
        rows.append(["of all rounds together", *(f"{one:.2f}" for one in _ratios(*both)), ""])
    columns = ["p50 ms", "p99 ms", "CPU µs a message", "% of a core", "the page's thread, % of a core"]
    return report.table([f"at {rate} messages/s", *columns], rows)


def _round(here: Rig, rate: int, count: int, core: int) -> dict[State, Stretch]:
    peer = Peer(AS_SHIPPED.name, "measured", _with_page(_MEASURED))
    other = Peer(AS_SHIPPED.name, "another", _with_page(_ANOTHER, "nothing/#"))
    turns = max(1, count // (rate * _TURN))
    found: dict[State, list[Stretch]] = {state: [] for state in State}
    place = here.place(other.slug, mqtt5=True)
    with here.live(other, place), latency.running(here, peer, rate, without=_PAGE) as stretch:
        for number in range(turns):
            for state in list(State) if number % 2 == 0 else reversed(State):
                with _attackers(here, state, core):
                    stretch(rate * _SETTLES)
                    found[state].append(stretch(count // turns))
    here.forget_session(place)
    return {state: latency.together(stretches) for state, stretches in found.items()}


def _of_page(stretch: Stretch) -> float:
    return stretch.apart / stretch.elapsed * 100


def _ratios(under: Latency, peace: Latency) -> Latency:
    return Latency(*(one / other for one, other in zip(under, peace, strict=True)))


def _spread(values: list[Latency], digits: int = 1) -> list[str]:
    return [report.spread(list(column), digits) for column in zip(*values, strict=True)]


def _with_page(page: Host, only: str = "") -> Callable[[Place], Process]:
    def make(place: Place) -> Process:
        settings = bridge_settings(place)
        del settings["mqtt"]["receive_maximum"], settings["kafka"]["options"]
        if only:
            settings["routes"][0] |= {"filter": only, "topic": place.topic, "key": "{topic}"}
        settings["http"] = {"listen": f"{page.address}:{_PORT}"}
        return BridgeProcess(settings, place.directory, name=place.client_id)

    return make


@contextlib.contextmanager
def _attackers(here: Rig, state: State, core: int) -> Iterator[None]:
    if state is State.PEACE:
        yield
        return
    page = _MEASURED if state is State.ATTACKED else _ANOTHER
    process = Process(
        "attackers",
        [sys.executable, "-m", "tests.bench.attackers", page.address, str(_PORT), str(core)],
        log=here.directory / "attackers.log",
    )
    process.start()
    try:
        yield
    finally:
        process.kill9()
