"""[spool] and [dead_letters]: what is kept on this machine's disk, and how much of it."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from bridge.routing.topics import why_bad_kafka_topic
from bridge.settings.section import Allowed, Section, Wrong
from bridge.units import Duration, Size


class SpoolSettings(Section):
    directory: Path | None = Field(
        default=None,
        description="Where the database is, on a local disk. Without it state_directory.",
    )
    after: Duration = Field(
        default=1.0,
        ge=0.1,
        le=3600,
        description="What Kafka has not confirmed by then goes to disk, and is acknowledged once there.",
    )
    max_bytes: Size = Field(
        default=2_000_000_000,
        ge=1_000_000,
        le=10**15,
        description="How large the database may become. When it is full nothing more is acknowledged, and"
        " EMQ queues.",
    )
    keep_free: Size = Field(
        default=500_000_000,
        ge=0,
        le=10**15,
        description="How much of the disk's free space the spool leaves to others.",
    )


def _kafka_topic(value: str | None) -> str | None:
    if value is not None and (why := why_bad_kafka_topic(value)):
        raise Wrong(((), why))
    return value


class DeadLetterSettings(Section):
    topic: Annotated[str | None, AfterValidator(_kafka_topic), Allowed("a Kafka topic")] = Field(
        default=None,
        description="Kafka topic that each dead letter goes to as well, where it fits. Without it they are"
        " only on this machine's disk.",
    )
    max_bytes: Size = Field(
        default=200_000_000,
        ge=1_000_000,
        le=10**15,
        description="How many bytes of them are kept, as part of spool.max_bytes. Beyond it the oldest are"
        " removed, and the log says so.",
    )
    max_age: Duration = Field(
        default=90 * 86400.0,
        ge=60,
        le=100 * 365 * 86400,
        description="How long they are kept. What is older is removed, and the log says so.",
    )
