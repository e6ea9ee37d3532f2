"""One fault after the other and several at once, drawn at random: for 10 minutes with --full.

The seed is printed, and `--seed N` draws the same again.
"""

import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from tests.faults.chain import ROWS, Chain, Flow

_LONGEST = 6.0  # s; EMQ's queue of 1,000 is to hold what comes meanwhile, and until all is well again


@dataclass
class Mischief:
    """What may happen, each as a context manager. `doubled` is the bound of all that did."""

    chain: Chain
    flow: Flow
    random: random.Random
    doubled: int = 0
    done: list[str] = field(default_factory=list)

    def draw(self) -> Sequence[Callable[[], contextlib.AbstractContextManager[None]]]:
        """One to three faults that can be at the same time, in the order in which they begin."""
        chain, universe, draw = self.chain, self.chain.universe, self.random
        node, broker = chain.emq.node(draw.choice((1, 2))), chain.kafka.node(draw.choice((1, 2, 3)))
        # Those that end last stand first: a program can only start where the cables are in again.
        bridge = [self.bridge_killed, self.bridge_stopped]
        programs = [
            node.dead,
            node.hung,
            broker.dead,
            broker.hung,
            chain.haproxy.dead,
            chain.haproxy.hung,
            self.haproxy_reloaded,
        ]
        machines = [lambda: universe.power_cut(node), lambda: universe.power_cut(broker)]
        cables = [
            lambda: universe.cable_out(universe.bridge),
            lambda: universe.cable_out(universe.haproxy),
            lambda: universe.cable_out(*universe.kafka),
            lambda: universe.bad_cable(universe.bridge, chain.directory, loss=0.1, delay=0.05),
        ]
        names = ["the bridge", "a program", "a cable"]
        chosen = []
        for name, choice in zip(names, (bridge, programs + machines, cables), strict=True):
            number = draw.randrange(len(choice))
            if draw.random() < 0.5:
                chosen.append(choice[number])
                self.done.append(f"{name} {number}")
        return chosen or [node.dead]

    @contextlib.contextmanager
    def bridge_killed(self) -> Iterator[None]:
        self.doubled += ROWS
        self.flow.bridge.kill9()
        yield
        self.flow.bridge.start()

    @contextlib.contextmanager
    def bridge_stopped(self) -> Iterator[None]:
        """Where HAProxy or Kafka is away at the same time, what was unconfirmed may come twice."""
        self.doubled += ROWS
        self.flow.bridge.terminate(deadline=60)
        yield
        self.flow.bridge.start()

    @contextlib.contextmanager
    def haproxy_reloaded(self) -> Iterator[None]:
        self.chain.haproxy.reload()
        yield


def test_it_is_all_there_in_the_end(chain: Chain, request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--seed") or random.randrange(1, 1_000_000)
    sys.stdout.write(f"--seed {seed}\n")
    ends = time.monotonic() + (600 if chain.full_length else 40)
    with chain.flow() as flow:
        mischief = Mischief(chain, flow, random.Random(seed))
        flow.load.rate = 45.0
        while time.monotonic() < ends:
            flow.catches_up(deadline=120)
            with contextlib.ExitStack() as faults:
                for begin in mischief.draw():
                    faults.enter_context(begin())
                chain.pass_time(mischief.random.uniform(0.5, _LONGEST))
            flow.goes_on(deadline=150)
    chain.judge(flow, doubled=mischief.doubled)
