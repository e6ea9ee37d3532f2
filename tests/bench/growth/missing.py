"""Kafka topics that do not exist, beside one that does: what they cost its messages, and whether all arrive.

In one round two bridges run, each with a broker of its own. In the stages that are compared, the topic that
exists gets RATE messages/s, first through one bridge and then through the other one, in turns of a second or
so, because a machine's speed changes within a minute:

alone     a bridge that has nothing else;
held      a bridge whose missing topics get nothing, and their messages are on disk;
twice     the first bridge, while another topic that exists gets RATE messages/s too;
beside    the second bridge, while the missing topics get RATE messages/s too.

Before these, the missing topics get the backlog at full speed, until all of it is on disk. After them, the
topics are created, and every message must arrive, once and in order.

The broker keeps its window (window_broker.py): in the flood it is full of messages of missing topics.
"""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from statistics import quantiles
from typing import NamedTuple

from bridge.spool.store import Store
from tests.bench import latency, meter, spool
from tests.bench.drain import Incomplete, rate_until
from tests.bench.growth import topics, window_broker
from tests.bench.growth.drained import PEAK, Figures
from tests.bench.growth.load import LEVELS, Load, digits, mqtt_topic, publish, routes
from tests.bench.growth.records import Records, Tally
from tests.bench.peers import Place, bridge_settings
from tests.bench.rig import PARTITIONS, Rig
from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.packets import Publish
from tests.harness.process import Process

RATE = 200  # messages/s
# Messages of a turn, and turns of each bridge in a stage. A turn is no even part of the six seconds in which
# the bridge asks Kafka once about missing topics.
_TURN, _TURNS = 250, 6
_ROOT = "gone"
_PORTS = window_broker.PORT, window_broker.PORT + 1
_WINDOW = 100  # messages; mqtt.receive_maximum as shipped
_ABOUT_THEM = ("kafka.topic_", "kafka.lane_", "spool.")

ALONE_CPU, HELD_CPU, CPU_RATIO = "alone, CPU µs", "held, CPU µs", "held / alone"
ALONE_P99, HELD_P99, BESIDE_P99 = "alone, p99 ms", "held, p99 ms", "beside, p99 ms"
TWICE_P99 = "twice, p99 ms"
HELD_RATIO, BESIDE_RATIO = "p99 held / alone", "p99 beside / twice"
TO_DISK, DISK_CPU, ARRIVED = "to disk, messages/s", "to disk, CPU µs a message", "all arrived, s"
LINES = "log lines"
WORST_MINUTE, WORST_AFTER = "most in a minute while they are missing", "most in a minute once they exist"

PANELS = (
    ("CPU µs of a message that is not affected", (ALONE_CPU, HELD_CPU)),
    ("p99 ms of the same", (ALONE_P99, HELD_P99, TWICE_P99, BESIDE_P99)),
    (TO_DISK, (TO_DISK,)),
    (PEAK, (PEAK,)),
)


class _Side(NamedTuple):
    place: Place
    process: Process
    arrived: list[float]


class _Stage(NamedTuple):
    cpu_us: float
    p99: float  # ms


