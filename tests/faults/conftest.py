"""One universe for each worker of pytest: `pytest tests/faults -n 4` runs four faults at once."""

import itertools
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults.access import PROPERTIES
from tests.faults.chain import Chain
from tests.faults.load import KINDS
from tests.faults.rounds import Rounds, note
from tests.harness.brokers import TwoDoors
from tests.harness.haproxy import HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.universe import Universe

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def _universe() -> Iterator[Universe]:
    if os.geteuid():
        pytest.skip("network namespaces, which every fault needs, take root")
    with Universe() as universe:
        yield universe


@pytest.fixture(scope="session")
def _kafka(_universe: Universe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    cluster = KafkaCluster(_universe, tmp_path_factory.mktemp("kafka"), properties=PROPERTIES)
    try:
        with _universe.inside():
            cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def universe(_universe: Universe) -> Iterator[Universe]:
    """This worker's universe; the test's thread is in the switch's namespace."""
    with _universe.inside():
        yield _universe


@pytest.fixture
def kafka(universe: Universe, _kafka: KafkaCluster) -> Iterator[KafkaCluster]:
    """Three brokers that all work, whatever the previous test did to them."""
    yield _kafka
    _kafka.resurrect()


@pytest.fixture
def emq(universe: Universe, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[TwoDoors]:
    """One mosquitto behind two doors, with EMQ's window of 32.

    Its queue holds 10,000 messages, because a busy machine needs up to a minute to start a program again. A
    test whose claim rests on EMQ's own queue of 1,000 says so: `@pytest.mark.queued(1000)`.
    """
    mark = request.node.get_closest_marker("queued")
    with TwoDoors(universe, tmp_path, queued=mark.args[0] if mark else 10_000) as brokers:
        yield brokers


@pytest.fixture
def haproxy(universe: Universe, emq: TwoDoors, tmp_path: Path) -> Iterator[HAProxy]:
    """HAProxy with the unchanged shipped file, which names these addresses."""
    with HAProxy(universe.haproxy, tmp_path, None) as balancer:
        yield balancer


@pytest.fixture
def round_number() -> int:
    """The number of this round of `--rounds`, from 1."""
    return 1


@pytest.fixture
def chain(
    universe: Universe,
    kafka: KafkaCluster,
    emq: TwoDoors,
    haproxy: HAProxy,
    tmp_path: Path,
    round_number: int,
    request: pytest.FixtureRequest,
) -> Chain:
    """All machines, with new Kafka topics; the bridge is not started yet."""
    topics = {kind: f"iot.{next(_numbers)}.{kind}" for kind in KINDS}
    for topic in topics.values():
        kafka.create_topic(topic)

    full, delivery = map(request.config.getoption, ("--full", "--delivery"))
    outcome = partial(note, request.node)
    return Chain(universe, kafka, emq, haproxy, tmp_path, round_number, full, outcome, topics, delivery)


# -- rounds and their table --------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    table = config.getoption("--table")
    if table and not config.getoption("collectonly") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Rounds(Path(table)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rounds: int = metafunc.config.getoption("--rounds")
    if rounds > 1 and "round_number" in metafunc.fixturenames:
        metafunc.parametrize("round_number", range(1, rounds + 1), ids=lambda number: f"round{number}")
