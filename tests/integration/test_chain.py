"""The whole chain: devices -> HAProxy :1883 -> EMQ -> HAProxy :1884 -> bridge -> Kafka."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.conditions import wait_until
from tests.integration.flow import assert_nothing_lost_or_doubled


@pytest.mark.parametrize("protocol", ["5", "3.1.1"], ids="bridge{}".format)
@pytest.mark.parametrize("version", [5, 4], ids={5: "device5", 4: "device3.1.1"}.get)
@pytest.mark.parametrize("qos", [1, 2])
def test_what_devices_saw_acknowledged_comes_out_of_kafka_once_and_in_order(
    new_flow: Callable[..., Any], qos: int, version: int, protocol: str
) -> None:
    with new_flow(rate=200, qos=qos, version=version, protocol=protocol) as flow:
        flow.devices.wait_sent(200)
    assert_nothing_lost_or_doubled(flow)
    assert flow.verdict.delivered >= 200


def test_qos_0_comes_through_when_nothing_is_wrong(new_flow: Callable[..., Any]) -> None:
    with new_flow(qos=0) as flow:
        flow.devices.wait_sent(100)
        sent = flow.devices.stop().sent0
        wait_until(lambda: not flow.verifier.missing(sent), 10.0, "all of QoS 0 is there")
    assert not flow.verdict.doubled


def test_the_counts_add_up_when_the_bridge_stops(new_flow: Callable[..., Any]) -> None:
    with new_flow() as flow:
        flow.devices.wait_sent(50)
    (last,) = flow.bridge.entries("service.stopped")
    went = ("delivered", "spooled", "unreadable", "dead_lettered", "skipped", "dropped")
    assert last["received"] + last["restored"] == sum(last[name] for name in went)
    assert last["in_flight"] == 0
    assert last["delivered"] == flow.verdict.delivered
