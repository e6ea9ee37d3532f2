"""Measures what an attack on the page costs the messages.

The attackers take processor time of the same machine. So each round measures the bridge three times: in
peace; while the attackers attack another bridge, which has no messages; and while they attack the measured
one. The difference of the last two is what the attack costs the messages. The time of the page's own thread
does not count: it is bounded to a share of a core.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tests.bench import latency, report
from tests.bench.peers import AS_SHIPPED, Peer, Place, bridge_settings
from tests.bench.rig import Rig
from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.host import Host
from tests.harness.process import Process

_PORT = 9464
_PAGE = "http"  # the page's own thread: bridge.http.server bounds it to 0.5 % of a core
_HERE, _OTHER = Host("page", "127.30.3.40"), Host("decoy", "127.30.3.41")


class _Round(NamedTuple):
    peace: latency.Latency
    beside: latency.Latency  # the attackers attack the other bridge
    under: latency.Latency


def measure(here: Rig, rounds: int, rate: int, count: int) -> str:
    """`count` messages at `rate` messages/s, each round three times."""
    measured, decoy = _peer("measured", _HERE), _peer("decoy", _OTHER)
    done = []
    for _ in range(rounds):
        peace = latency.one(here, measured, rate, count, without=_PAGE)
        with _attacked_decoy(here, decoy):
            beside = latency.one(here, measured, rate, count, without=_PAGE)
        with _attackers(here, _HERE):
            under = latency.one(here, measured, rate, count, without=_PAGE)
        done.append(_Round(peace, beside, under))
    rows = [
        [name, *(report.spread([getattr(each, state)[at] for each in done]) for at in range(4))]
        for name, state in (("in peace", "peace"), ("another is attacked", "beside"), ("attacked", "under"))
    ]
    ratios = [report.spread([each.under[at] / each.beside[at] for each in done], 2) for at in range(4)]
    rows.append(["attacked / another is attacked", *ratios])
    columns = [f"at {rate} messages/s", "p50 ms", "p99 ms", "CPU µs a message", "% of a core"]
    return report.table(columns, rows)


def _peer(slug: str, host: Host) -> Peer:
    def process(place: Place) -> Process:
        settings = bridge_settings(place)
        del settings["mqtt"]["receive_maximum"], settings["kafka"]["options"]
        settings["http"] = {"listen": f"{host.address}:{_PORT}"}
        return BridgeProcess(settings, place.directory, name=place.client_id)

    return Peer(f"{AS_SHIPPED.name}, {slug}", slug, process)


@contextlib.contextmanager
def _attacked_decoy(here: Rig, decoy: Peer) -> Iterator[None]:
    place = here.place(decoy.slug, mqtt5=True)
    here.kafka.create_topic(place.topic, partitions=1)
    with here.live(decoy, place), _attackers(here, _OTHER):
        wait_until(lambda: _OTHER.listens(_PORT), 10, "the other bridge has its page")
        yield
    here.forget_session(place)


@contextlib.contextmanager
def _attackers(here: Rig, target: Host) -> Iterator[None]:
    process = Process(
        "attackers",
        [sys.executable, "-m", "tests.bench.attackers", target.address, str(_PORT)],
        log=here.directory / "attackers.log",
    )
    process.start()
    try:
        yield
    finally:
        process.kill9()
