"""A full window of EMQX's largest messages while Kafka is silent: the bridge fits into a Pi's memory."""

import re
from collections.abc import Callable
from pathlib import Path

from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.records import records
from tests.harness.scripted import ScriptedBroker
from tests.integration.disk.conftest import Feed, NewBridge, connected, number_of

UNIT = (ROOT / "deploy" / "systemd" / "mqtt-kafka-bridge.service").read_text()
MOST = int(re.findall(r"^MemoryMax=(\d+)M$", UNIT, re.MULTILINE)[0]) * 2**20 / 1e6  # MB
WINDOW = 100  # mqtt.receive_maximum
LARGE = 1_000_000  # bytes; EMQX's mqtt.max_packet_size is 1 MB


def test_a_window_of_them_stays_below_what_the_unit_allows(
    broker: ScriptedBroker,
    new_bridge: NewBridge,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    tmp_path: Path,
) -> None:
    topic = new_topic(partitions=1)
    to = {"bootstrap_servers": kafka.bootstrap}
    bridge = new_bridge(tmp_path / "spool", topic=topic, kafka=to, spool={"after": "1s"})
    bridge.start()
    feed = Feed(connected(broker, bridge))
    feed.wait_acked(feed.send(10))
    wait_until(lambda: len(records(kafka.bootstrap, topic)) == 10, 30.0, "Kafka has the first ones")
    with kafka.all_hung():
        for _ in range(2):
            feed.wait_acked(feed.send(WINDOW, size=LARGE), deadline=60.0)

    def arrived() -> list[int]:
        return [number_of(record.value) for record in records(kafka.bootstrap, topic)]

    wait_until(lambda: len(arrived()) >= 10 + 2 * WINDOW, 60.0, "Kafka has all of them")
    assert bridge.terminate() == 0
    assert arrived() == list(range(1, 10 + 2 * WINDOW + 1))
    assert bridge.peak_mb < MOST
