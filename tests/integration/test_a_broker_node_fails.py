"""An EMQ node is killed, hangs or comes back while messages are in flight."""

from collections.abc import Callable
from typing import Any

from tests.harness.brokers import Brokers
from tests.harness.haproxy import HAProxy
from tests.integration.flow import assert_nothing_lost_or_doubled


def node_of_the_session(haproxy: HAProxy) -> int:
    return 1 if haproxy.sessions(1) else 2


def test_the_node_that_the_session_is_on_is_killed_and_started_again(
    new_flow: Callable[..., Any], emq: Brokers, haproxy: HAProxy
) -> None:
    with new_flow() as flow:
        for _ in range(2):
            node = node_of_the_session(haproxy)
            with flow.bridge.log_contains("mqtt.live"), emq.node(node).dead():
                flow.goes_on()
            haproxy.wait_state(node, "UP")
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def test_the_node_that_the_session_is_on_hangs(
    new_flow: Callable[..., Any], emq: Brokers, haproxy: HAProxy
) -> None:
    with new_flow() as flow:
        node = node_of_the_session(haproxy)
        with flow.bridge.log_contains("mqtt.live", deadline=60), emq.node(node).hung():
            haproxy.wait_state(node, "DOWN", deadline=40)
            flow.goes_on()
        haproxy.wait_state(node, "UP")
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def test_the_other_node_is_killed_and_the_bridge_does_not_notice(
    new_flow: Callable[..., Any], emq: Brokers, haproxy: HAProxy
) -> None:
    with new_flow() as flow:
        with emq.node(3 - node_of_the_session(haproxy)).dead():
            flow.goes_on()
        flow.goes_on()
        assert not flow.bridge.entries("mqtt.closed")
    assert_nothing_lost_or_doubled(flow)


def test_both_nodes_are_gone_for_a_while(
    new_flow: Callable[..., Any], emq: Brokers, haproxy: HAProxy
) -> None:
    # Devices reconnect up to 13 s before the bridge, so EMQ's queue of 1,000 must hold their messages.
    with new_flow(rate=45) as flow:
        with emq.node(1).dead(), emq.node(2).dead():
            haproxy.wait_state(1, "DOWN")
            haproxy.wait_state(2, "DOWN")
            flow.bridge.wait_for("mqtt.unavailable")
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)
