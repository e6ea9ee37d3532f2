"""The chain on HiveMQ CE, which gives each message the lowest free identifier.

After each batch of up to 50 messages HiveMQ starts with 1 again, which proves nothing: each message in flight
when a connection breaks may be duplicated, at QoS 1 and 2. No other message is duplicated, and none is lost.
A recording relay in front of the bridge tells messages that the broker lost from those that the bridge lost.
"""

from collections.abc import Callable
from itertools import takewhile
from random import Random
from typing import Any

import pytest

from tests.harness.client import take_session
from tests.harness.haproxy import HAProxy
from tests.harness.hivemq import HiveMQ
from tests.harness.host import Network
from tests.harness.relay import Sighting
from tests.integration.flow import Flow, assert_the_bridge_lost_nothing
from tests.integration.test_a_broker_node_fails import node_of_the_session
from tests.integration.test_exactly_once import ON, kill_again_and_again

NewFlow = Callable[..., Any]

RATE = 60  # messages a second
WINDOW = 50  # HiveMQ's own: the bridge's Receive Maximum is larger
SETTINGS = {
    # After breaks in a row the bridge would wait, and on MQTT 3.1.1 suspect a rival with its client id.
    "mqtt": {"reconnect": {"min_delay": "50ms", "max_delay": "200ms", "refused_delay": "1s"}},
    # So that a fault finds messages that Kafka has not confirmed.
    "kafka": {"options": {"linger.ms": 200}},
}


@pytest.fixture
def flow_of(new_flow: NewFlow) -> NewFlow:
    def create(**options: Any) -> Any:
        return new_flow(rate=RATE, recorded=True, tables=SETTINGS, **options)

    return create


@pytest.mark.parametrize(("qos", "version", "protocol"), [(1, 5, "5"), (2, 4, "3.1.1"), (2, 5, "5")])
def test_the_connection_breaks_again_and_again(
    qos: int, version: int, protocol: str, flow_of: NewFlow
) -> None:
    cuts = 4
    with flow_of(qos=qos, version=version, protocol=protocol) as flow:
        for number in range(cuts):
            with flow.bridge.log_contains("mqtt.live"):
                assert flow.relay.cut(reset=number % 2 == 1)
            flow.goes_on()
        assert not flow.bridge.entries("mqtt.session_lost")
    assert_the_bridge_lost_nothing(flow, doubled=cuts * WINDOW)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_node_dies_and_the_session_moves(
    qos: int, flow_of: NewFlow, hivemq: HiveMQ, haproxy: HAProxy
) -> None:
    with flow_of(qos=qos) as flow:
        with flow.bridge.log_contains("mqtt.live"), hivemq.node(node_of_the_session(haproxy)).dead():
            flow.goes_on()
        flow.goes_on()
        assert not flow.bridge.entries("mqtt.session_lost")
    assert_the_bridge_lost_nothing(flow, doubled=WINDOW)


def test_the_whole_broker_dies_and_comes_back_with_the_session(flow_of: NewFlow, hivemq: HiveMQ) -> None:
    with flow_of(qos=2) as flow:
        with flow.bridge.log_contains("mqtt.live", deadline=60), hivemq.broker.dead():
            flow.bridge.wait_for("mqtt.closed")
        flow.goes_on()
        assert not flow.bridge.entries("mqtt.session_lost")
    assert_the_bridge_lost_nothing(flow, doubled=WINDOW)


def test_another_client_takes_the_session(
    flow_of: NewFlow, hivemq: HiveMQ, haproxy: HAProxy, network: Network
) -> None:
    with flow_of(protocol="5") as flow:
        client_id = flow.bridge.wait_live()["client_id"]
        with flow.bridge.log_contains("mqtt.live"), flow.bridge.log_contains("mqtt.taken_over"):
            rival = take_session(network.emq[0].address, client_id)
        with rival:
            assert rival.connack.session_present
        flow.goes_on()
        assert not flow.bridge.entries("mqtt.session_lost")
    assert_the_bridge_lost_nothing(flow, doubled=WINDOW)


@pytest.mark.parametrize("qos", [1, 2])
def test_the_bridge_is_stopped_and_then_killed(qos: int, flow_of: NewFlow) -> None:
    with flow_of(qos=qos) as flow:
        assert flow.bridge.terminate() == 0
        flow.bridge.start()
        flow.goes_on()
        flow.bridge.kill9()
        flow.devices.wait_sent(RATE)
        flow.bridge.start()
        flow.goes_on()
    # A clean stop leaves nothing in flight.
    assert_the_bridge_lost_nothing(flow, doubled=WINDOW)


@pytest.mark.parametrize("qos", [1, 2])
def test_kill_9_with_delivery_exactly_once(qos: int, new_flow: NewFlow) -> None:
    """At QoS 2 an identifier stays taken until PUBREL. So the bridge recognises a resent message, once it
    knows that this broker keeps identifiers.
    """
    kills = 8
    with new_flow(rate=RATE, recorded=True, qos=qos, version=5, protocol="5", tables=ON) as flow:
        kill_again_and_again(flow, kills, Random(qos))
        assert not flow.bridge.entries("mqtt.session_lost")
    assert_the_bridge_lost_nothing(flow, doubled=kills * WINDOW)
    if qos == 2:
        assert flow.verdict.doubled.keys() <= came_in_doubt(flow), flow.verdict


def came_in_doubt(flow: Flow) -> set[str]:
    """What came until a resumed session began with another identifier than 1, as if numbered anew."""
    connections: dict[int, list[Sighting]] = {}
    for seen in flow.relay.sightings:
        if seen.id and seen.qos:
            connections.setdefault(seen.connection, []).append(seen)
    _, *resumed = connections.values()
    in_doubt = takewhile(lambda sightings: sightings[0].identifier == 1, resumed)
    return {seen.id for sightings in in_doubt for seen in sightings}