def measure(here: Rig, point: int, messages: int) -> Figures:
    """`messages` go to `point` missing topics. Raises Incomplete if one is lost or doubled."""
    place, other = (replace(here.place("bridge", mqtt5=True), mqtt_port=port) for port in _PORTS)
    names = [_kafka_topic(place, number) for number in range(point)]
    load, one_topic = Load(max(messages, point), devices=point), Load(_TURN * _TURNS, devices=1)
    topics.create(here.kafka, [place.topic, other.topic], PARTITIONS)
    topics.create(here.kafka, [_kafka_topic(other, 0)], 1)
    with _side(place) as it, _side(other) as control:
        process = it.process
        _in_turns(control, it)  # so that everything is connected and cached

        before = meter.cpu_seconds(process)
        on_disk = partial(spool.rows, place.directory / f"{place.client_id}.state" / Store.FILE)
        publish(place, load, _ROOT)
        to_disk = rate_until(load.count, on_disk, process)
        disk_cpu = (meter.cpu_seconds(process) - before) / load.count * 1e6

        alone, held = _in_turns(control, it)
        twice, beside = _in_turns(
            control,
            it,
            (_packet(other, one_topic, number) for number in count()),
            (_packet(place, load, number) for number in count(load.count)),
        )
        total = load.count + _TURN * _TURNS
        wait_until(lambda: on_disk() == total, 60.0, f"all {total:,} are on disk")

        log_before = process.log.read_text()
        topics.create(here.kafka, names, 1)
        created = time.monotonic()
        # A row goes once Kafka has confirmed its messages. To ask Kafka for 10,000 ends would slow it down.
        rate_until(total, lambda: total - on_disk(), process)
        arrived_after = time.monotonic() - created
        wait_until(lambda: not on_disk(), 60.0, "the spool is empty")  # a look that fails says so too
        peak = meter.peak_mb(process)
        log = process.log.read_text()
    records = Records(here.kafka, names, 1, from_the_first=True)
    found = records.read(Tally(total, point))
    records.close()
    topics.delete(here.kafka, [place.topic, other.topic, _kafka_topic(other, 0), *names])
    if (found.different, found.copies, found.misplaced) != (total, 0, 0):
        raise Incomplete(f"{found} instead of {total:,} messages, once and in order")
    return {
        ALONE_CPU: alone.cpu_us,
        HELD_CPU: held.cpu_us,
        CPU_RATIO: held.cpu_us / alone.cpu_us,
        ALONE_P99: alone.p99,
        HELD_P99: held.p99,
        TWICE_P99: twice.p99,
        BESIDE_P99: beside.p99,
        HELD_RATIO: held.p99 / alone.p99,
        BESIDE_RATIO: beside.p99 / twice.p99,
        TO_DISK: to_disk,
        DISK_CPU: disk_cpu,
        ARRIVED: arrived_after,
        PEAK: peak,
        LINES: log.count("\n"),
        WORST_MINUTE: most_in_a_minute(log_before),
        WORST_AFTER: most_in_a_minute(log[len(log_before) :]),
    }


def most_in_a_minute(log: str) -> int:
    """How many lines about topics and what waits on disk are in the minute that has most of them."""
    entries = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    minutes = Counter(
        each["timestamp"][: len("2026-11-30T04:00")]
        for each in entries
        if each["event"].startswith(_ABOUT_THEM)
    )
    return max(minutes.values(), default=0)


@contextlib.contextmanager
def _side(place: Place) -> Iterator[_Side]:
    """Run the broker and the bridge inside the block. Both are killed at the end."""
    with (
        window_broker.running(place, _WINDOW),
        _bridge(place) as process,
        latency.arrivals(place) as arrived,
    ):
        meter.wait_quiet(process)
        yield _Side(place, process, arrived)
        process.kill9()


def _bridge(place: Place) -> BridgeProcess:
    """As shipped, with the bench's own route beside that of the missing topics."""
    settings = bridge_settings(place)
    del settings["mqtt"]["receive_maximum"], settings["kafka"]["options"]
    settings["routes"] += routes(place.site, 1, "-".join(["gone.{site}", *LEVELS]), root=_ROOT)
    return BridgeProcess(settings, place.directory, name=place.client_id)


def _in_turns(control: _Side, it: _Side, *also: Iterator[bytes]) -> tuple[_Stage, _Stage]:
    """One stage of both bridges. `also`: for each of them, a packet more for each message."""
    sides = control, it
    used = [0.0, 0.0]
    latencies: tuple[list[float], list[float]] = ([], [])
    for turn in range(_TURNS):
        for which in (0, 1) if turn % 2 else (1, 0):
            side = sides[which]
            side.arrived.clear()
            before = meter.cpu_seconds(side.process)
            latency.publish_evenly(side.place, RATE, _TURN, side.arrived, also[which] if also else None)
            used[which] += meter.cpu_seconds(side.process) - before
            latencies[which].extend(side.arrived)
    first, second = (
        _Stage(used[which] / _TURN / _TURNS * 1e6, quantiles(latencies[which], n=100)[98] * 1e3)
        for which in (0, 1)
    )
    return first, second


def _kafka_topic(place: Place, number: int) -> str:
    return "-".join([f"{_ROOT}.{place.site}", *digits(number)])


def _packet(place: Place, load: Load, number: int) -> bytes:
    topic = mqtt_topic(_ROOT, place.site, number % load.devices).encode()
    return Publish(topic, load.payload(number), 1, number % 65535 + 1).encode(4)
