"""HAProxy is killed and started again, or reloaded, while messages are in flight."""

from collections.abc import Callable
from typing import Any

from tests.harness.haproxy import HAProxy
from tests.integration.flow import assert_nothing_lost_or_doubled


def test_it_is_killed_and_started_again(new_flow: Callable[..., Any], haproxy: HAProxy) -> None:
    with new_flow() as flow:
        for _ in range(2):
            with flow.bridge.log_contains("mqtt.live"), haproxy.dead():
                flow.bridge.wait_for("mqtt.closed")
            flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def test_a_reload_under_load_cuts_nobody(new_flow: Callable[..., Any], haproxy: HAProxy) -> None:
    with new_flow() as flow:
        haproxy.reload()
        flow.goes_on()
        assert not flow.bridge.entries("mqtt.closed")
    assert_nothing_lost_or_doubled(flow)
