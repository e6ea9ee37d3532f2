"""The words of the lab's command line. Standard library only: `--help` works before anything is installed."""

from collections.abc import Mapping
from types import MappingProxyType

VERBS = ("kill", "start", "hang", "resume")

HOSTS = ("emq1", "emq2", "haproxy", "kafka1", "kafka2", "kafka3", "bridge")

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"emq": ("emq1", "emq2"), "kafka": ("kafka1", "kafka2", "kafka3")}
)
"""A word for all hosts of a kind -> these hosts."""

TOPICS = ("iot.sensors", "iot.others")
"""The Kafka topics of the lab's own bridge."""

QUORUM = 2
"""With fewer of the three Kafka brokers up, Kafka neither answers nor confirms a message.

That many are not always enough: a partition has no leader before a broker is up that was in sync last.
"""
