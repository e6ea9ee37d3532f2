"""What a broker lets through that has only so many messages in flight: EMQ has 32 for a session."""

from collections.abc import Sequence

from tests.bench import report
from tests.bench.drain import drain
from tests.bench.peers import Peer
from tests.bench.rig import Rig

WINDOW = 32  # max_inflight of EMQX, by default


def measure(here: Rig, peers: Sequence[Peer], rounds: int, count: int) -> str:
    """A backlog of `count` for each peer, in turns. The rig's broker has this window."""
    rates: dict[Peer, list[float]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            rates[peer].append(drain(here, peer, count, mqtt5=peer.speaks(mqtt5=True)).rate)
    return report.table(
        [f"window of {WINDOW}", "messages/s"],
        ([peer.name, report.spread(rates[peer], digits=0)] for peer in peers),
    )
