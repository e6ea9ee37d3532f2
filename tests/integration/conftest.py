"""Fixtures with the chain's parts for tests on real brokers, on a loopback network of their own.

Kafka, RabbitMQ and other slow brokers start once for all tests; a program that starts within a second starts
anew for each test.
"""

import itertools
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers, External, TwoDoors
from tests.harness.disk import CannotMount, Disk
from tests.harness.ejabberd import EjabberdPair
from tests.harness.haproxy import SUBSCRIBER, HAProxy
from tests.harness.hivemq import HiveMQ
from tests.harness.host import TESTS, Network
from tests.harness.kafka import KafkaCluster, Secured
from tests.harness.kit import ROOT
from tests.harness.rabbitmq import RabbitPair
from tests.harness.terminal import Terminal
from tests.integration.access_rules import KAFKA_PASSWORD, alone, as_user, certificates_alone
from tests.integration.flow import new_flow

__all__ = ["KAFKA_PASSWORD", "alone", "as_user", "certificates_alone", "new_flow"]

_numbers = itertools.count(1)

# The brokers of --brokers that take seconds to start.
_SLOW: dict[str, Callable[[Network, Path], Brokers]] = {
    "rabbitmq": RabbitPair,
    "ejabberd": EjabberdPair,
    "hivemq": HiveMQ,
}


@pytest.fixture(scope="session")
def network() -> Network:
    return Network(TESTS)


@pytest.fixture(scope="session")
def certificates(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of deploy/make-certificates for the hosts of `network`, a bridge and a sensor."""
    directory = tmp_path_factory.mktemp("site") / "tls"
    balancer = network.haproxy.address
    hosts = [f"emq1={balancer}", f"haproxy={balancer}", "bridge", "sensor"]
    hosts += [f"{host.name}={host.address}" for host in network.kafka]
    subprocess.run([ROOT / "deploy" / "make-certificates", directory, *hosts], check=True)
    return directory


# -- Kafka -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _kafka(
    network: Network, certificates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KafkaCluster]:
    """Kafka with listeners for TLS. Only some tests use those, but a second cluster would cost more."""
    secured = Secured(certificates, "bridge", KAFKA_PASSWORD)
    with KafkaCluster(network, tmp_path_factory.mktemp("kafka"), secured=secured) as cluster:
        yield cluster


@pytest.fixture
def kafka(_kafka: KafkaCluster) -> Iterator[KafkaCluster]:
    """Three brokers that all work, whatever the previous test did to them."""
    yield _kafka
    _kafka.resurrect()


@pytest.fixture
def new_topic(kafka: KafkaCluster) -> Callable[..., str]:
    """Makes a Kafka topic for one test: new_topic(partitions=3, config={...}) returns its name."""

    def create(partitions: int = 3, config: Mapping[str, str | int] | None = None) -> str:
        name = f"test.{next(_numbers)}"
        kafka.create_topic(name, partitions, config)
        return name

    return create


# -- MQTT ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _shared_brokers(
    request: pytest.FixtureRequest, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Brokers | None]:
    """Brokers that start too slowly for each test, or that somebody else started. None: mosquitto."""
    if addresses := request.config.getoption("--emq"):
        brokers: Brokers = External(addresses.split(","), request.config.getoption("--emq-ctl"))
    elif make := _SLOW.get(request.config.getoption("--brokers")):
        brokers = make(network, tmp_path_factory.mktemp("brokers"))
    else:
        yield None
        return
    with brokers:
        yield brokers


@pytest.fixture
def emq(_shared_brokers: Brokers | None, network: Network, tmp_path: Path) -> Iterator[Brokers]:
    """The brokers that simulate EMQ's two nodes, as --brokers or --emq says."""
    if _shared_brokers is not None:
        yield _shared_brokers
        return
    with TwoDoors(network, tmp_path) as brokers:
        yield brokers


@pytest.fixture
def haproxy(network: Network, emq: Brokers, tmp_path: Path) -> Iterator[HAProxy]:
    """The shipped haproxy.cfg in front of `emq`, once its checks see both nodes up."""
    with HAProxy(network.haproxy, tmp_path, emq.addresses) as balancer:
        yield balancer


# -- the bridge ------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        disk = Disk(tmp_path).__enter__()
    except CannotMount as error:
        pytest.skip(f"no disk to break here: {error}")
    try:
        yield disk
    finally:
        disk.__exit__()


@pytest.fixture
def new_bridge(
    emq: Brokers, haproxy: HAProxy, kafka: KafkaCluster, tmp_path: Path
) -> Callable[..., BridgeProcess]:
    """Makes a bridge between `haproxy` and `kafka`: new_bridge(routes=[...], mqtt={...}) and so on.

    The bridge is not started yet: `with new_bridge(...) as bridge`. Every bridge has a client id of its own.
    """

    def create(
        *, routes: list[dict[str, Any]], mqtt: Mapping[str, Any] | None = None, **tables: Any
    ) -> BridgeProcess:
        name = f"bridge{next(_numbers)}"
        session = {
            "host": haproxy.host.address,
            "port": SUBSCRIBER,
            "client_id": f"test-{name}",
            **dict(zip(("username", "password"), emq.credentials or (), strict=False)),
            **(mqtt or {}),
        }
        to = {"bootstrap_servers": kafka.bootstrap, **tables.pop("kafka", {})}
        return BridgeProcess({"mqtt": session, "kafka": to, "routes": routes, **tables}, tmp_path, name=name)

    return create


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()
