"""--send: one marked message through the whole chain, with the time of each hop."""

import secrets
import time
from collections.abc import Iterator

from bridge.commands.check.outcome import Outcome, Site, failed, good
from bridge.kafka.marked_record import MarkedRecord

DEFAULT_TOPIC = "mqtt-kafka-bridge/check"

_TIMEOUT = 15.0  # seconds until the record must be in Kafka


def send(site: Site) -> Iterator[Outcome]:
    topic = site.send or DEFAULT_TOPIC
    kafka_topic, why = site.router.destination(topic.encode())
    if not kafka_topic:
        yield failed(
            f"{topic}: {why}, so nothing was sent",
            "name an MQTT topic of a route whose consumers may see a test message, as in"
            " --send sensors/test/check;"
            f' or add a route with filter = "{topic}" and a Kafka topic of its own',
        )
        return
    mark = f"mqtt-kafka-bridge check {secrets.token_hex(8)}"
    with MarkedRecord(site.settings.kafka, kafka_topic) as record:
        began = time.monotonic()
        site.opened_broker.publish(topic, mark.encode())
        yield good(f"{topic}: the broker acknowledged after {_ms(time.monotonic() - began)}")
        found = record.wait(mark.encode(), _TIMEOUT)
    if found is None:
        yield failed(
            f"{kafka_topic}: the message did not come within {_TIMEOUT:.0f} s; it stays in EMQ's queue or on"
            " the bridge's disk, and comes later",
            "see whether the service runs, and what it says: sudo mqtt-kafka-bridge top",
        )
    else:
        yield good(
            f"{kafka_topic}: in Kafka after {_ms(time.monotonic() - began)}; one record stays there: {found}"
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
