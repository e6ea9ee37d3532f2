"""The chain's actors for tests on real parts, on a loopback network of their own.

Kafka and RabbitMQ start once for all tests, side by side with nothing else; what starts within a
second starts anew for each test.
"""

import itertools
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers, External, TwoDoors
from tests.harness.ejabberd import EjabberdPair
from tests.harness.haproxy import SUBSCRIBER, HAProxy
from tests.harness.hivemq import HiveMQ
from tests.harness.host import TESTS, Network
from tests.harness.kafka import KafkaCluster, Secured
from tests.harness.kit import ROOT
from tests.harness.rabbitmq import RabbitPair
from tests.integration.flow import new_flow

__all__ = ["new_flow"]

KAFKA_PASSWORD = "kafka-geheim-0815"

_numbers = itertools.count(1)

# Those of --brokers that take seconds to start.
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
    """What deploy/make-certificates makes for the hosts of `network`, a bridge and a sensor."""
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
    """With the listeners for TLS that only some tests use: starting it twice would cost more."""
    secured = Secured(certificates, "bridge", KAFKA_PASSWORD)
    with KafkaCluster(network, tmp_path_factory.mktemp("kafka"), secured=secured) as cluster:
        yield cluster


@pytest.fixture
def kafka(_kafka: KafkaCluster) -> Iterator[KafkaCluster]:
    """Three brokers that all work, whatever the test before did to them."""
    yield _kafka
    _kafka.resurrect()


@pytest.fixture
def new_topic(kafka: KafkaCluster) -> Callable[..., str]:
    """Makes a Kafka topic of its own: new_topic(partitions=3, config={...}) returns its name."""

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
    """Brokers that are too slow to start for each test, or not ours to start. None: mosquitto."""
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
    """What plays EMQ's two nodes: --brokers, --emq."""
    if _shared_brokers is not None:
        yield _shared_brokers
        return
    with TwoDoors(network, tmp_path) as brokers:
        yield brokers


@pytest.fixture
def haproxy(network: Network, emq: Brokers, tmp_path: Path) -> Iterator[HAProxy]:
    """The shipped haproxy.cfg in front of `emq`, with both nodes known to be up."""
    with HAProxy(network.haproxy, tmp_path, emq.addresses) as balancer:
        yield balancer


# -- the bridge ------------------------------------------------------------------------------------


@pytest.fixture
def new_bridge(
    emq: Brokers, haproxy: HAProxy, kafka: KafkaCluster, tmp_path: Path
) -> Callable[..., BridgeProcess]:
    """Makes a bridge between `haproxy` and `kafka`: new_bridge(routes=[...], mqtt={...}) and so on.

    It is not started yet: `with new_bridge(...) as bridge`. Every one has a client id of its own.
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
