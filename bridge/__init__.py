"""A bridge from MQTT to Kafka, behind a balancer, without loss."""

from datetime import UTC, datetime

__version__ = "0.1.0"

# The day of this release. A clock that shows an earlier day is wrong (a Pi has no RTC): delivery/clock.py.
RELEASED = datetime(2026, 11, 22, tzinfo=UTC)
