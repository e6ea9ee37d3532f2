"""The wall clock jumps: a Pi has no battery clock, so its time may jump by years. No timer uses that clock.

libfaketime changes the wall clock that the bridge sees, but not the monotonic clock.
"""

import time
from collections.abc import Callable
from pathlib import Path

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.harness.records import Record, records
from tests.harness.scripted import ScriptedBroker
from tests.integration.disk.conftest import Feed, connected, number_of


class WallClock:
    """A wall clock that can jump. A program sees it if it is started with `environment`."""

    def __init__(self, directory: Path) -> None:
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self._file = directory / "clock"
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.jump("+0")

    def jump(self, offset: str) -> None:
        """Set the clock's difference from the right time, such as "-40y"."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.rename(self._file)


def test_the_wall_clock_jumps_by_years_while_messages_flow_and_while_they_wait(
    broker: ScriptedBroker, new_topic: Callable[..., str], kafka: KafkaCluster, tmp_path: Path
) -> None:
    topic, clock = new_topic(partitions=1), WallClock(tmp_path)
    settings = {
        "mqtt": {"host": broker.address, "port": broker.port},
        "kafka": {"bootstrap_servers": kafka.bootstrap},
        "routes": [{"name": "all", "filter": "t/#", "topic": topic}],
        "spool": {"after": "200ms"},
    }
    began = time.time()
    bridge = BridgeProcess(settings, tmp_path, env=clock.environment)
    bridge.start()
    feed = Feed(connected(broker, bridge))
    sent: dict[str, range] = {}
    for where in ("right", "+10y", "-40y"):
        clock.jump("+0" if where == "right" else where)
        sent[where] = feed.send(5)
        feed.wait_acked(sent[where])
    with kafka.all_hung():
        for where in ("+10y", "-40y", "+0"):
            clock.jump(where)
            sent[f"spooled {where}"] = feed.send(5)
            feed.wait_acked(sent[f"spooled {where}"], deadline=10)
    last = feed.send(5)
    feed.wait_acked(last)
    wait_until(lambda: len(records(kafka.bootstrap, topic)) >= last[-1], 60.0, bridge.log_tail)
    assert bridge.terminate() == 0

    got = records(kafka.bootstrap, topic)
    assert sorted(number_of(record.value) for record in got) == list(range(1, last[-1] + 1))
    found = {number_of(record.value): record for record in got}
    assert all(is_right(found[number], began) for number in sent["right"])
    assert all(record.timestamp is None or is_right(record, began) for record in found.values())


def is_right(record: Record, began: float) -> bool:
    return record.timestamp is not None and began <= record.timestamp / 1000 + 0.001 <= time.time()
