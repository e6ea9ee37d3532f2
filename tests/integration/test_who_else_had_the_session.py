"""Another client had the bridge's session, or the bridge's record of it is an old one: who is believed?

The broker. Whatever this machine's record says, the bridge is subscribed to all that its routes want once it
is live, and the messages that come from then on arrive.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers
from tests.harness.client import Client
from tests.harness.conditions import wait_until
from tests.harness.host import Network
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records

pytestmark = pytest.mark.parametrize("protocol", ["5", "3.1.1"])

CLIENT_ID = "the-bridge"
X, Y = "x/#", "y/#"


class Site:
    """Bridges with one client id, on hosts with a state directory each."""

    def __init__(
        self,
        new_bridge: Callable[..., BridgeProcess],
        new_topic: Callable[..., str],
        network: Network,
        kafka: KafkaCluster,
        protocol: str,
        directory: Path,
    ) -> None:
        self._new_bridge, self._kafka, self._protocol = new_bridge, kafka, protocol
        self._directory = directory
        self._door = network.emq[0].address
        self.topic = new_topic()
        self._published = 0

    def state(self, host: str = "first") -> Path:
        return self._directory / f"state of {host}"

    def bridge(self, *filters: str, host: str = "first") -> BridgeProcess:
        routes = [{"name": each[0], "filter": each, "topic": self.topic} for each in filters]
        mqtt = {"client_id": CLIENT_ID, "protocol": self._protocol}
        return self._new_bridge(routes=routes, mqtt=mqtt, state_directory=self.state(host))

    def tool(self, **options: object) -> Client:
        version = 5 if self._protocol == "5" else 4
        return Client(self._door, CLIENT_ID, version=version, **options)  # type: ignore[arg-type]

    def all_arrive(self, filter_: str) -> None:
        """Publish ten messages for this filter; all of them come to Kafka."""
        first, self._published = self._published, self._published + 10
        wanted = {b"%d" % number for number in range(first, self._published)}
        with Client(self._door, "device") as device:
            for value in sorted(wanted):
                device.publish(filter_.replace("#", "1"), value, qos=1)

        def missing() -> set[bytes]:
            return wanted - {record.value for record in records(self._kafka.bootstrap, self.topic)}

        wait_until(lambda: not missing(), 15.0, lambda: f"in Kafka, too: {sorted(missing())}")


@pytest.fixture
def site(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    network: Network,
    kafka: KafkaCluster,
    emq: Brokers,
    protocol: str,
    tmp_path: Path,
) -> Site:
    """A broker, a balancer and a Kafka topic, and no bridge yet."""
    return Site(new_bridge, new_topic, network, kafka, protocol, tmp_path)


@pytest.mark.parametrize(
    ("clean_start", "unsubscribe"), [(True, ""), (False, Y)], ids=["a clean start", "it unsubscribes"]
)
def test_a_tool_takes_the_client_id_for_a_moment(site: Site, clean_start: bool, unsubscribe: str) -> None:
    with site.bridge(X, Y) as bridge:
        site.all_arrive(Y)
        with bridge.log_contains("mqtt.live"):
            tool = site.tool(clean_start=clean_start, unsubscribe=unsubscribe)
        with tool:
            site.all_arrive(X)
            site.all_arrive(Y)


def test_a_tool_takes_the_client_id_while_the_bridge_is_stopped(site: Site) -> None:
    with site.bridge(X, Y) as bridge:
        assert bridge.terminate() == 0
        with site.tool(unsubscribe=Y):
            pass
        bridge.start()
        bridge.wait_live()
        site.all_arrive(Y)


def test_a_standby_with_newer_routes_is_rolled_back(site: Site) -> None:
    """Both hosts once had both routes, and say so on record. Then the standby took one off the session."""
    for host in ("first", "standby"):
        with site.bridge(X, Y, host=host):
            pass
    with site.bridge(X, host="standby") as standby:
        standby.wait_for("mqtt.unsubscribed")
    with site.bridge(X, Y, host="first"):
        site.all_arrive(X)
        site.all_arrive(Y)


def test_a_backup_of_the_state_directory_is_put_back(site: Site) -> None:
    with site.bridge(X, Y):
        shutil.copytree(site.state(), site.state("backup"))
    with site.bridge(X) as newer:
        newer.wait_for("mqtt.unsubscribed")
    shutil.rmtree(site.state())
    shutil.copytree(site.state("backup"), site.state())
    with site.bridge(X, Y):
        site.all_arrive(X)
        site.all_arrive(Y)
