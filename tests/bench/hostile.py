"""Measures what an attack on the page costs the messages. Each round measures the bridge twice, in peace too.

The attackers stand for other machines, so they take no processor time that the bridge wants. The time of the
page's own thread does not count: it is bounded to a share of a core.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tests.bench import latency, report
from tests.bench.peers import AS_SHIPPED, Peer, Place, bridge_settings
from tests.bench.rig import Rig
from tests.harness.bridge import BridgeProcess
from tests.harness.host import Host
from tests.harness.process import Process

_PORT = 9464
_PAGE = "http"  # the page's own thread: bridge.http.server bounds it to 1 % of a core
_HERE = Host("page", "127.30.3.40")


class _Round(NamedTuple):
    peace: latency.Latency
    under: latency.Latency


def measure(here: Rig, rounds: int, rate: int, count: int) -> str:
    """`count` messages at `rate` messages/s, each round twice; every second round begins with the attack."""
    peer = Peer(AS_SHIPPED.name, "measured", _with_page)
    done = []
    for number in range(rounds):
        found = {}
        for attacked in (False, True) if number % 2 == 0 else (True, False):
            with _attackers(here) if attacked else contextlib.nullcontext():
                found[attacked] = latency.one(here, peer, rate, count, without=_PAGE)
        done.append(_Round(found[False], found[True]))
    rows = [
        [name, *(report.spread([getattr(each, state)[at] for each in done]) for at in range(4))]
        for name, state in (("in peace", "peace"), ("attacked", "under"))
    ]
    ratios = [report.spread([each.under[at] / each.peace[at] for each in done], 2) for at in range(4)]
    rows.append(["attacked / in peace", *ratios])
    columns = [f"at {rate} messages/s", "p50 ms", "p99 ms", "CPU µs a message", "% of a core"]
    return report.table(columns, rows)


def _with_page(place: Place) -> Process:
    settings = bridge_settings(place)
    del settings["mqtt"]["receive_maximum"], settings["kafka"]["options"]
    settings["http"] = {"listen": f"{_HERE.address}:{_PORT}"}
    return BridgeProcess(settings, place.directory, name=place.client_id)


@contextlib.contextmanager
def _attackers(here: Rig) -> Iterator[None]:
    process = Process(
        "attackers",
        [sys.executable, "-m", "tests.bench.attackers", _HERE.address, str(_PORT)],
        log=here.directory / "attackers.log",
    )
    process.start()
    try:
        yield
    finally:
        process.kill9()
