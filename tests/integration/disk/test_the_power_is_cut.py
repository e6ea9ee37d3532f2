"""The power is cut at any moment: every acknowledged message is on the disk."""

import itertools
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.conditions import wait_until
from tests.harness.disk import Disk
from tests.harness.kafka import KafkaCluster
from tests.harness.packets import Ack, Frames, Kind
from tests.harness.powercut import PowerCuts, events, is_complete, recording
from tests.harness.process import Process
from tests.harness.records import records
from tests.harness.scripted import ScriptedBroker
from tests.integration.disk.conftest import Feed, NewBridge, connected, number_of, on_disk


class After:
    """Reads what a start finds after a cut; each cut has a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.cuts = 0

    def __call__(self, cuts: PowerCuts, chosen: random.Random | None = None) -> set[int]:
        self.cuts += 1
        place = self._directory / f"cut-{self.cuts}"
        cuts.write_files(place, chosen)
        found = on_disk(place)
        assert len(found) == len(set(found)), f"{place}: a message is there twice"
        shutil.rmtree(place)  # after a failure the directory stays
        return set(found)


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_no_acknowledgement_leaves_before_its_message_is_synced(
    broker: ScriptedBroker, new_bridge: NewBridge, tmp_path: Path, delivery: str
) -> None:
    """Without Kafka: when send() of a PUBACK or PUBREC begins, its message must be on the disk."""
    spool, trace = tmp_path / "spool", tmp_path / "trace"
    program = [*recording(trace), sys.executable, "-m", "bridge"]
    bridge = new_bridge(spool, program=program, kafka={"delivery": delivery})
    bridge.start()
    feed = Feed(connected(broker, bridge))
    for burst in (1, 1, 30, 500, 1, 100, 3):
        for qos in (1, 2):
            feed.wait_acked(feed.send(burst, qos=qos, size=300))
    assert bridge.terminate() == 0
    wait_until(lambda: is_complete(trace), 30.0, "the recording is complete")

    cuts, after, frames = PowerCuts(spool), After(tmp_path), Frames(version=5)
    acknowledged: set[int] = set()
    there: set[int] = set()
    seen = -1
    for event in events(trace):
        cuts.see(event)
        if event.call == "sendto" and f":{broker.port}]" in event.path and not event.returned:
            acks = [each for each in frames.feed(event.data) if isinstance(each, Ack)]
            # The Feed's Packet Identifiers equal its numbers: no message has QoS 0.
            acknowledged |= {ack.identifier for ack in acks if ack.kind in (Kind.PUBACK, Kind.PUBREC)}
            if cuts.syncs != seen:
                seen, there = cuts.syncs, after(cuts)
            assert acknowledged <= there, f"not yet synced: {sorted(acknowledged - there)[:10]}"
    assert acknowledged == set(feed.acked), "the recording must show every acknowledgement that arrived"
    assert after.cuts >= 7


def test_what_a_commit_has_written_is_there_after_a_cut_at_any_moment(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Commits, deletes, checkpoints and freeing of space, cut before and after each sync.

    Each cut is tried with the synced data alone, and with a random part of the other data.
    """
    seed = request.config.getoption("--seed") or random.randrange(1, 1_000_000)
    sys.stdout.write(f"--seed {seed}\n")
    spool, trace, log = tmp_path / "spool", tmp_path / "trace", tmp_path / "commits.log"
    program = [sys.executable, "-m", "tests.integration.disk.commits", spool, str(seed)]
    commits = Process("commits", [*recording(trace), *program], log=log, cwd=Path(__file__).parents[3])
    commits.start()
    commits.wait_end()
    wait_until(lambda: is_complete(trace), 30.0, "the recording is complete")
    committed = [set(map(int, line.split())) for line in log.read_text().splitlines()]

    cuts, after, chosen = PowerCuts(spool), After(tmp_path), random.Random(seed)
    done = 0  # commits that have returned
    for event in events(trace):
        if event.call == "write" and event.path == str(log) and event.returned:
            done += 1
        if event.call == "fdatasync":
            # A commit that has not returned may be missing, but must not be there in part.
            good = [committed[done - 1] if done else set(), *committed[done : done + 1]]
            assert after(cuts, chosen) in good
            cuts.see(event)
            if event.returned:
                assert after(cuts) in good
        else:
            cuts.see(event)
    assert done == len(committed) == 40


def test_the_power_of_a_real_file_system_is_cut_under_load(
    broker: ScriptedBroker,
    new_bridge: NewBridge,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    disk: Disk,
) -> None:
    topic = new_topic(partitions=1)
    acked: list[int] = []
    feed: Feed | None = None
    for rounds in itertools.count(1):
        bridge = new_bridge(disk.path, topic=topic)
        bridge.start()
        feed = Feed(connected(broker, bridge), first=1 + 1000 * (rounds - 1))
        feed.send(1000)
        wait_until(lambda: len(feed.acked) > 100, 20.0, "some were acknowledged")  # noqa: B023
        # The recording counts only up to here. The bridge runs on for a moment, and ext4 may report success
        # for a running sync although its journal was aborted; after a real power cut no program would see
        # that.
        acked += feed.acked
        disk.dies()
        bridge.kill9()
        disk.repair()
        if rounds == 3:
            break
    after = new_bridge(disk.path, topic=topic, kafka={"bootstrap_servers": kafka.bootstrap})
    after.start()
    connected(broker, after)

    def missing() -> set[int]:
        return set(acked) - {number_of(record.value) for record in records(kafka.bootstrap, topic)}

    wait_until(lambda: not missing(), 30.0, lambda: f"all is delivered but {sorted(missing())[:10]}")
    assert after.terminate() == 0
    found = [number_of(record.value) for record in records(kafka.bootstrap, topic)]
    assert found == sorted(set(found)), "each message once, in order"
