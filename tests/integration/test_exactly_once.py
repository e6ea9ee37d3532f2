"""Delivery exactly-once with real brokers: the bridge is killed again and again, and nothing is doubled."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bridge.spool.store import Store
from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.disk import Disk
from tests.harness.kafka import KafkaCluster
from tests.integration.flow import Flow, assert_nothing_lost_or_doubled
from tests.integration.test_the_bridge_restarts import WINDOW, stop_again_and_again

_RATE = 60.0  # messages a second: while a busy machine starts the bridge, EMQ queues 1,000
_A_TRANSACTION = 100  # messages at this rate
_UPWARD = ("two-doors", "ejabberd")
ON = {"kafka": {"delivery": "exactly-once"}}


def kill_again_and_again(flow: Flow, kills: int, random: Random, *, live: int = 1) -> None:
    """At any moment: while the bridge takes what waits, or has caught up. Before each kill, devices send at
    least `live` messages to a bridge that is live.
    """
    for _ in range(kills):
        flow.bridge.kill9()
        flow.devices.wait_sent(random.randrange(1, 60))
        flow.bridge.start()
        flow.bridge.wait_live()
        flow.devices.wait_sent(live + random.randrange(60))
        if random.random() < 0.5:
            flow.goes_on()
    flow.goes_on()


@pytest.mark.parametrize("qos", [1, 2])
def test_kill_9_again_and_again(
    new_flow: Callable[..., Any], qos: int, request: pytest.FixtureRequest
) -> None:
    """On brokers that number anew, or take the lowest free identifier, what was in flight is doubled."""
    kills = 10
    with new_flow(rate=_RATE, qos=qos, tables=ON) as flow:
        kill_again_and_again(flow, kills, Random(qos))
    if request.config.getoption("--brokers") in _UPWARD:
        assert_nothing_lost_or_doubled(flow)
    assert not flow.verdict.lost, flow.verdict
    assert flow.verdict.copies <= kills * WINDOW, flow.verdict


@pytest.mark.parametrize("qos", [1, 2])
def test_a_stop_again_and_again(new_flow: Callable[..., Any], qos: int) -> None:
    with new_flow(rate=_RATE, qos=qos, tables=ON) as flow:
        stop_again_and_again(flow)
    assert_nothing_lost_or_doubled(flow)


@pytest.mark.parametrize("qos", [1, 2])
def test_the_power_is_cut_again_and_again(new_flow: Callable[..., Any], disk: Disk, qos: int) -> None:
    """The disk forgets all that was not synced, at any moment under load."""
    random = Random(qos)
    spool = {"directory": disk.path, "keep_free": 0}
    with new_flow(rate=2 * _RATE, qos=qos, tables={**ON, "spool": spool}) as flow:
        for _ in range(6):
            freeze(flow.bridge)
            disk.dies()
            flow.bridge.kill9()
            disk.repair()
            flow.bridge.start()
            flow.bridge.wait_live()
            flow.devices.wait_sent(random.randrange(1, 100))
            if random.random() < 0.5:
                flow.goes_on()
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def freeze(bridge: BridgeProcess) -> None:
    """No thread acknowledges anything any more; one that waits for the disk stops when that has answered."""
    bridge.hang()
    states = Path(f"/proc/{bridge.pid}/task").glob
    wait_until(
        lambda: {stat.read_text().rpartition(") ")[2][0] for stat in states("*/stat")} <= {"T", "D"},
        5.0,
        "all its threads have stopped",
    )


def _switch(bridge: BridgeProcess, delivery: str) -> None:
    settings, times = re.subn("at-least-once|exactly-once", delivery, bridge.settings.read_text())
    assert times == 1
    bridge.settings.write_text(settings)


@pytest.mark.parametrize("qos", [1, 2])
def test_the_mode_is_switched_on_and_off_with_messages_on_disk(
    new_flow: Callable[..., Any], kafka: KafkaCluster, qos: int
) -> None:
    """Kafka dies in the middle of transactions. The default mode can't ask how the last one has ended."""
    off = {"kafka": {"delivery": "at-least-once"}, "spool": {"after": "0.1s"}}
    with new_flow(rate=_RATE, qos=qos, tables=off) as flow:
        for delivery in ("exactly-once", "at-least-once", "exactly-once"):
            flow.catches_up()
            with kafka.all_dead():
                flow.devices.wait_sent(100)
                flow.bridge.terminate()
                _switch(flow.bridge, delivery)
                flow.bridge.start()
                flow.bridge.wait_live()
                flow.devices.wait_sent(50)
            flow.goes_on()
    assert not flow.verdict.lost, flow.verdict
    assert not flow.verdict.inversions, flow.verdict
    assert flow.verdict.copies <= _A_TRANSACTION, flow.verdict


def test_the_mode_is_switched_off_after_a_kill(new_flow: Callable[..., Any]) -> None:
    """What Kafka may have of the last transaction is produced again; what EMQ resends is recognised."""
    may_double = 0  # on a busy machine a transaction may have all that has come within seconds
    with new_flow(rate=_RATE, qos=2, tables=ON) as flow:
        for delivery in ("at-least-once", "exactly-once"):
            flow.bridge.kill9()
            may_double += _on_disk(flow.bridge) + WINDOW
            _switch(flow.bridge, delivery)
            flow.bridge.start()
            flow.bridge.wait_live()
            flow.goes_on()
    assert not flow.verdict.lost, flow.verdict
    assert not flow.verdict.inversions, flow.verdict
    assert flow.verdict.copies <= may_double, flow.verdict


def _on_disk(bridge: BridgeProcess) -> int:
    """How many messages the spool of a bridge has that does not run."""
    with closing(sqlite3.connect(bridge.settings.with_suffix(".state") / Store.FILE)) as database:
        return int(database.execute("SELECT coalesce(sum(messages), 0) FROM lanes").fetchone()[0])


def test_a_second_bridge_with_the_same_transactional_id_takes_over_once(
    new_flow: Callable[..., Any], new_bridge: Callable[..., BridgeProcess], new_topic: Callable[..., str]
) -> None:
    """The first one logs an ERROR, waits, and takes over again; the second one has nothing to send."""
    same = {"kafka": {"delivery": "exactly-once", "transactional_id": "same"}}
    with new_flow(rate=_RATE, tables=same) as flow:
        nothing = {"name": "nothing", "filter": "nobody/sends/this", "topic": new_topic()}
        with new_bridge(routes=[nothing], **same) as twin:
            fenced = flow.bridge.wait_for("kafka.fenced")
            assert (fenced["level"], fenced["transactional_id"]) == ("error", "same")
            flow.goes_on(90.0)
            assert len(flow.bridge.entries("kafka.fenced")) == 1, "they do not take turns"
            assert len(flow.bridge.entries("kafka.transactional")) == 2, "at the start, and once it is back"
            assert not twin.entries("kafka.fenced")
    assert_nothing_lost_or_doubled(flow)
