"""Thousands of transactions through a proxy that delays, drops and repeats what they depend on.

`--rounds N` makes them N times as many; `--seed` draws other faults.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from bridge.kafka import transactions
from tests.harness.drain import Drain
from tests.harness.host import Network
from tests.harness.kafka import KafkaCluster
from tests.harness.kafka_proxy import (
    END_TXN,
    OF_TRANSACTIONS,
    PRODUCE,
    PROPERTIES,
    TXN_OFFSET_COMMIT,
    KafkaProxy,
)
from tests.harness.records import records

NETWORK = Network("127.30.6")
BRIDGES = 4  # each with an id, a spool, and topics of its own
COMMITTED = 40  # transactions of each bridge in a round
CHANCE = 0.02  # of a request; a transaction has five and more


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster(NETWORK, tmp_path_factory.mktemp("kafka"), properties=PROPERTIES) as cluster:
        yield cluster


def drains(proxy: KafkaProxy, kafka: KafkaCluster, directory: Path, number: int, goal: int, seed: int) -> int:
    """One bridge, which is stopped now and then. Returns how many transactions have committed."""
    chance = Random(seed + number)
    topics = [f"bridge{number}.{topic}" for topic in "abc"]
    written: dict[str, list[bytes]] = {topic: [] for topic in topics}
    committed = 0
    while committed < goal:
        with Drain(proxy.bootstrap, directory / str(number), f"bridge{number}") as drain:
            machine = drain.cluster.transactions
            runs_until = chance.randint(5, 60)
            while machine.committed_count < runs_until and committed + machine.committed_count < goal:
                if len(drain.in_flight) < 200:
                    topic = chance.choice(topics)
                    payloads = [b"%d" % (len(written[topic]) + each) for each in range(chance.randint(1, 20))]
                    written[topic] += payloads
                    drain.write(topic, payloads)
                drain.turn()
                drain.loop.wait(0.02)
                drain.retry()
            drain.until(lambda drain=drain: drain.is_on_disk, 30, "all are on disk")
            committed += machine.committed_count
    proxy.chance = 0.0
    with Drain(proxy.bootstrap, directory / str(number), f"bridge{number}") as drain:

        def is_done() -> bool:
            drain.retry()
            return drain.is_done

        drain.until(is_done, 120, "all is delivered")
    for topic in topics:
        found = [record.value for record in records(kafka.bootstrap, topic)]
        assert found == written[topic], f"{topic}: lost or doubled, or in another order"
    return committed


def test_no_message_is_lost_doubled_or_reordered(
    kafka: KafkaCluster, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "GATHER", 0.0)
    rounds, seed = request.config.getoption("--rounds"), request.config.getoption("--seed")
    for number in range(BRIDGES):
        for topic in "abc":
            kafka.create_topic(f"bridge{number}.{topic}", 1)
    with KafkaProxy(NETWORK.kafka, seed, CHANCE) as proxy, ThreadPoolExecutor(BRIDGES) as pool:
        committed = pool.map(
            lambda number: drains(proxy, kafka, tmp_path, number, COMMITTED * rounds, seed), range(BRIDGES)
        )
        print(f"{sum(committed)} transactions committed, {proxy.faults.total()} faults: {dict(proxy.faults)}")
        print({api: proxy.requests[api] for api in OF_TRANSACTIONS})
    for api in (PRODUCE, TXN_OFFSET_COMMIT, END_TXN):
        assert any(each == api for each, _ in proxy.faults), "the test means to hit these requests"
