"""[spool] and [dead_letters]: what is kept on this machine's disk, and how much of it."""

from pathlib import Path

from pydantic import Field

from bridge.settings.section import Section
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
