"""A backlog that is on disk when the bridge starts: what the start costs, and how it goes to Kafka."""

import time
from dataclasses import replace
from functools import partial

from bridge.spool.store import Store
from tests.bench import meter, spool
from tests.bench.drain import Incomplete, rate_until
from tests.bench.growth import topics, window_broker
from tests.bench.growth.drained import CPU, PEAK, RATE, START, Figures, bridge
from tests.bench.growth.load import Load, publish
from tests.bench.growth.records import Records, Tally
from tests.bench.rig import PARTITIONS, Rig
from tests.harness.conditions import wait_until

LIVE = "seconds until live"
START_PEAK = "MB at the start"
PANELS = ((CPU, (CPU,)), (RATE, (RATE,)), (START, (START, LIVE)), (PEAK, (PEAK, START_PEAK)))
# The broker keeps its window. mosquitto 2.0.11 sends a whole backlog at once, and after the first bridge was
# killed it sends again what it had not seen acknowledged then: hundreds of thousands.
_WINDOW = 1000  # so that the way to disk is short


def measure(here: Rig, point: int, _messages: int) -> Figures:
    """A backlog of `point` messages. Raises Incomplete if they are not in Kafka, once and in order."""
    load = Load(point, window=_WINDOW)
    place = replace(here.place("bridge", mqtt5=True), mqtt_port=window_broker.PORT)
    topics.create(here.kafka, [place.topic], PARTITIONS)
    records = Records(here.kafka, [place.topic], PARTITIONS)
    rows = partial(spool.rows, place.directory / f"{place.client_id}.state" / Store.FILE)
    with window_broker.running(place, _WINDOW), here.kafka.all_hung():
        with bridge(load, place) as process:
            publish(place, load)
            rate_until(load.count, rows, process)
            process.kill9()
        began = time.monotonic()
        with bridge(load, place) as process:
            live = time.monotonic() - began
            start_cpu = meter.wait_quiet(process)
            start_peak = meter.peak_mb(process)
            for node in here.kafka.nodes:
                node.resume()
            rate = rate_until(load.count, records.size, process)
            wait_until(lambda: not rows(), 60.0, "the spool is empty")
            cpu = meter.wait_quiet(process)
            peak = meter.peak_mb(process)
            process.kill9()
    found = records.read(Tally(load.count, load.devices))
    records.close()
    topics.delete(here.kafka, [place.topic])
    if (found.different, found.copies, found.misplaced) != (load.count, 0, 0):
        raise Incomplete(f"{found} instead of {load.count:,} messages, once and in order")
    return {
        CPU: (cpu - start_cpu) / load.count * 1e6,
        RATE: rate,
        LIVE: live,
        START: start_cpu,
        START_PEAK: start_peak,
        PEAK: peak,
    }
