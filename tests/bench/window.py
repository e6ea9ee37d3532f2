"""Measures the throughput of a broker with a small window: EMQ's is 32 messages per session."""

from collections.abc import Sequence

from tests.bench import report
from tests.bench.drain import drain
from tests.bench.peers import Peer
from tests.bench.rig import Rig

WINDOW = 32  # max_inflight of EMQX, by default


def measure(here: Rig, peers: Sequence[Peer], rounds: int, count: int) -> str:
    """Each peer drains a backlog of `count` in turn. The rig's broker has the window WINDOW."""
    rates: dict[Peer, list[float]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            rates[peer].append(drain(here, peer, count, mqtt5=peer.speaks(mqtt5=True)).rate)
    return report.table(
        [f"window of {WINDOW}", "messages/s"],
        ([peer.name, report.spread(rates[peer], digits=0)] for peer in peers),
    )
