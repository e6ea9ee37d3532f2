"""Delivery exactly-once with real brokers: the bridge is killed again and again, and nothing is doubled."""

import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.kafka import KafkaCluster
from tests.integration.flow import assert_nothing_lost_or_doubled

_RATE = 60.0  # messages a second: while a busy machine starts the bridge, EMQ queues 1,000
_A_TRANSACTION = 100  # messages at this rate
_ON = {"kafka": {"delivery": "exactly-once"}}


@pytest.mark.parametrize("qos", [1, 2])
def test_kill_9_again_and_again(new_flow: Callable[..., Any], qos: int) -> None:
    random = Random(qos)
    with new_flow(rate=_RATE, qos=qos, tables=_ON) as flow:
        for _ in range(10):
            flow.bridge.kill9()
            flow.devices.wait_sent(random.randrange(1, 60))
            flow.bridge.start()
            flow.bridge.wait_live()
            flow.devices.wait_sent(random.randrange(1, 60))
            if random.random() < 0.5:
                flow.goes_on()
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_stop_again_and_again(new_flow: Callable[..., Any], qos: int) -> None:
    with new_flow(rate=_RATE, qos=qos, tables=_ON) as flow:
        for _ in range(5):
            assert flow.bridge.terminate() == 0
            flow.devices.wait_sent(50)
            flow.bridge.start()
            flow.bridge.wait_live()
            flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


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
    with new_flow(rate=_RATE, qos=2, tables=_ON) as flow:
        for delivery in ("at-least-once", "exactly-once"):
            flow.bridge.kill9()
            _switch(flow.bridge, delivery)
            flow.bridge.start()
            flow.bridge.wait_live()
            flow.goes_on()
    assert not flow.verdict.lost, flow.verdict
    assert not flow.verdict.inversions, flow.verdict
    assert flow.verdict.copies <= _A_TRANSACTION, flow.verdict
