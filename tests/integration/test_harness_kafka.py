"""KafkaCluster's methods on three real brokers."""

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import ConfigResource

from tests.harness.conditions import wait_until
from tests.harness.kafka import CLIENTS, KafkaCluster


def is_acknowledged(kafka: KafkaCluster, topic: str, deadline: float = 60.0) -> bool:
    """Whether a record to `topic` is acknowledged with acks=all in time."""
    reports: list[bool] = []
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "acks": "all", "message.timeout.ms": int(deadline * 1000)}
        | {"request.timeout.ms": 2000, "socket.timeout.ms": 3000, "log_level": 0, "error_cb": lambda _: None}
    )
    producer.produce(topic, b"", on_delivery=lambda error, _: reports.append(error is None))
    producer.flush(deadline + 1)
    return reports == [True]


def test_one_dead_broker_of_three_stops_nothing(kafka: KafkaCluster, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=1)
    with kafka.leader(topic).dead():
        assert is_acknowledged(kafka, topic)


def test_a_broker_is_in_sync_again_when_dead_ends(kafka: KafkaCluster, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=1, config={"min.insync.replicas": 3})
    with kafka.node(3).dead():
        pass
    assert is_acknowledged(kafka, topic)


def test_hung_brokers_accept_connections_and_acknowledge_nothing(
    kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    with kafka.all_hung():
        assert all(node.host.listens(CLIENTS) for node in kafka.nodes)
        assert not is_acknowledged(kafka, topic, deadline=2.0)
    assert is_acknowledged(kafka, topic)


def test_dead_brokers_refuse_connections_and_come_back_with_their_data(
    kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    with kafka.all_dead():
        assert not any(node.host.listens(CLIENTS) for node in kafka.nodes)
    assert is_acknowledged(kafka, topic)


def test_topic_settings_are_changed_one_by_one(kafka: KafkaCluster, new_topic: Callable[..., str]) -> None:
    topic = new_topic(config={"max.message.bytes": 1000, "retention.ms": 60000})
    kafka.alter_topic_config(topic, {"max.message.bytes": 2000})

    def settings() -> tuple[str | None, str | None]:
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        found = kafka.admin.describe_configs([resource])[resource].result(timeout=10)
        return found["max.message.bytes"].value, found["retention.ms"].value

    wait_until(lambda: settings() == ("2000", "60000"), 10.0, lambda: f"the change shows: {settings()}")


def test_a_deleted_topic_is_gone(kafka: KafkaCluster, new_topic: Callable[..., str]) -> None:
    topic = new_topic()
    kafka.delete_topic(topic)
    with pytest.raises(KafkaException, match="UNKNOWN_TOPIC_OR_PART"):
        kafka.delete_topic(topic)
