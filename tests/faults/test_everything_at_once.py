"""One fault after the other and several at once, drawn at random: for 10 minutes with --full.

The seed is printed; `--seed N` repeats the same faults.
"""

import contextlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.faults.chain import ROWS, Chain, Flow

_LONGEST = 6.0  # s


Fault = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass
class Mischief:
    """The possible faults, each a context manager. `doubled` is the total bound of those that happened."""

    chain: Chain
    flow: Flow
    random: random.Random
    doubled: int = 0

    def draw(self) -> list[tuple[str, Fault]]:
        """Some faults that can happen at the same time, by name, in the order in which they begin.

        Faults that end last come first: a program can start only after its cables are back.
        """
        chain, universe = self.chain, self.chain.universe
        node, broker = chain.emq.node(self.random.choice((1, 2))), self.random.choice(chain.kafka.nodes)
        bridge: dict[str, Fault] = {
            "the bridge is killed": self.bridge_killed,
            "the bridge is stopped": self.bridge_stopped,
        }
        programs: dict[str, Fault] = {
            f"{node.name} dies": node.dead,
            f"{node.name} hangs": node.hung,
            f"{node.name} loses power": lambda: universe.power_cut(node),
            f"{broker.name} dies": broker.dead,
            f"{broker.name} hangs": broker.hung,
            f"{broker.name} loses power": lambda: universe.power_cut(broker),
            "haproxy dies": chain.haproxy.dead,
            "haproxy hangs": chain.haproxy.hung,
            "haproxy is reloaded": self.haproxy_reloaded,
        }
        cables: dict[str, Fault] = {
            "the bridge's cable is out": lambda: universe.cable_out(universe.bridge),
            "haproxy's cable is out": lambda: universe.cable_out(universe.haproxy),
            "kafka's cables are out": lambda: universe.cable_out(*universe.kafka),
            "the bridge's cable is bad": lambda: universe.bad_cable(
                universe.bridge, chain.directory, loss=0.1, delay=0.05
            ),
        }
        drawn = [self.random.choice(list(faults.items())) for faults in (bridge, programs, cables)]
        return [fault for fault in drawn if self.random.random() < 0.5]

    @contextlib.contextmanager
    def bridge_killed(self) -> Iterator[None]:
        self.doubled += ROWS
        self.flow.bridge.kill9()
        yield
        self.flow.bridge.start()

    @contextlib.contextmanager
    def bridge_stopped(self) -> Iterator[None]:
        """If HAProxy or Kafka is away at the same time, unconfirmed messages may be duplicated."""
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
        flow.load.rate = 30.0  # the bridge starts last, and Kafka may take a minute
        while time.monotonic() < ends:
            flow.catches_up(deadline=120)
            with contextlib.ExitStack() as faults:
                for name, begin in mischief.draw():
                    sys.stdout.write(f"{name}\n")
                    faults.enter_context(begin())
                chain.pass_time(mischief.random.uniform(0.5, _LONGEST))
            flow.goes_on(deadline=150)
    chain.judge(flow, doubled=mischief.doubled)
