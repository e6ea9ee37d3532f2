"""What no broker should send, what breaks off in the middle, and what takes long: the bridge stays up.

A malformed packet ends its connection: on MQTT 5 with DISCONNECT 0x81, then the bridge connects again.
What was in flight is sent again by the broker, so nothing is lost by that.
"""

import contextlib
import os
import signal
from collections.abc import Callable

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.fields import Property
from tests.harness.kafka import KafkaCluster
from tests.harness.packets import Ack, Kind, Packet, Publish
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.integration.scripted.conftest import HeldTopic

NewBridge = Callable[..., BridgeProcess]
Values = Callable[[str], list[bytes]]

MALFORMED_PACKET = 0x81


@pytest.fixture
def bridge(new_bridge: NewBridge, topic: str) -> BridgeProcess:
    bridge = new_bridge({"t/#": topic})
    bridge.start()
    return bridge


@pytest.fixture
def live(broker: ScriptedBroker, bridge: BridgeProcess) -> Connection:
    connection = broker.next_connection()
    connection.connack()
    connection.expect_subscribe()
    bridge.wait_live()
    return connection


MALFORMED = {
    "QoS 3": "36 07 0001 74 0001 00 78",
    "identifier 0": "32 07 0001 74 0000 00 78",
    "a topic longer than the packet": "32 07 00ff 74 0001 00 78",
    "no room for the identifier": "32 03 0001 74",
    "properties longer than the packet": "32 08 0001 74 0001 7f 01 00",
    "an unknown property": "32 08 0001 74 0001 02 7e 00",
    "a topic alias, which was never allowed": "32 09 0001 74 0001 03 23 0001",
    "no topic": "30 04 0000 00 78",
    "a length of five bytes": "30 ff ff ff ff 01",
    "a CONNECT": "10 0c 0004 4d515454 04 02 000a 0000",
    "a SUBSCRIBE": "82 06 0001 0001 74 00",
    "packet type 0": "00 00",
    "PUBREL with wrong flags": "60 02 0001",
    "PUBREL with identifier 0": "62 02 0000",
    "PUBREL without an identifier": "62 00",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_packet_ends_the_connection_and_nothing_else(
    data: str, broker: ScriptedBroker, bridge: BridgeProcess, live: Connection, topic: str, values: Values
) -> None:
    with live.one_segment():
        live.publish(b"t", b"before", qos=1, identifier=1)
        live.send(bytes.fromhex(data))
    live.expect_disconnect(MALFORMED_PACKET)
    bridge.wait_for("mqtt.malformed_packet", level="error")
    live.close()

    with broker.connection() as again:
        again.connack(session_present=True)
        again.publish(b"t", b"before", qos=1, identifier=1, dup=True)
        again.publish(b"t", b"after", qos=1, identifier=2)
        again.expect_pubacks([1, 2])
    assert values(topic)[-1] == b"after"
    assert b"before" in values(topic)


def test_a_malformed_packet_on_3_1_1_just_ends_the_connection(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """3.1.1 has no DISCONNECT with a reason."""
    bridge = new_bridge({"t": topic}, {"protocol": "3.1.1"})
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        bridge.wait_live()
        connection.send(bytes.fromhex("36 06 0001 74 0001 78"))
        connection.expect_end()
    bridge.wait_for("mqtt.malformed_packet")
    broker.wait_connects(2)


def test_malformed_packets_again_and_again_are_no_tight_loop(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    def script(connection: Connection) -> None:
        connection.connack(session_present=True)
        connection.send(b"\x00\x00")

    bridge = new_bridge({"t": topic}, {"reconnect": {"min_delay": "200ms", "max_delay": "5s"}})
    with broker.always(script):
        bridge.start()
        broker.wait_connects(8, deadline=60)
    assert broker.connects[7] - broker.connects[0] > 1.0
    assert bridge.alive


def test_a_server_that_is_no_broker(broker: ScriptedBroker, bridge: BridgeProcess) -> None:
    """mqtt.port names somebody else's server, which complains and closes."""
    with broker.connection() as connection:
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    bridge.wait_for("mqtt.unavailable")
    with broker.connection() as again:
        again.send(b"\xff" * 20)
        again.expect_end()
    broker.wait_connects(3)
    assert bridge.alive


def test_a_publish_before_connack_is_not_taken(
    broker: ScriptedBroker, bridge: BridgeProcess, topic: str, values: Values
) -> None:
    with broker.connection() as connection:
        connection.publish(b"t", b"too early", qos=1, identifier=1)
        connection.expect_end()
    with broker.connection() as again:
        again.connack()
        again.publish(b"t", b"x", qos=1, identifier=1)
        again.expect_puback(1)
    assert values(topic) == [b"x"]


def test_a_connection_that_breaks_in_the_middle_of_a_packet(
    broker: ScriptedBroker, live: Connection, topic: str, values: Values
) -> None:
    """Half a message is no message; it comes again."""
    packet = Publish(b"t", b"x" * 1000, 1, 1).encode(5)
    live.send(packet[:600])
    live.close()
    with broker.connection() as again:
        again.connack(session_present=True)
        again.publish(b"t", b"x" * 1000, qos=1, identifier=1, dup=True)
        again.expect_puback(1)
    assert values(topic) == [b"x" * 1000]


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
    """A broker that knows no window: the bridge takes them, and acknowledges in order."""
    with live.one_segment():
        for identifier in range(1, 10_001):
            live.publish(b"t", b"%d" % identifier, qos=1, identifier=identifier)
    live.expect_pubacks(range(1, 10_001), deadline=30)
    assert values(topic) == [b"%d" % number for number in range(1, 10_001)]


def test_a_broker_that_answers_no_ping_is_left(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """It hangs behind a healthy HAProxy: only MQTT's keepalive can tell."""
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


def test_pings_go_on_while_kafka_is_away(
    broker: ScriptedBroker, new_bridge: NewBridge, held_topic: HeldTopic
) -> None:
    """Backpressure is the window, never a blocked socket: the broker must not take the bridge for dead."""
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


def test_a_stop_waits_for_kafka_and_sends_its_acknowledgements(
    broker: ScriptedBroker, bridge: BridgeProcess, live: Connection, topic: str, values: Values
) -> None:
    """SIGTERM in the middle of traffic: every message is acknowledged or comes again, none twice."""
    with live.one_segment():
        for identifier in range(1, 501):
            live.publish(b"t", b"%d" % identifier, qos=1, identifier=identifier)
    wait_until(lambda: live.received[1:], 10, "the first acknowledgements are there")
    assert bridge.terminate() == 0

    live.expect_disconnect(0)
    acked = [packet.identifier for packet in live.received if isinstance(packet, Ack)]
    assert sorted(values(topic), key=int) == [b"%d" % number for number in acked]


def test_properties_of_every_kind_come_through(live: Connection, topic: str, kafka: KafkaCluster) -> None:
    """A message with all properties that MQTT 5 allows in PUBLISH is not malformed."""
    live.publish(
        b"t",
        b"x",
        qos=1,
        identifier=1,
        properties={
            Property.PAYLOAD_FORMAT: 1,
            Property.MESSAGE_EXPIRY: 60,
            Property.CONTENT_TYPE: "text/plain",
            Property.RESPONSE_TOPIC: "answers",
            Property.CORRELATION_DATA: b"\x00\x01",
            Property.SUBSCRIPTION_IDENTIFIER: [268_435_455],
            Property.USER_PROPERTY: [("a", "1"), ("a", "2")],
        },
    )
    live.expect_puback(1)


CONTROL = {
    "a second CONNACK": "20 03 00 00 00",
    "an empty CONNACK": "20 00",
    "a SUBACK without an identifier": "90 00",
    "a SUBACK without a reason": "90 03 0001 00",
    "a SUBACK that nobody asked for": "90 04 7777 00 00",
    "a SUBACK with a reason that does not exist": "90 04 0001 00 7e",
    "an UNSUBACK without an identifier": "b0 00",
    "an UNSUBACK that nobody asked for": "b0 04 7777 00 00",
    "a DISCONNECT with a reason that does not exist": "e0 01 7e",
    "a DISCONNECT with broken properties": "e0 03 00 7f 01",
    "a PINGRESP that nobody asked for": "d0 00",
    "a PINGRESP with a body": "d0 01 00",
    "a PUBACK": "40 02 0001",
    "an empty PUBACK": "40 00",
    "a PUBREC": "50 02 0001",
    "a PUBCOMP": "70 02 0001",
    "an AUTH": "f0 00",
}


@pytest.mark.parametrize("data", CONTROL.values(), ids=CONTROL.keys())
def test_a_control_packet_that_makes_no_sense(
    data: str, broker: ScriptedBroker, bridge: BridgeProcess, live: Connection
) -> None:
    """Paho reads these. Whether the connection goes on or is made anew: messages flow, nothing crashes."""
    acked: list[Packet] = []

    def go_on(connection: Connection) -> None:
        connection.on_packet = acked.append
        connection.publish(b"t", b"x", qos=1, identifier=1, dup=connection is not live)

    def accept(connection: Connection) -> None:
        connection.connack(session_present=True)
        go_on(connection)

    with broker.always(accept):
        live.send(bytes.fromhex(data))
        with contextlib.suppress(OSError):
            go_on(live)
        wait_until(
            lambda: Ack(Kind.PUBACK, 1) in acked, 10, lambda: f"PUBACK 1 among {acked}{bridge.log_tail()}"
        )
    assert bridge.alive


@pytest.mark.parametrize(
    "data", ["20 00", "20 01 00", "20 02 01 00", "20 05 00 00 02 7e 00", "20 03 00 7e 00"]
)
def test_a_connack_that_makes_no_sense(data: str, broker: ScriptedBroker, bridge: BridgeProcess) -> None:
    with broker.connection() as connection:
        connection.send(bytes.fromhex(data))
        connection.expect_end()
    with broker.always(lambda connection: connection.connack()):
        bridge.wait_live()


def test_a_suback_that_never_comes(broker: ScriptedBroker, new_bridge: NewBridge, topic: str) -> None:
    """The broker answers pings and nothing else: connected, and yet no message would ever come."""
    bridge = new_bridge({"t": topic}, {"connack_timeout": "5s"})
    bridge.start()
    first = broker.next_connection()
    first.answers_subscribe = False
    first.connack()
    first.expect_subscribe()
    first.expect_end(deadline=12)
    with broker.connection() as again:
        again.connack(session_present=True)
        again.expect_subscribe()
        bridge.wait_live()


def test_the_broker_may_ask_for_a_shorter_keepalive(broker: ScriptedBroker, bridge: BridgeProcess) -> None:
    """MQTT 5, 3.2.2.3.14: what CONNACK says must be used, or the broker ends the connection."""
    with broker.connection() as connection:
        connection.connack(properties={Property.SERVER_KEEP_ALIVE: 2})
        connection.expect_pings(2, deadline=8)


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


def test_a_stop_with_kafka_away_ends_at_its_deadline(
    broker: ScriptedBroker, new_bridge: NewBridge, held_topic: HeldTopic
) -> None:
    """What is not confirmed is not acknowledged: the broker keeps it, and the session."""
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
    assert bridge.terminate(deadline=5) == 1
