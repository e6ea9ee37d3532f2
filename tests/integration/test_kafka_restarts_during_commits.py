"""Kafka's brokers restart while transactions commit, at random moments of a commit.

`--rounds N`: each test restarts its broker N times; `--seed` draws other moments.
"""

import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from random import Random
from threading import Event, Timer
from typing import Any, ClassVar

import pytest
from confluent_kafka import Producer

from bridge.kafka import transactional_producer, transactions
from tests.harness.drain import Drain
from tests.harness.kafka import KafkaCluster, KafkaNode
from tests.harness.records import assert_once_and_in_order

_names = count(1)


class Strike:
    """Sends a signal to a broker in the middle of a commit. `done`: it was sent."""

    def __init__(self, node: KafkaNode, number: signal.Signals, share: float) -> None:
        """`share`: after so much of the time that the last commit took."""
        self._node, self._number, self._share = node, number, share
        self.done = Event()

    def begin(self, producer: "Watched") -> None:
        Timer(self._share * Watched.took, self._strike, [producer]).start()

    def _strike(self, producer: "Watched") -> None:
        if not producer.commits:  # this commit was too quick: wait for the next one
            Watched.strike = self
            return
        self._node._signal(self._number)
        self.done.set()


class Watched(Producer):
    """A producer that is struck in its next commit: between its offset and the return of its commit."""

    strike: ClassVar[Strike | None] = None
    took: ClassVar[float] = 0.05  # seconds, from the offset to the commit's return

    commits = False

    def send_offsets_to_transaction(self, *arguments: Any) -> None:
        self.commits, self._began = True, time.monotonic()
        strike, Watched.strike = Watched.strike, None
        if strike:
            strike.begin(self)
        try:
            super().send_offsets_to_transaction(*arguments)
        except BaseException:
            self.commits = False
            raise

    def commit_transaction(self, *arguments: Any) -> None:
        try:
            super().commit_transaction(*arguments)
            Watched.took = min(0.2, time.monotonic() - self._began)
        finally:
            self.commits = False


@pytest.fixture
def name() -> str:
    """A transactional id and group of this test alone."""
    return f"restarts.{next(_names)}"


@pytest.fixture
def drain(kafka: KafkaCluster, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drain]:
    monkeypatch.setattr(transactions, "GATHER", 0.0)
    monkeypatch.setattr(transactional_producer, "RdProducer", Watched)
    monkeypatch.setattr(Watched, "strike", None)
    with Drain(kafka.bootstrap, tmp_path, name) as it:
        yield it


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
@pytest.mark.parametrize("role", ["__transaction_state", "__consumer_offsets", "leader"])
def test_nothing_is_lost_doubled_or_reordered(
    drain: Drain,
    kafka: KafkaCluster,
    new_topic: Callable[..., str],
    name: str,
    role: str,
    how: signal.Signals,
    request: pytest.FixtureRequest,
) -> None:
    """`role`: the broker coordinates the transactions, or the group with the number, or leads a topic."""
    rounds, chance = request.config.getoption("--rounds"), Random(request.config.getoption("--seed"))
    written: dict[str, list[bytes]] = {new_topic(partitions=1): [] for _ in range(3)}
    machine = drain.cluster.transactions

    def until(condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait while messages flow."""

        def goes_on() -> object:
            if len(drain.in_flight) < 200:
                topic = chance.choice(list(written))
                more = [b"%d" % (len(written[topic]) + each) for each in range(chance.randint(1, 20))]
                written[topic] += more
                drain.write(topic, more)
            drain.retry()
            return condition()

        drain.until(goes_on, seconds, what)

    def commits(number: int) -> None:
        goal = machine.committed_count + number
        until(lambda: machine.committed_count >= goal, 90, "transactions commit")

    commits(5)
    for _ in range(rounds):
        if role == "leader":
            node = kafka.leader(chance.choice(list(written)))
        else:
            node = kafka.coordinator(role, name)
        Watched.strike = strike = Strike(node, how, chance.random())
        until(strike.done.is_set, 30, "a commit is struck")
        until(lambda node=node: not node.alive, 30, "the broker has ended")
        back = time.monotonic() + chance.uniform(0.0, 3.0)
        until(lambda back=back: time.monotonic() >= back, 30, "it was away for a while")
        node.kill9()  # nothing of it is left
        node.spawn()
        until(node.is_ready, node.deadline, "the broker is back")
        commits(5)
    drain.until(lambda: drain.retry() or drain.is_done, 120, "all is delivered")
    print(f"{rounds} restarts, {drain.cluster.rebuilds} producers after the first; {machine}")  # noqa: T201
    for topic, values in written.items():
        assert_once_and_in_order(kafka.bootstrap, topic, values)
