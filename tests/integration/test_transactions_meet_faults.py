"""Thousands of transactions through a proxy that delays, drops and repeats what they depend on.

`--rounds N` makes them N times as many; `--seed` draws other faults.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from bridge.kafka import transactions
from tests.harness.conditions import wait_until
from tests.harness.drain import Drain
from tests.harness.host import Network
from tests.harness.kafka import KafkaCluster
from tests.harness.kafka_proxy import (
    END_TXN,
    PRODUCE,
    PROPERTIES,
    TXN_OFFSET_COMMIT,
    Fault,
    KafkaProxy,
)
from tests.harness.records import assert_once_and_in_order, records

NETWORK = Network("127.30.6")
BRIDGES = 8  # each with an id, a spool, and topics of its own; most of them wait at any time
COMMITTED = 20  # transactions of each bridge in a round
CHANCE = 0.02  # of a request; a transaction has five and more


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with KafkaCluster(NETWORK, tmp_path_factory.mktemp("kafka"), properties=PROPERTIES) as cluster:
        yield cluster


def run(
    proxy: KafkaProxy,
    directory: Path,
    number: int,
    goal: int,
    chance: Random,
    written: dict[str, list[bytes]],
) -> int:
    """One bridge, which is stopped now and then. Returns how many transactions have committed."""
    topics = list(written)
    committed = 0
    while committed < goal:
        with Drain(proxy.bootstrap, directory / str(number), f"bridge{number}") as drain:
            machine = drain.cluster.transactions
            stops_after = chance.randint(5, 60)
            while machine.committed_count < stops_after and committed + machine.committed_count < goal:
                if len(drain.in_flight) < 200:
                    topic = chance.choice(topics)
                    more = [b"%d" % (len(written[topic]) + each) for each in range(chance.randint(1, 20))]
                    written[topic] += more
                    drain.write(topic, more)
                drain.turn()
                drain.loop.wait(0.02)
                drain.retry()
            drain.until(lambda drain=drain: drain.is_on_disk, 30, "all are on disk")
            committed += machine.committed_count
    return committed


def drain_all(proxy: KafkaProxy, directory: Path, number: int) -> None:
    with Drain(proxy.bootstrap, directory / str(number), f"bridge{number}") as drain:

        def is_done() -> bool:
            drain.retry()
            return drain.is_done

        drain.until(is_done, 120, "all is delivered")


@pytest.mark.parametrize(
    "fault", [Fault.ANSWER_LOST, Fault.REQUEST_LOST, Fault.REQUEST_LATE, Fault.ANSWER_DROPPED]
)
def test_a_producer_that_has_sent_its_commit_twice_is_replaced(
    kafka: KafkaCluster, tmp_path: Path, fault: Fault
) -> None:
    """Its first request may come late, and end the next transaction."""
    topic = f"twice.{fault.name}"
    kafka.create_topic(topic, 1)
    with KafkaProxy(NETWORK.kafka, seed=0) as proxy, Drain(proxy.bootstrap, tmp_path, topic) as drain:
        drain.write(topic, [b"1"])
        drain.until(lambda: drain.is_done, 30, "all is delivered")
        drain.write(topic, [b"2"])
        drain.until(lambda: drain.is_done, 30, "all is delivered")
        sent, rebuilds = proxy.requests[END_TXN], drain.cluster.rebuilds
        proxy.next[END_TXN] = fault
        drain.write(topic, [b"3"])
        drain.until(lambda: drain.is_done, 60, "all is delivered")
        drain.write(topic, [b"4"])
        drain.until(lambda: drain.is_done, 30, "all is delivered")
        assert proxy.faults[END_TXN, fault] == 1
        if fault is not Fault.ANSWER_DROPPED:  # there the bridge gives up first, and reads the number
            assert proxy.requests[END_TXN] >= sent + 3, "librdkafka has sent it again"
        assert drain.cluster.rebuilds > rebuilds
    wait_until(lambda: len(records(kafka.bootstrap, topic)) >= 4, 30.0, "the reader has all")
    assert [record.value for record in records(kafka.bootstrap, topic)] == [b"1", b"2", b"3", b"4"]


def test_a_record_that_takes_long_on_a_slow_line_is_delivered_once(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    """9 s, with the options that docs/how-to/managed-kafka.md names for such a line."""
    topic = "slow"
    kafka.create_topic(topic, 1)
    values = [b"1", Random(0).randbytes(900_000), b"3"]
    options = {"request.timeout.ms": 30_000, "socket.timeout.ms": 60_000, "compression.type": "none"}
    with KafkaProxy(NETWORK.kafka, seed=0, rate=100_000) as proxy:
        settings = {"bootstrap_servers": proxy.bootstrap, "options": options}
        with Drain(settings, tmp_path, topic) as drain:
            drain.write(topic, values)
            drain.until(lambda: drain.is_done, 60, "all is delivered")
            assert not drain.failures
            assert drain.cluster.transactions.failed_count == 0
    assert_once_and_in_order(kafka.bootstrap, topic, values)


def test_no_message_is_lost_doubled_or_reordered(
    kafka: KafkaCluster, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "GATHER", 0.0)
    rounds, seed = request.config.getoption("--rounds"), request.config.getoption("--seed")
    bridges = range(BRIDGES)
    written: list[dict[str, list[bytes]]] = [
        {f"bridge{number}.{topic}": [] for topic in "abc"} for number in bridges
    ]
    for topics in written:
        for topic in topics:
            kafka.create_topic(topic, 1)
    with KafkaProxy(NETWORK.kafka, seed, CHANCE) as proxy, ThreadPoolExecutor(BRIDGES) as pool:

        def go(number: int) -> int:
            return run(proxy, tmp_path, number, COMMITTED * rounds, Random(seed + number), written[number])

        committed = sum(pool.map(go, bridges))
        proxy.chance = 0.0
        list(pool.map(lambda number: drain_all(proxy, tmp_path, number), bridges))
    faults = {f"{api} {fault.name}": times for (api, fault), times in sorted(proxy.faults.items(), key=str)}
    print(f"{committed} transactions, {proxy.faults.total()} faults: {faults}")  # noqa: T201
    for topics in written:
        for topic, values in topics.items():
            assert_once_and_in_order(kafka.bootstrap, topic, values)
    hit = {api for api, _ in proxy.faults}
    assert hit >= {PRODUCE, TXN_OFFSET_COMMIT, END_TXN}, "the test means to hit these requests"
