"""A commit takes seconds: messages that need no commit do not wait for it."""

import time
from collections.abc import Callable
from pathlib import Path

from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records
from tests.harness.scripted import ScriptedBroker
from tests.harness.strace import injected
from tests.integration.disk.conftest import Feed, NewBridge, connected, number_of, on_disk

_SYNC = 6.0  # seconds


def test_only_acknowledgements_wait_for_a_slow_disk(
    broker: ScriptedBroker,
    new_bridge: NewBridge,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    tmp_path: Path,
) -> None:
    """Messages of `late`, which is not in Kafka, are spooled; messages of `t` are delivered at once."""
    topic = new_topic(partitions=1)
    spool = tmp_path / "spool"
    tcp = {"keepalive_idle": "1s", "keepalive_interval": "1s", "keepalive_count": 1}
    bridge = new_bridge(
        spool, topic=topic, kafka={"bootstrap_servers": kafka.bootstrap}, mqtt={"keepalive": "3s", "tcp": tcp}
    )
    bridge.start()
    connection = connected(broker, bridge)
    feed = Feed(connection)
    feed.wait_acked(feed.send(10))
    feed.wait_acked(feed.send(1, topic=b"late/x"))
    with injected(bridge, f"fdatasync:delay_exit={int(_SYNC * 1e6)}", tmp_path):
        began = time.monotonic()
        (late,) = feed.send(1, topic=b"late/x")
        behind = feed.send(100)
        at_once = feed.send(100, qos=0)
        delivered = {*range(1, 11), *behind, *at_once}
        wait_until(
            lambda: {number_of(each.value) for each in records(kafka.bootstrap, topic)} == delivered,
            _SYNC - 1,
            "Kafka has the messages that need no disk, long before the commit ends",
        )
        assert late not in feed.acked
        assert feed.acked[-1] < late, "acknowledgements must leave in order of arrival"
        feed.wait_acked(range(late, behind[-1] + 1))
        assert time.monotonic() - began >= _SYNC

        # Commit follows commit, and the connection stays up: the bridge sends PINGREQ and sees PINGRESP.
        pings = len(connection.pings)
        while len(connection.pings) < pings + 2:
            feed.wait_acked(feed.send(1, topic=b"late/x"))
    assert not bridge.entries("mqtt.closed")
    bridge.wait_for("spool.slow")
    assert bridge.terminate() == 0
    assert late in on_disk(spool)
