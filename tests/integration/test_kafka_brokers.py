"""One Kafka broker of three dies or hangs, and the bridge's topic is on another one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic

from bridge.kafka.cluster import Cluster
from bridge.loop import Loop
from bridge.settings import KafkaSettings
from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster

TOLD_WITHIN = 30.0  # seconds


@pytest.fixture
def new_cluster(kafka: KafkaCluster) -> Iterator[Callable[[], Cluster]]:
    """The bridge's side of Kafka, which produces nothing."""
    made: list[Cluster] = []

    def create() -> Cluster:
        made.append(Cluster(KafkaSettings(bootstrap_servers=kafka.bootstrap), Loop()))
        return made[0]

    yield create
    for cluster in made:
        cluster.close()


def _wait(cluster: Cluster, what: str, is_so: Callable[[dict[int, Any]], bool]) -> None:
    def turned() -> bool:
        cluster.poll()
        return is_so({broker.number: broker for broker in cluster.brokers.known})

    wait_until(turned, TOLD_WITHIN, lambda: f"{what}: {cluster.brokers.known}")


def _all_up(known: dict[int, Any]) -> bool:
    return len(known) == 3 and all(broker.is_up for broker in known.values())


def test_a_broker_that_the_bridge_does_not_need_dies(
    new_cluster: Callable[[], Cluster], kafka: KafkaCluster
) -> None:
    kafka.admin.create_topics([NewTopic("on.two", 1, replica_assignment=[[2]])])["on.two"].result(15.0)
    cluster = new_cluster()
    cluster.look_up("on.two")
    _wait(cluster, "all are up", _all_up)
    with kafka.node(1).dead():
        _wait(cluster, "1 is down", lambda known: not known[1].is_up)
        known = {broker.number: broker for broker in cluster.brokers.known}
        assert (known[2].is_up, known[3].is_up, known[1].hangs) == (True, True, False)
        assert known[1].address == f"{kafka.node(1).host.address}:9092"
    _wait(cluster, "all are up again", _all_up)


def test_a_broker_that_the_bridge_does_not_need_hangs(
    new_cluster: Callable[[], Cluster], kafka: KafkaCluster
) -> None:
    cluster = new_cluster()
    _wait(cluster, "all are up", _all_up)
    with kafka.node(3).hung():
        _wait(cluster, "3 hangs", lambda known: not known[3].is_up and known[3].hangs)
        assert cluster.brokers.any_up
    _wait(cluster, "all are up again", _all_up)


def test_a_broker_was_dead_when_the_bridge_started(
    new_cluster: Callable[[], Cluster], kafka: KafkaCluster
) -> None:
    with kafka.node(1).dead():
        cluster = new_cluster()
        address = f"{kafka.node(1).host.address}:9092"
        _wait(
            cluster,
            "1 is down",
            lambda known: any(each.address == address and not each.is_up for each in known.values()),
        )
    _wait(cluster, "all are up again", _all_up)
