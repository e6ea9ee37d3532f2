"""The spool's cost: a backlog goes into it while Kafka is away, and out of it when Kafka is back."""

import os
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException

from bridge.spool.store import Store
from tests.bench import backlog, meter, report
from tests.bench.drain import Incomplete, rate_until
from tests.bench.peers import BRIDGE
from tests.bench.rig import PARTITIONS, Rig, TopicReader
from tests.harness.conditions import wait_until

WINDOW = 1000  # the broker's; at EMQ's 32 only the disk's fsync would count
_SYNCS = 200


@dataclass(frozen=True)
class Way:
    """The result of one direction, in or out."""

    cpu_us: float
    """Processor time per message, user and system, without the start."""
    rate: float
    """Messages/s, from the first to the last."""


def measure(here: Rig, rounds: int, count: int) -> str:
    """Spool and deliver `count` messages, `rounds` times. The rig's broker has the window WINDOW."""
    done = [_there_and_back(here, count) for _ in range(rounds)]
    rows = [
        [
            name,
            report.spread([ways[number].cpu_us for *ways, _ in done]),
            report.spread([ways[number].rate for *ways, _ in done], digits=0),
        ]
        for number, name in enumerate(("into the spool", "out of it"))
    ]
    table = report.table(["way", "CPU µs a message", "messages/s"], rows)
    peak = report.spread([peak for *_, peak in done], digits=0)
    return f"{table}\n\nPeak {peak} MB; a sync of 4 KiB takes {sync_ms(here.directory):.2f} ms on this disk."


def sync_ms(directory: Path) -> float:
    """The median time of a write of 4 KiB with fdatasync, in milliseconds."""
    took = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(_SYNCS):
            began = time.monotonic()
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            took.append(time.monotonic() - began)
    return statistics.median(took) * 1000


def _there_and_back(here: Rig, count: int) -> tuple[Way, Way, float]:
    place = here.place(BRIDGE.slug, mqtt5=True)
    here.kafka.create_topic(place.topic, partitions=PARTITIONS)
    database = place.directory / f"{place.client_id}.state" / Store.FILE
    reader = TopicReader(place.bootstrap, place.topic)
    try:
        with here.live(BRIDGE, place) as process:
            start_cpu = meter.wait_quiet(process)
        backlog.publish(place.mqtt_host, place.mqtt_port, place.site, count)
        with here.kafka.all_hung(), here.live(BRIDGE, place) as process:
            rate = rate_until(count, lambda: rows(database), process)
            cpu_in = meter.cpu_seconds(process)
            there = Way((cpu_in - start_cpu) / count * 1e6, rate)
            for node in here.kafka.nodes:
                node.resume()
            rate = rate_until(count, lambda: _records(reader), process)
            wait_until(lambda: not rows(database), 30.0, "the spool is empty")
            back = Way((meter.cpu_seconds(process) - cpu_in) / count * 1e6, rate)
            peak = meter.peak_mb(process)
        found = reader.read()
    finally:
        reader.close()
        here.forget_session(place)
    if found.different < count:
        raise Incomplete(f"{found.different} of {count} messages are in Kafka")
    return there, back, peak


def _records(reader: TopicReader) -> int:
    """How many records are in Kafka; 0 while Kafka still elects leaders."""
    try:
        return reader.size()
    except KafkaException:
        return 0


def rows(database: Path) -> int:
    """How many messages are on disk."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
            return int(reader.execute("SELECT coalesce(sum(messages), 0) FROM lanes").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
