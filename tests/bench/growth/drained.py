"""One point of a curve: the bridge, and a bare producer beside it, drain the same backlog."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from tests.bench import meter
from tests.bench.drain import Incomplete, rate_until
from tests.bench.growth import topics
from tests.bench.growth.load import Load
from tests.bench.growth.records import Records, Tally
from tests.bench.peers import Peer, Place, producer
from tests.bench.rig import PARTITIONS, Rig
from tests.harness.bridge import BridgeProcess
from tests.harness.kit import ROOT
from tests.harness.process import Process

CPU, BARE_CPU, OF_BARE = "CPU µs a message", "bare producer's", "of the bare producer's"
RATE, BARE_RATE = "messages/s", "bare producer's messages/s"
PEAK, START = "peak MB", "start, CPU s"

_FEEDER = 1884  # its port: mosquitto has the usual one
_FEEDS = (sys.executable, "-m", "tests.bench.growth.feeder")

Figures = dict[str, float]
"""The results of one round at one point, by the title of their column."""


class Cost(NamedTuple):
    cpu_us: float
    """Per message, without the start."""
    rate: float
    peak_mb: float
    start_cpu: float
    """Seconds until the program waits for messages."""
    written: float
    """Bytes to disk per message, with the start."""


def measure(here: Rig, load: Load) -> Figures:
    """Raises Incomplete if messages are missing in Kafka, or come twice or in another order."""
    bare = cost(here, load, Peer("a bare producer", "bare", partial(_bare, load), has_mqtt=False))
    ours = cost(here, load, Peer("mqtt-kafka-bridge", "bridge", partial(bridge, load)))
    return {
        CPU: ours.cpu_us,
        BARE_CPU: bare.cpu_us,
        OF_BARE: ours.cpu_us / bare.cpu_us,
        RATE: ours.rate,
        BARE_RATE: bare.rate,
        PEAK: ours.peak_mb,
        START: ours.start_cpu,
    }


def cost(here: Rig, load: Load, peer: Peer) -> Cost:
    place = here.place(peer.slug, mqtt5=True)
    names, partitions = load.topics(place), PARTITIONS if load.kafka_topics is None else 1
    topics.create(here.kafka, names, partitions)
    records = Records(here.kafka, names, partitions)
    with contextlib.ExitStack() as running:
        start = partial(here.live, peer)
        if peer.has_mqtt:
            place = replace(place, mqtt_port=_FEEDER)
            start = partial(_live, peer)
            feeder = _feeder(load, place)
            running.callback(feeder.kill9)
            feeder.start()
        with start(place) as process:  # makes the session
            start_cpu = meter.wait_quiet(process)
        with start(replace(place, backlog=load.count)) as process:
            rate = rate_until(load.count, records.size, process)
            cpu = meter.wait_quiet(process)
            peak, written = meter.peak_mb(process), meter.written_bytes(process)
    found = records.read(Tally(load.count, load.devices))
    records.close()
    if load.kafka_topics is None:
        topics.delete(here.kafka, names)
    misplaced = found.misplaced if peer.has_mqtt else 0  # the bare producer has other keys
    if (found.different, found.copies, misplaced) != (load.count, 0, 0):
        raise Incomplete(f"{peer.name}: {found} instead of {load.count:,} messages, once and in order")
    return Cost((cpu - start_cpu) / load.count * 1e6, rate, peak, start_cpu, written / load.count)


def _feeder(load: Load, place: Place) -> Process:
    log = place.directory / f"{place.client_id}.feeder.log"
    numbers = [str(number) for number in (load.count, load.devices, load.size, load.window)]
    return Process(
        "feeder",
        [*_FEEDS, place.mqtt_host, str(place.mqtt_port), place.site, *numbers],
        log=log,
        cwd=ROOT,
        ready=lambda: "listening" in log.read_text(),
    )


@contextlib.contextmanager
def _live(peer: Peer, place: Place) -> Iterator[Process]:
    """Run the bridge inside the block, once it is connected. It is killed at the end."""
    process = peer.process(place)
    try:
        process.start()  # the feeder sends at once, so waiting for more would miss the first messages
        yield process
    finally:
        process.kill9()


def bridge(load: Load, place: Place, **kafka: object) -> BridgeProcess:
    """`kafka`: further settings of [kafka]."""
    settings = load.settings(place)
    settings["kafka"] |= kafka
    return BridgeProcess(settings, place.directory, name=place.client_id)


def _bare(load: Load, place: Place) -> Process:
    return producer(place, load.topics(place), size=load.size, window=load.window, linger_ms=0)
