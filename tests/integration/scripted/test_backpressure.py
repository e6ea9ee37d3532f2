"""Backpressure: the window limits how many messages the bridge takes, and the session stays up."""

from tests.harness.packets import Publish
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.integration.scripted.conftest import HeldTopic, NewBridge, Values


def test_packets_byte_by_byte(live: Connection, topic: str, values: Values) -> None:
    for number in (1, 2):
        for byte in Publish(b"t", b"slow", 1, number).encode(5):
            live.send(bytes([byte]))
        live.expect_puback(number)
    assert values(topic) == [b"slow", b"slow"]


def test_a_message_of_half_a_megabyte_among_small_ones(live: Connection, topic: str, values: Values) -> None:
    large = bytes(range(256)) * 2048
    with live.one_segment():
        for identifier, payload in enumerate([b"a", large, b"b"], 1):
            live.publish(b"t", payload, qos=1, identifier=identifier)
    live.expect_pubacks([1, 2, 3])
    assert values(topic) == [b"a", large, b"b"]


def test_ten_thousand_messages_in_one_burst(live: Connection, topic: str, values: Values) -> None:
    """The broker ignores the window: the bridge still takes all messages, and acknowledges in order."""
    with live.one_segment():
        for identifier in range(1, 10_001):
            live.publish(b"t", b"%d" % identifier, qos=1, identifier=identifier)
    live.expect_pubacks(range(1, 10_001), deadline=30)
    assert values(topic) == [b"%d" % number for number in range(1, 10_001)]


def test_pings_go_on_while_kafka_is_away(
    broker: ScriptedBroker, new_bridge: NewBridge, held_topic: HeldTopic
) -> None:
    """Only the window holds messages back, never a blocked socket: the bridge must not look dead."""
    tcp = {"keepalive_idle": "1s", "keepalive_interval": "1s", "keepalive_count": 1}
    bridge = new_bridge({"t": held_topic.name}, {"keepalive": "4s", "tcp": tcp, "receive_maximum": 10})
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        connection.expect_subscribe()
        for identifier in range(1, 11):
            connection.publish(b"t", b"x", qos=1, identifier=identifier)
        connection.expect_pings(3, deadline=20)
        held_topic.release()
        connection.expect_pubacks(range(1, 11), deadline=30)
        assert len(broker.connects) == 1


def test_qos_0_beyond_the_bound_is_dropped_and_counted(
    broker: ScriptedBroker, new_bridge: NewBridge, held_topic: HeldTopic, values: Values
) -> None:
    bridge = new_bridge({"t": held_topic.name}, {"qos0_messages": 10}, stop_timeout="10s")
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        with bridge.log_contains("qos0.dropped"):
            for number in range(15):
                connection.publish(b"t", b"%d" % number)
        connection.publish(b"t", b"behind", qos=1, identifier=1)
        held_topic.release()
        connection.expect_subscribe()
        connection.expect_puback(1)
        assert bridge.terminate() == 0
    counts = bridge.entries("service.stopped")[0]
    assert (counts["received"], counts["delivered"], counts["dropped"]) == (16, 11, 5)
    assert values(held_topic.name) == [*(b"%d" % number for number in range(10)), b"behind"]


def test_a_broker_that_answers_no_ping_is_left(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """The broker hangs behind a healthy HAProxy: only MQTT's keepalive notices."""
    tcp = {"keepalive_idle": "1s", "keepalive_interval": "1s", "keepalive_count": 1}
    bridge = new_bridge({"t": topic}, {"keepalive": "4s", "tcp": tcp})
    bridge.start()
    connection = broker.next_connection()
    connection.answers_pings = False
    connection.connack()
    bridge.wait_live()
    connection.expect_end(deadline=15)
    bridge.wait_for("mqtt.closed", reason="Keep alive timeout")
    broker.wait_connects(2)
