"""What no broker should send, what breaks off in the middle, and what takes long: the bridge stays up.

A malformed packet ends its connection: on MQTT 5 with DISCONNECT 0x81, then the bridge connects again.
What was in flight is sent again by the broker, so nothing is lost by that.
"""

from collections.abc import Callable

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.fields import Property
from tests.harness.kafka import KafkaCluster
from tests.harness.packets import Publish
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
    bridge.wait_for("mqtt.keepalive_timeout")
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
    acked = [packet.identifier for packet in live.received if hasattr(packet, "kind")]
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
