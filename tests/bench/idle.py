"""Measures the cost of an idle live session, compared with an idle bare producer."""

import contextlib
import time
from collections.abc import Mapping, Sequence

from tests.bench import backlog, meter, report
from tests.bench.peers import Peer, bare_producer
from tests.bench.rig import PARTITIONS, Rig, TopicReader
from tests.harness.conditions import wait_until
from tests.harness.process import Process

_BARE = "a bare producer"


def measure(here: Rig, peers: Sequence[Peer], seconds: float) -> str:
    """Measure all peers at once, after each has produced a message and so is connected."""
    with contextlib.ExitStack() as running:
        processes = {peer.name: _connected(here, peer, running) for peer in peers}
        place = here.place("bare", mqtt5=True)
        here.kafka.create_topic(place.topic, partitions=PARTITIONS)
        bare = processes[_BARE] = bare_producer(place)
        running.callback(bare.kill9)
        bare.start()
        for each in processes.values():
            meter.wait_quiet(each)
        rows = _watch(processes, seconds)
    return report.table(["idle", "% of a core", "more than bare", "MB at the start", "MB at the end"], rows)


def _connected(here: Rig, peer: Peer, running: contextlib.ExitStack) -> Process:
    place = here.place(peer.slug, mqtt5=peer.speaks(mqtt5=True))
    here.kafka.create_topic(place.topic, partitions=PARTITIONS)
    process = running.enter_context(here.live(peer, place))
    meter.wait_quiet(process)
    backlog.publish(place.mqtt_host, place.mqtt_port, place.site, 1)
    with contextlib.closing(TopicReader(place.bootstrap, place.topic)) as reader:
        wait_until(lambda: reader.size() == 1, 15.0, f"{peer.name} has put the message into Kafka")
    return process


def _watch(processes: Mapping[str, Process], seconds: float) -> list[list[str]]:
    before = {name: (meter.cpu_seconds(each), meter.resident_mb(each)) for name, each in processes.items()}
    began = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    shares = {
        name: (meter.cpu_seconds(each) - before[name][0]) / elapsed * 100 for name, each in processes.items()
    }
    return [
        [
            name,
            f"{shares[name]:.3f}",
            f"{shares[name] - shares[_BARE]:+.3f}",
            f"{before[name][1]:.1f}",
            f"{meter.resident_mb(each):.1f}",
        ]
        for name, each in processes.items()
    ]
