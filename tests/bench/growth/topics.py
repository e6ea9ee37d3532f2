"""Creates and deletes thousands of Kafka topics, many in one request."""

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewTopic

from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster

_AT_ONCE = 500
_ATTEMPTS = 3
_LATE = (KafkaError.REQUEST_TIMED_OUT, KafkaError._TIMED_OUT)
_DEADLINE = 600.0  # seconds: two idle cores need one minute for 10,000 topics


def create(kafka: KafkaCluster, names: Sequence[str], partitions: int) -> None:
    """Create those that do not exist yet, and wait until all have leaders. Raises KafkaException, NotInTime.

    A busy Kafka may answer too late. Such topics are asked for again, for it may create them all the same.
    """
    there = _led(kafka)
    wanted = [name for name in names if name not in there]
    for _ in range(_ATTEMPTS):
        wanted = _create(kafka, wanted, partitions)
        if not wanted:
            break
    found = set(names)
    wait_until(lambda: found <= _led(kafka), _DEADLINE, f"{len(names)} topics have their leaders")


def _create(kafka: KafkaCluster, names: Sequence[str], partitions: int) -> list[str]:
    """Returns those for which no answer came in time. Raises KafkaException."""
    late = []
    for first in range(0, len(names), _AT_ONCE):
        new = [
            NewTopic(name, num_partitions=partitions, replication_factor=len(kafka.nodes))
            for name in names[first : first + _AT_ONCE]
        ]
        asked = kafka.admin.create_topics(new, operation_timeout=60.0, request_timeout=90.0)
        for name, future in asked.items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() in _LATE:
                    late.append(name)
                elif error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
    return late


def delete(kafka: KafkaCluster, names: Sequence[str]) -> None:
    """Delete the topics, and wait until Kafka lists none of them."""
    for first in range(0, len(names), _AT_ONCE):
        for future in kafka.admin.delete_topics(
            list(names[first : first + _AT_ONCE]), operation_timeout=60.0, request_timeout=90.0
        ).values():
            future.result()
    gone = set(names)
    wait_until(lambda: not gone & _led(kafka), _DEADLINE, f"{len(names)} topics are gone")


def _led(kafka: KafkaCluster) -> set[str]:
    """The topics of which every partition has a leader."""
    return {
        name
        for name, topic in kafka.admin.list_topics(timeout=60.0).topics.items()
        if topic.partitions and all(each.leader > 0 for each in topic.partitions.values())
    }
