"""What a live session costs in which nothing happens, beside a bare producer that waits just so."""

import time

from tests.bench import backlog, meter, report
from tests.bench.peers import BRIDGE_100, bare_producer
from tests.bench.rig import PARTITIONS, Rig, TopicReader
from tests.harness.conditions import wait_until
from tests.harness.process import Process


def measure(rig: Rig, seconds: float) -> str:
    """Both over the same time, after each of them has produced a message: so they are connected."""
    place, beside = rig.place("idle", mqtt5=True), rig.place("bare", mqtt5=True)
    for each in (place, beside):
        rig.kafka.create_topic(each.topic, partitions=PARTITIONS)
    bare = bare_producer(beside)
    with rig.live(BRIDGE_100, place) as bridge:
        bare.start()
        try:
            meter.wait_quiet(bridge)
            backlog.publish(place.mqtt_host, place.mqtt_port, place.site, 1)
            reader = TopicReader(place.bootstrap, place.topic)
            wait_until(lambda: reader.size() == 1, 15.0, "the message is in Kafka")
            reader.close()
            meter.wait_quiet(bridge)
            meter.wait_quiet(bare)
            rows = _watch({"mqtt-kafka-bridge": bridge, "a bare producer": bare}, seconds)
        finally:
            bare.kill9()
    return report.table(["idle", "% of a core", "MB at the start", "MB at the end"], rows)


def _watch(processes: dict[str, Process], seconds: float) -> list[list[str]]:
    before = {name: (meter.cpu_seconds(each), meter.resident_mb(each)) for name, each in processes.items()}
    began = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    rows, shares = [], []
    for name, each in processes.items():
        cpu, memory = before[name]
        shares.append((meter.cpu_seconds(each) - cpu) / elapsed * 100)
        rows.append([name, f"{shares[-1]:.3f}", f"{memory:.1f}", f"{meter.resident_mb(each):.1f}"])
    rows.append(["difference", f"{shares[0] - shares[1]:+.3f}", "", ""])
    return rows
