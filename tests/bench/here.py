"""What this machine can do, in two minutes: a full pipe, messages one by one, the disk, little CPU."""

import contextlib
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.bench import latency, meter, report, spool
from tests.bench.drain import Incomplete, rate_until
from tests.bench.growth import drained, topics
from tests.bench.growth.load import Load, publish
from tests.bench.growth.records import Records, Tally
from tests.bench.peers import AS_SHIPPED, Peer, Place
from tests.bench.quarter import CORE, MEMORY, quarter
from tests.bench.rig import PARTITIONS, Rig
from tests.harness.bridge import BridgeProcess
from tests.harness.cgroup import CannotCap

_FULL = Load(100_000)
_QUARTER = Load(100_000)
_SECONDS = 10  # of each rate
_IDLE = 15.0  # seconds
_ABOVE = 2  # times what the quarter of a core takes


def measure(here: Rig, rates: Sequence[int], disk: Path) -> str:
    """The table of this machine. `disk`: a directory on the spool's disk."""
    rows = [_full_pipe(here, _FULL, []), *(_at(here, rate) for rate in rates), _idle(here)]
    sync = spool.sync_ms(disk)
    rows.append(["a sync to disk", f"{sync:.2f} ms, so {1000 / sync:,.0f}/s", "", ""])
    note = ""
    try:
        with quarter() as entered:
            rows += _small(here, entered)
    except CannotCap as error:
        note = f"\n\nNot measured: {CORE:g} of a core and {MEMORY // 10**6} MB, because {error}."
    return report.table(["", "messages/s or time", "CPU µs a message", "memory"], rows) + note


def _full_pipe(here: Rig, load: Load, entered: Sequence[str]) -> list[str]:
    here.allow_inflight(load.window)
    found = _cost(here, load, entered)
    return ["a full pipe", f"{found.rate:,.0f}/s", f"{found.cpu_us:.1f}", f"peak {found.peak_mb:.0f} MB"]


def _cost(here: Rig, load: Load, entered: Sequence[str]) -> drained.Cost:
    return drained.cost(here, load, Peer("mqtt-kafka-bridge", "bridge", partial(_bridge, load, entered)))


def _at(here: Rig, rate: int) -> list[str]:
    found = latency.one(here, AS_SHIPPED, rate, rate * _SECONDS)
    times = f"p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms"
    return [f"at {rate} messages/s", times, f"{found.cpu_us:.0f}", ""]


def _idle(here: Rig) -> list[str]:
    place = here.place("bridge", mqtt5=True)
    topics.create(here.kafka, [place.topic], PARTITIONS)
    with here.live(AS_SHIPPED, place) as process:
        before, began = meter.wait_quiet(process), time.monotonic()
        time.sleep(_IDLE)
        share = (meter.cpu_seconds(process) - before) / (time.monotonic() - began)
        return ["idle", f"{share:.2%} of a core", "", f"{meter.resident_mb(process):.0f} MB"]


def _small(here: Rig, entered: Sequence[str]) -> list[list[str]]:
    """With little of a machine: what the bridge takes, and what it does when more comes."""
    holds = _cost(here, _QUARTER, entered)
    name = f"{CORE:g} of a core, {MEMORY // 10**6} MB"
    sent = int(_ABOVE * holds.rate)
    rate, peak = _above(here, _QUARTER, entered, sent)
    return [
        [
            f"{name}: a full pipe",
            f"{holds.rate:,.0f}/s",
            f"{holds.cpu_us:.1f}",
            f"peak {holds.peak_mb:.0f} MB",
        ],
        [f"{name}: {sent:,}/s are sent", f"{rate:,.0f}/s, none lost", "", f"peak {peak:.0f} MB"],
    ]


def _above(here: Rig, load: Load, entered: Sequence[str], per_second: int) -> tuple[float, float]:
    """Messages/s into Kafka while `per_second` come, and the peak in MB. Raises Incomplete if one is lost.

    The broker keeps what the bridge does not take: the bridge's window of messages is full.
    """
    place = here.place("bridge", mqtt5=True)
    topics.create(here.kafka, [place.topic], PARTITIONS)
    records = Records(here.kafka, [place.topic], PARTITIONS)
    peer = Peer("mqtt-kafka-bridge", "bridge", partial(_bridge, load, entered))
    with contextlib.closing(records), here.live(peer, place) as process:
        meter.wait_quiet(process)
        began = time.monotonic()
        publish(place, load, per_second=per_second)
        rate_until(load.count, records.size, process)
        rate = load.count / (time.monotonic() - began)
        peak = meter.peak_mb(process)
        found = records.read(Tally(load.count, load.devices))
    here.forget_session(place)
    if (found.different, found.copies, found.misplaced) != (load.count, 0, 0):
        raise Incomplete(f"{found} instead of {load.count:,} messages, once and in order")
    return rate, peak


def _bridge(load: Load, entered: Sequence[str], place: Place) -> BridgeProcess:
    program = (*entered, sys.executable, "-m", "bridge")
    return BridgeProcess(load.settings(place), place.directory, name=place.client_id, program=program)
