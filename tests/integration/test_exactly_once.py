"""Delivery exactly-once with real brokers: the bridge is killed again and again, and nothing is doubled."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.integration.flow import assert_nothing_lost_or_doubled

_RATE = 60.0  # messages a second: while a busy machine starts the bridge, EMQ queues 1,000
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
