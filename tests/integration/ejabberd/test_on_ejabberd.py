"""The chain on ejabberd, whose sessions can move between nodes but die with their own node.

ejabberd has one message of a session in flight, keeps its identifier, and counts identifiers upward. If the
bridge dies, that one message may be duplicated; if the connection breaks, none. A recording relay in front of
the bridge tells messages that the broker lost from those that the bridge lost.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.harness.client import take_session
from tests.harness.ejabberd import EjabberdPair
from tests.harness.haproxy import HAProxy
from tests.harness.host import Network
from tests.integration.flow import Flow, assert_the_bridge_lost_nothing
from tests.integration.test_a_broker_node_fails import node_of_the_session
from tests.integration.test_exactly_once import ON, kill_again_and_again

NewFlow = Callable[..., Any]

RATE = 30  # messages a second; with one in flight, ejabberd delivers at most about 50
SETTINGS = {
    # After breaks in a row the bridge would wait.
    "mqtt": {"reconnect": {"min_delay": "50ms", "max_delay": "200ms", "refused_delay": "1s"}},
    # So that a fault usually finds a message that Kafka has not confirmed.
    "kafka": {"options": {"linger.ms": 15}},
}


@pytest.fixture
def flow_of(new_flow: NewFlow) -> NewFlow:
    def create(**options: Any) -> Any:
        return new_flow(rate=RATE, recorded=True, tables=SETTINGS, **options)

    return create


def settles(flow: Flow) -> None:
    """Wait until messages flow and the session may be taken over again (harness/ejabberd.py)."""
    flow.devices.wait_sent(RATE)
    flow.goes_on()


@pytest.mark.parametrize(("qos", "version", "protocol"), [(1, 4, "3.1.1"), (2, 5, "5")])
def test_the_connection_breaks_again_and_again(
    qos: int, version: int, protocol: str, flow_of: NewFlow
) -> None:
    cuts = 4
    with flow_of(qos=qos, version=version, protocol=protocol) as flow:
        for number in range(cuts):
            with flow.bridge.log_contains("mqtt.live"):
                assert flow.relay.cut(reset=number % 2 == 1)
            settles(flow)
            if number % 2:  # three short lives in a row would be a rival's, and after a rival no copy joins
                flow.devices.wait_sent(5 * RATE)
        assert not flow.bridge.entries("mqtt.session_lost")
    # On MQTT 3.1.1 the window is unknown, so the first 1,000 identifiers prove nothing.
    assert_the_bridge_lost_nothing(flow, doubled=0 if protocol == "5" else cuts)


@pytest.mark.parametrize("qos", [1, 2])
def test_each_node_dies_and_the_session_with_the_one_it_is_on(
    qos: int, flow_of: NewFlow, pair: EjabberdPair, haproxy: HAProxy
) -> None:
    with flow_of(qos=qos) as flow:
        node = node_of_the_session(haproxy)
        with pair.node(3 - node).dead():
            flow.goes_on()
        settles(flow)
        assert not flow.bridge.entries("mqtt.closed"), "the other node's death must not close the connection"
        with flow.bridge.log_contains("mqtt.session_lost"), pair.node(node).dead():
            flow.goes_on()
        flow.goes_on()
    assert_the_bridge_lost_nothing(flow)
    assert flow.verdict.lost == flow.blame.lost_by_broker


def test_a_node_is_taken_out_for_maintenance_and_the_session_moves(
    flow_of: NewFlow, haproxy: HAProxy
) -> None:
    with flow_of(qos=2) as flow:
        for _ in range(2):
            node = node_of_the_session(haproxy)
            with flow.bridge.log_contains("mqtt.live"):
                haproxy.ask(f"set server mqtt-kafka/server{node} state maint")
            assert node_of_the_session(haproxy) == 3 - node
            haproxy.ask(f"set server mqtt-kafka/server{node} state ready")
            settles(flow)
        assert not flow.bridge.entries("mqtt.session_lost")
    assert_the_bridge_lost_nothing(flow)


def test_another_client_takes_the_session_at_the_other_node(
    flow_of: NewFlow, pair: EjabberdPair, haproxy: HAProxy, network: Network
) -> None:
    with flow_of(protocol="5") as flow:
        other = network.emq[2 - node_of_the_session(haproxy)]
        client_id = flow.bridge.wait_live()["client_id"]
        # If ejabberd takes it for one more rival, the bridge waits longer.
        with flow.bridge.log_contains("mqtt.live", 90.0), flow.bridge.log_contains("mqtt.taken_over"):
            rival = take_session(other.address, client_id, pair.credentials)
        with rival:
            assert rival.connack.session_present
        flow.goes_on()
        # The bridge is back within milliseconds. ejabberd may take it for one more rival.
        fought = len(flow.bridge.entries("mqtt.taken_over")) > 1
        assert fought or not flow.bridge.entries("mqtt.session_lost")
    assert_the_bridge_lost_nothing(flow, doubled=1)


@pytest.mark.parametrize("qos", [1, 2])
def test_the_bridge_is_stopped_and_then_killed(qos: int, flow_of: NewFlow) -> None:
    with flow_of(qos=qos) as flow:
        assert flow.bridge.terminate() == 0
        flow.bridge.start()
        settles(flow)
        flow.bridge.kill9()
        flow.devices.wait_sent(RATE)
        flow.bridge.start()
        flow.goes_on()
    # A clean stop leaves nothing in flight, and at most one message was in flight.
    assert_the_bridge_lost_nothing(flow, doubled=1)


@pytest.mark.parametrize("qos", [1, 2])
def test_kill_9_with_delivery_exactly_once(qos: int, new_flow: NewFlow) -> None:
    """More messages come than ejabberd sends, so that each kill finds one in flight."""
    rate = 2 * RATE
    with new_flow(rate=rate, recorded=True, qos=qos, version=5, protocol="5", tables=ON) as flow:
        # Two takeovers within a second may cost the session (harness/ejabberd.py).
        kill_again_and_again(flow, 8, Random(qos), live=rate)
        assert not flow.bridge.entries("mqtt.session_lost")
    assert_the_bridge_lost_nothing(flow, doubled=0)
