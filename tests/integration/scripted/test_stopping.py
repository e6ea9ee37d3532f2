"""SIGTERM during traffic: acknowledged messages are in Kafka; the broker resends the others."""

import os
import signal

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.packets import Ack
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.integration.scripted.conftest import HeldTopic, NewBridge, Values


def test_a_stop_waits_for_kafka_and_sends_its_acknowledgements(
    broker: ScriptedBroker, running: BridgeProcess, live: Connection, topic: str, values: Values
) -> None:
    """Every message is acknowledged or resent, and none is in Kafka twice."""
    with live.one_segment():
        for identifier in range(1, 501):
            live.publish(b"t", b"%d" % identifier, qos=1, identifier=identifier)
    wait_until(lambda: live.received[1:], 10, "the first acknowledgements are there")
    assert running.terminate() == 0

    live.expect_disconnect(0)
    acked = [packet.identifier for packet in live.received if isinstance(packet, Ack)]
    assert sorted(values(topic), key=int) == [b"%d" % number for number in acked]


def test_a_stop_with_kafka_away_ends_at_its_deadline(
    broker: ScriptedBroker, new_bridge: NewBridge, held_topic: HeldTopic
) -> None:
    """Unconfirmed messages are not acknowledged: the broker keeps them and the session."""
    bridge = new_bridge({"t": held_topic.name}, stop_timeout="2s")
    bridge.start()
    connection = broker.next_connection()
    connection.connack()
    connection.expect_subscribe()
    with bridge.log_contains("kafka.topic_missing"):
        connection.publish(b"t", b"x", qos=1, identifier=1)
    assert bridge.terminate(deadline=8) == 0
    assert bridge.entries("service.stop_deadline", in_flight=1)
    connection.expect_disconnect(0)
    assert not any(isinstance(packet, Ack) for packet in connection.received)


def test_a_second_signal_leaves_at_once(
    broker: ScriptedBroker, new_bridge: NewBridge, held_topic: HeldTopic
) -> None:
    bridge = new_bridge({"t": held_topic.name}, stop_timeout="60s")
    bridge.start()
    connection = broker.next_connection()
    connection.connack()
    with bridge.log_contains("kafka.topic_missing"):
        connection.publish(b"t", b"x", qos=1, identifier=1)
    with bridge.log_contains("service.stopping"):
        os.kill(bridge.pid, signal.SIGTERM)
    bridge.wait_for("service.stopping", at_most_seconds=60.0)
    assert bridge.terminate(deadline=5) == 1


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_that_other_services_reload_by_changes_nothing_under_load(
    number: int, running: BridgeProcess, live: Connection, topic: str, values: Values
) -> None:
    """Its default is to end the process: of 400 messages 19 were then twice in Kafka."""
    messages = 400
    for identifier in range(1, messages + 1):
        live.publish(b"t", b"%d" % identifier, qos=1, identifier=identifier)
        if not identifier % 100:
            os.kill(running.pid, number)
    live.expect_pubacks(range(1, messages + 1))
    assert running.alive
    assert values(topic) == [b"%d" % identifier for identifier in range(1, messages + 1)]
    assert running.terminate() == 0
