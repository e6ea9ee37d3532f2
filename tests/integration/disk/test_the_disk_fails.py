"""The disk or its database fails: the bridge goes on with Kafka alone, and saves all readable messages."""

import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.spool.store import Store
from tests.harness.conditions import wait_until
from tests.harness.disk import Disk
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records
from tests.harness.scripted import ScriptedBroker
from tests.integration.disk.conftest import Feed, NewBridge, connected, number_of, on_disk

_NOBODY = 65534


def in_kafka(kafka: KafkaCluster, topic: str) -> list[int]:
    return [number_of(record.value) for record in records(kafka.bootstrap, topic)]


@pytest.mark.parametrize("fail", [Disk.goes_read_only, Disk.dies], ids=["read-only", "EIO"])
def test_the_disk_fails_while_messages_wait_on_it(
    broker: ScriptedBroker,
    new_bridge: NewBridge,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    disk: Disk,
    fail: Callable[[Disk], None],
) -> None:
    topic = new_topic(partitions=1)
    bridge = new_bridge(disk.path, topic=topic, kafka={"bootstrap_servers": kafka.bootstrap})
    bridge.start()
    feed = Feed(connected(broker, bridge))
    feed.wait_acked(feed.send(10))
    with kafka.all_hung():
        feed.wait_acked(feed.send(300))
        fail(disk)
        feed.send(100)
        said = bridge.wait_for("spool.unusable")
        assert said["level"] == "error"
        assert str(disk.path / Store.FILE) in said["reason"]
        assert feed.wait_stalled() == list(range(1, 311)), "neither Kafka nor the disk accepts more"
    feed.wait_acked(feed.send(100), deadline=60)
    assert feed.acked == list(range(1, 511)), "Kafka alone confirms all messages"
    assert in_kafka(kafka, topic) == list(range(1, 511))
    assert bridge.terminate() == 0
    disk.repair()
    left = set(on_disk(disk.path))
    # The first ten may have been late: the bridge had no connection to Kafka yet.
    assert set(range(11, 311)) <= left <= set(range(1, 311)), (
        "no commit may be lost, and nothing could be deleted"
    )


def test_a_disk_that_is_read_only_at_the_start_is_used_once_it_can_be_written(
    broker: ScriptedBroker, new_bridge: NewBridge, disk: Disk
) -> None:
    bridge = new_bridge(disk.path)
    with disk.mounted_read_only():
        bridge.start()
        assert "Read-only file system" in bridge.wait_for("spool.unusable")["reason"]
        feed = Feed(connected(broker, bridge))
        sent = feed.send(100)
        assert not feed.wait_stalled()
    feed.wait_acked(sent)
    bridge.wait_for("spool.usable")
    assert bridge.terminate() == 0
    assert on_disk(disk.path) == list(sent)


def test_the_directory_belongs_to_someone_else(
    broker: ScriptedBroker, new_bridge: NewBridge, tmp_path: Path
) -> None:
    """Root without capabilities has only the rights of an ordinary user."""
    directory = tmp_path / "spool"
    directory.mkdir(0o755)
    os.chown(directory, _NOBODY, _NOBODY)
    program = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "bridge"]
    bridge = new_bridge(directory, program=program)
    bridge.start()
    said = bridge.wait_for("spool.unusable")
    assert said["reason"] == f"{directory}/spool.lock: Permission denied"
    feed = Feed(connected(broker, bridge))
    sent = feed.send(100)
    os.chown(directory, 0, 0)
    feed.wait_acked(sent)
    bridge.wait_for("spool.usable")
    assert bridge.terminate() == 0
    assert on_disk(directory) == list(sent)


def test_a_database_of_a_newer_version_is_left_alone(
    broker: ScriptedBroker,
    new_bridge: NewBridge,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    disk: Disk,
) -> None:
    Store(disk.path).close()
    with sqlite3.connect(disk.path / Store.FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = (disk.path / Store.FILE).read_bytes()
    topic = new_topic(partitions=1)
    bridge = new_bridge(disk.path, topic=topic, kafka={"bootstrap_servers": kafka.bootstrap})
    bridge.start()
    assert "newer version" in bridge.wait_for("spool.unusable")["reason"]
    feed = Feed(connected(broker, bridge))
    feed.wait_acked(feed.send(100))
    assert bridge.terminate() == 0
    assert in_kafka(kafka, topic) == list(range(1, 101))
    assert (disk.path / Store.FILE).read_bytes() == before


def test_a_damaged_database_is_set_aside_at_the_start(
    broker: ScriptedBroker, new_bridge: NewBridge, disk: Disk
) -> None:
    before = new_bridge(disk.path)
    before.start()
    feed = Feed(connected(broker, before))
    feed.wait_acked(feed.send(2000))
    assert before.terminate() == 0
    file = disk.path / Store.FILE
    with file.open("r+b") as database:
        database.seek(4096)  # keep the first page, which has the schema
        database.write(b"\xff" * 8 * 4096)
    damaged = file.read_bytes()

    after = new_bridge(disk.path)
    after.start()
    said = after.wait_for("spool.set_aside")
    kept = disk.path / f"{Store.FILE}.damaged-1"
    assert (said["level"], said["path"]) == ("error", str(kept))
    feed = Feed(connected(broker, after))
    feed.wait_acked(feed.send(10))
    assert after.terminate() == 0
    assert kept.read_bytes() == damaged
    assert on_disk(disk.path) == list(range(1, 11))


def test_the_database_is_damaged_while_messages_wait_in_it(
    broker: ScriptedBroker,
    new_bridge: NewBridge,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    disk: Disk,
) -> None:
    """More messages than memory holds: those on a damaged page are lost, and the bridge logs that."""
    topic = new_topic(partitions=1)
    bridge = new_bridge(disk.path, topic=topic, kafka={"bootstrap_servers": kafka.bootstrap})
    bridge.start()
    feed = Feed(connected(broker, bridge))
    with kafka.all_hung():
        for _ in range(10):
            feed.wait_acked(feed.send(1500))
        file = disk.path / Store.FILE
        with file.open("r+b") as database:
            for page in range(1, file.stat().st_size // 4096):
                database.seek(page * 4096)
                database.write(b"\xff" * 4096)
    said = bridge.wait_for("spool.set_aside")
    assert "malformed" in said["reason"]
    last = feed.send(100)
    feed.wait_acked(last, deadline=60)
    wait_until(lambda: last[-1] in in_kafka(kafka, topic), 60.0, bridge.log_tail)
    assert bridge.terminate() == 0
    found = in_kafka(kafka, topic)
    assert found == sorted(set(found))
    assert {*range(1, 1001), *last} <= set(found), (
        "messages that were in memory too, and later ones, must arrive"
    )
    assert bridge.entries("service.stopped")[0]["unreadable"] == last[-1] - len(found)
    assert (disk.path / f"{Store.FILE}.damaged-1").exists()
