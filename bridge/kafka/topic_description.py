"""What Kafka tells of an existing topic: partitions, replicas, settings, the bridge's rights. It blocks."""

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclOperation,
    AdminClient,
    ConfigResource,
    ResourceType,
)

_TIMEOUT = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Description:
    """What Kafka tells of a topic.

    `replicas`, `in_sync`: of the partition with the fewest. `behind`: brokers whose replica is not in sync.
    `awaits`: the brokers for which the partitions without a leader wait, for they were in sync last.
    `may_write` None, and no `config`: Kafka does not tell.
    """

    name: str
    partitions: int
    replicas: int
    in_sync: int
    leaderless: int
    behind: tuple[int, ...]
    config: Mapping[str, str]
    may_write: bool | None
    awaits: tuple[int, ...] = ()

    def number(self, setting: str) -> int | None:
        """A setting as a number; None: Kafka does not tell."""
        found = self.config.get(setting)
        return None if found is None else int(found)


def describe(admin: AdminClient, name: str) -> Description:
    """Raises KafkaException."""
    future = admin.describe_topics(
        TopicCollection([name]), include_authorized_operations=True, request_timeout=_TIMEOUT
    )[name]
    found = future.result(_TIMEOUT + 1)
    rights = found.authorized_operations
    behind = {
        replica.id
        for part in found.partitions
        for replica in part.replicas
        if replica.id not in {member.id for member in part.isr}
    }
    leaderless = [part for part in found.partitions if part.leader is None or part.leader.id < 0]
    awaits = {node.id for part in leaderless for node in part.isr or part.replicas}
    return Description(
        name=name,
        partitions=len(found.partitions),
        replicas=min((len(part.replicas) for part in found.partitions), default=0),
        in_sync=min((len(part.isr) for part in found.partitions), default=0),
        leaderless=len(leaderless),
        behind=tuple(sorted(behind)),
        config=_config(admin, name),
        may_write=None if rights is None else AclOperation.WRITE in rights,
        awaits=tuple(sorted(awaits)),
    )


def _config(admin: AdminClient, name: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    try:
        future = admin.describe_configs([resource], request_timeout=_TIMEOUT)[resource]
        return {key: str(entry.value) for key, entry in future.result(_TIMEOUT + 1).items()}
    except (KafkaException, TimeoutError):
        return {}
