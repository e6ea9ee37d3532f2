"""Each peer in turn drains a backlog of its own into the same Kafka, to measure the cost of a message.

The cost of a peer's start is measured each time too, with an empty backlog, and subtracted.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.bench import backlog, meter
from tests.bench.peers import Peer, Place
from tests.bench.rig import PARTITIONS, Rig, TopicReader
from tests.harness.conditions import NotInTime
from tests.harness.process import Process

_LOOK_EVERY = 0.02  # seconds between two queries of Kafka
_STALLED = 60.0  # seconds without progress


class Incomplete(Exception):
    """Messages are missing in Kafka, so the measurement is invalid."""


@dataclass(frozen=True)
class Drain:
    """The result of one peer with one backlog."""

    peer: Peer
    cpu_us: float
    """Processor time per message, user and system, without the start."""
    rate: float
    """Messages/s, from the first record in Kafka to the last."""
    peak_mb: float
    start_cpu: float
    """Seconds of processor time until the peer waits for messages."""
    copies: int
    """How many records followed the first of their message."""


def drain(rig: Rig, peer: Peer, count: int, mqtt5: bool) -> Drain:
    """Drain a backlog. Raises Incomplete if messages are missing in Kafka, NotInTime if it never ends."""
    place = rig.place(peer.slug, mqtt5)
    rig.kafka.create_topic(place.topic, partitions=PARTITIONS)
    reader = TopicReader(place.bootstrap, place.topic)
    try:
        with rig.live(peer, place) as process:  # the peer makes its own session, as in use
            start_cpu = meter.wait_quiet(process)
        if peer.has_mqtt:
            backlog.publish(place.mqtt_host, place.mqtt_port, place.site, count)
        with rig.live(peer, replace(place, backlog=count)) as process:
            rate = rate_until(count, reader.size, process)
            cpu = meter.wait_quiet(process)
            peak = meter.peak_mb(process)
        found = reader.read()
    finally:
        reader.close()
        _clean_up(rig, place)
    if found.different < count:
        raise Incomplete(f"{peer.name}: {found.different} of {count} messages are in Kafka")
    return Drain(peer, (cpu - start_cpu) / count * 1e6, rate, peak, start_cpu, found.copies)


def rate_until(count: int, so_far: Callable[[], int], process: Process) -> float:
    """Wait for `count` messages, and return messages per second. Raises NotInTime if they stall."""
    first_at = first = 0.0
    seen, moved_at = 0, time.monotonic()
    while seen < count:
        time.sleep(_LOOK_EVERY)
        now, before, seen = time.monotonic(), seen, so_far()
        if seen > before:
            moved_at = now
            if not first_at:
                first_at, first = now, seen
        elif now - moved_at > _STALLED or not process.alive:
            raise NotInTime(f"{process.name}: {seen} of {count}, and no more{process.log_tail()}")
    if now == first_at:
        return 0.0  # all arrived before the first query: too few for a rate
    return (seen - first) / (now - first_at)


def _clean_up(rig: Rig, place: Place) -> None:
    rig.forget_session(place)
    with contextlib.suppress(NotInTime):
        rig.kafka.delete_topic(place.topic)
