"""[spool] and [dead_letters]: how many messages this machine's disk keeps, and for how long."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from bridge.routing.topics import why_bad_kafka_topic
from bridge.settings.section import Allowed, Section, Wrong
from bridge.units import Duration, Size


class SpoolSettings(Section):
    directory: Path | None = Field(
        default=None,
        description="Directory of the database; must be on a local disk. The default is state_directory.",
    )
    after: Duration = Field(
        default=1.0,
        ge=0.1,
        le=3600,
        description="How long Kafka may take to confirm a message. After that the bridge writes the message"
        " to disk, syncs it, and acknowledges it. With kafka.delivery exactly-once every message is written"
        " at once; after this time Kafka counts as late.",
    )
    max_bytes: Size = Field(
        default=2_000_000_000,
        ge=1_000_000,
        le=10**15,
        description="How large the database may become. While it is full the bridge acknowledges a message"
        " only once Kafka has it, and EMQ queues the rest. With kafka.delivery exactly-once it acknowledges"
        " none then, and the size must exceed mqtt.max_packet_size by 1MB.",
    )
    keep_free: Size = Field(
        default=500_000_000,
        ge=0,
        le=10**15,
        description="How much free disk space the spool leaves to other programs.",
    )


def _kafka_topic(value: str | None) -> str | None:
    if value is not None and (why := why_bad_kafka_topic(value)):
        raise Wrong(((), why))
    return value


class DeadLetterSettings(Section):
    topic: Annotated[str | None, AfterValidator(_kafka_topic), Allowed("a Kafka topic")] = Field(
        default=None,
        description="Kafka topic to which the bridge also sends each dead letter that fits. Without it dead"
        " letters are only on this machine's disk.",
    )
    max_bytes: Size = Field(
        default=200_000_000,
        ge=1_000_000,
        le=10**15,
        description="How many bytes of the disk dead letters may take, as part of spool.max_bytes. Beyond"
        " this limit, or when the spool is full, the bridge removes the oldest and logs that.",
    )
    max_age: Duration = Field(
        default=90 * 86400.0,
        ge=60,
        le=100 * 365 * 86400,
        description="How long the bridge keeps dead letters at least, by NTP's clock or by the time that it"
        " has run since. It removes older ones and logs that.",
    )
