"""The wall clock jumps: a Pi has no battery clock, so its time may jump by years.

The bridge's own timers use the monotonic clock. librdkafka's waits use the wall clock: after the clock was
set back they last longer by as much.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.harness.records import Record, records
from tests.harness.scripted import ScriptedBroker
from tests.harness.wall_clock import WallClock
from tests.integration.disk.conftest import Feed, connected, number_of


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
    for years in (0, 10, -40):
        clock.set(years)
        sent[f"{years} years"] = feed.send(5)
        feed.wait_acked(sent[f"{years} years"])
    with kafka.all_hung():
        for years in (10, -40, 0):
            clock.set(years)
            sent[f"spooled, {years} years"] = feed.send(5)
            feed.wait_acked(sent[f"spooled, {years} years"], deadline=10)
    last = feed.send(5)
    feed.wait_acked(last)
    wait_until(lambda: len(records(kafka.bootstrap, topic)) >= last[-1], 60.0, bridge.log_tail)
    assert bridge.terminate() == 0

    got = records(kafka.bootstrap, topic)
    assert sorted(number_of(record.value) for record in got) == list(range(1, last[-1] + 1))
    found = {number_of(record.value): record for record in got}
    assert all(is_right(found[number], began) for number in sent["0 years"])
    assert all(record.timestamp is None or is_right(record, began) for record in found.values())


@pytest.mark.parametrize("outage", ["dead", "hung"])
def test_the_clock_is_set_back_by_an_hour_while_kafka_is_away(
    broker: ScriptedBroker,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    tmp_path: Path,
    outage: str,
) -> None:
    topic, clock = new_topic(partitions=1), WallClock(tmp_path)
    settings = {
        "mqtt": {"host": broker.address, "port": broker.port},
        "kafka": {"bootstrap_servers": kafka.bootstrap},
        "routes": [{"name": "all", "filter": "t/#", "topic": topic}],
        "spool": {"after": "200ms"},
    }
    bridge = BridgeProcess(settings, tmp_path, env=clock.environment)
    bridge.start()
    feed = Feed(connected(broker, bridge))
    feed.wait_acked(feed.send(5))
    with kafka.all_dead() if outage == "dead" else kafka.all_hung():
        feed.wait_acked(feed.send(5))
        clock.set(hours=-1)
        last = feed.send(5)
        feed.wait_acked(last)
    wait_until(lambda: len(records(kafka.bootstrap, topic)) >= last[-1], 60.0, bridge.log_tail)
    assert bridge.terminate() == 0
    got = [number_of(record.value) for record in records(kafka.bootstrap, topic)]
    assert sorted(got) == list(range(1, last[-1] + 1))


def is_right(record: Record, began: float) -> bool:
    return record.timestamp is not None and began <= record.timestamp / 1000 + 0.001 <= time.time()
