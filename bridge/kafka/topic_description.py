"""What Kafka tells of an existing topic: partitions, replicas, settings, the bridge's rights. It blocks."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclOperation,
    AdminClient,
    ConfigResource,
    ResourceType,
)

from bridge.kafka.error_verdicts import DENIED, NO_TOPIC, plain

_TIMEOUT = 5.0  # seconds
# The broker that tells the settings may hear of a new topic later than the one that tells the partitions.
_KNOWN_WITHIN, _LOOK_EVERY = 3.0, 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Description:
    """What Kafka tells of a topic.

    `replicas`, `in_sync`: of the partition with the fewest. `behind`: brokers whose replica is not in sync.
    `awaits`: the brokers for which the partitions without a leader wait, for they were in sync last.
    `may_write`, `may_read` None, and no `config`: Kafka does not tell. `no_config`: why it tells no `config`.
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
    no_config: str = ""
    may_read: bool | None = None

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
    config, no_config = _config(admin, name)
    return Description(
        name=name,
        partitions=len(found.partitions),
        replicas=min((len(part.replicas) for part in found.partitions), default=0),
        in_sync=min((len(part.isr) for part in found.partitions), default=0),
        leaderless=len(leaderless),
        behind=tuple(sorted(behind)),
        config=config,
        may_write=None if rights is None else AclOperation.WRITE in rights,
        awaits=tuple(sorted(awaits)),
        no_config=no_config,
        may_read=None if rights is None else AclOperation.READ in rights,
    )


def _config(admin: AdminClient, name: str) -> tuple[dict[str, str], str]:
    """The topic's settings; or none, and why."""
    resource = ConfigResource(ResourceType.TOPIC, name)
    until = time.monotonic() + _KNOWN_WITHIN
    while True:
        try:
            future = admin.describe_configs([resource], request_timeout=_TIMEOUT)[resource]
            return {key: str(entry.value) for key, entry in future.result(_TIMEOUT + 1).items()}, ""
        except KafkaException as error:
            code = error.args[0].code()
            if code in DENIED:
                return {}, "the bridge's user lacks DESCRIBE_CONFIGS"
            if code not in NO_TOPIC:
                return {}, f"Kafka refuses: {plain(error.args[0].str())}"
            if time.monotonic() > until:
                return {}, "the broker that was asked does not know the topic yet"
        except TimeoutError:
            return {}, "Kafka does not answer"
        time.sleep(_LOOK_EVERY)
