"""Other programs or the spool fill the disk: the bridge acknowledges nothing more, and loses nothing."""

from collections.abc import Callable

import pytest

from bridge.delivery.segment import Segment, pack
from bridge.message import Message
from bridge.spool.store import DiskFull, Store
from tests.harness.bridge import BridgeProcess, Entry
from tests.harness.conditions import wait_until
from tests.harness.disk import Disk
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records
from tests.harness.scripted import ScriptedBroker
from tests.integration.disk.conftest import Feed, NewBridge, connected, number_of, on_disk

MB = 1_000_000


def said(bridge: BridgeProcess) -> Entry:
    (entry,) = bridge.entries("spool.full")
    assert entry["level"] == "error"
    return entry


# The message would fit into the free space once, but not twice: into the log, then into the database file.
@pytest.mark.parametrize(("keep_free", "leave"), [(0, 200_000), (10 * MB, 8 * MB)])
def test_others_fill_the_disk_and_then_make_room(
    broker: ScriptedBroker, new_bridge: NewBridge, disk: Disk, keep_free: int, leave: int
) -> None:
    bridge = new_bridge(disk.path, mqtt={"qos0_messages": 10}, spool={"keep_free": keep_free})
    bridge.start()
    feed = Feed(connected(broker, bridge))
    feed.wait_acked(feed.send(100))
    with disk.filled(leave):
        feed.send(1, size=disk.free - 1000)
        bridge.wait_for("spool.full")
        last = feed.send(5000)[-1]
        acked = feed.wait_stalled()
        with bridge.log_contains("qos0.dropped"):
            qos0 = feed.send(50, qos=0)
        assert feed.acked == acked, "while the disk is full, nothing more may be acknowledged"
        assert bridge.alive
    assert f"spool.keep_free = {keep_free}" in said(bridge)["reason"]
    everything = range(1, last + 1)
    feed.wait_acked(everything)
    bridge.wait_for("spool.usable")
    assert feed.acked == list(everything), "all must be acknowledged, in order of arrival"
    assert bridge.terminate() == 0
    counts = bridge.entries("service.stopped")[0]
    assert (counts["received"], counts["spooled"], counts["dropped"]) == (last + 50, last + 10, 40)
    assert on_disk(disk.path) == [*everything, *qos0[:10]]


def test_a_disk_that_others_fill_during_a_commit_is_full_and_the_database_as_it_was(disk: Disk) -> None:
    """Others may take space between the bridge's check of free space and SQLite's write."""
    message = Message.of(b"t", 2, 1, None, bytes(300_000))
    message.sequence = 1
    segment = Segment([message])
    store = Store(disk.path)
    with disk.filled(200_000):
        with pytest.raises(DiskFull):
            store.write([("iot", segment, pack([message]))])
        assert store.backlogs() == []
    store.write([("iot", segment, pack([message]))])
    assert [each.messages for each in store.backlogs()] == [1]
    store.close()


def test_max_bytes_is_reached_and_space_comes_back_with_kafka(
    broker: ScriptedBroker,
    new_bridge: NewBridge,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    disk: Disk,
) -> None:
    topic = new_topic(partitions=1)
    bridge = new_bridge(
        disk.path,
        topic=topic,
        kafka={"bootstrap_servers": kafka.bootstrap},
        spool={"max_bytes": 20 * MB},
        dead_letters={"max_bytes": 2 * MB},
    )
    bridge.start()
    feed = Feed(connected(broker, bridge))
    feed.wait_acked(feed.send(10))
    free = disk.free
    with kafka.all_hung():
        sent = feed.send(30_000)
        bridge.wait_for("spool.full")
        acked = feed.wait_stalled()
        assert "spool.max_bytes" in said(bridge)["reason"]
        # EMQ queues 1,000 messages; thousands a second arrived.
        assert said(bridge)["emq_queue_lasts_seconds"] in (0, 1, 2)
        # More than half of the spool is payload, although the commits were small.
        assert 10_000 < len(acked) < 20_000
        assert disk.free < free - 15 * MB
    feed.wait_acked(sent, deadline=60)
    bridge.wait_for("spool.empty")
    wait_until(lambda: disk.free > free - MB, 10.0, lambda: f"{free - disk.free} bytes are still taken")
    assert bridge.terminate() == 0
    assert [number_of(record.value) for record in records(kafka.bootstrap, topic)] == list(range(1, 30_011))


def test_what_waits_on_a_full_disk_is_delivered_after_a_restart(
    broker: ScriptedBroker,
    new_bridge: NewBridge,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    disk: Disk,
) -> None:
    topic = new_topic(partitions=1)
    before = new_bridge(disk.path, topic=topic)
    before.start()
    feed = Feed(connected(broker, before))
    feed.wait_acked(feed.send(1000))
    before.kill9()
    with disk.filled():
        after = new_bridge(disk.path, topic=topic, kafka={"bootstrap_servers": kafka.bootstrap})
        after.start()
        broker.next_connection().connack(session_present=True)
        wait_until(lambda: len(records(kafka.bootstrap, topic)) >= 1000, 30.0, "Kafka has what was on disk")
    assert after.terminate() == 0
    assert [number_of(record.value) for record in records(kafka.bootstrap, topic)] == list(range(1, 1001))
    assert on_disk(disk.path) == []
