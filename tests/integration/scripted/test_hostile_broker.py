"""Packets that no broker should send, and packets that break off in the middle: the bridge stays up.

A malformed packet ends its connection, on MQTT 5 with DISCONNECT 0x81, and the bridge reconnects. The broker
resends the messages in flight, so none is lost.
"""

import contextlib

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.fields import Property
from tests.harness.packets import Ack, Kind, Packet, Publish
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.integration.scripted.conftest import NewBridge, Values

MALFORMED_PACKET = 0x81


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
    data: str, broker: ScriptedBroker, running: BridgeProcess, live: Connection, topic: str, values: Values
) -> None:
    with live.one_segment():
        live.publish(b"t", b"before", qos=1, identifier=1)
        live.send(bytes.fromhex(data))
    live.expect_disconnect(MALFORMED_PACKET)
    running.wait_for("mqtt.malformed_packet", level="error")
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
    """MQTT 3.1.1 has no DISCONNECT with a reason."""
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


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"\xff" * 20])
def test_a_server_that_is_no_broker(answer: bytes, broker: ScriptedBroker, running: BridgeProcess) -> None:
    """The server at mqtt.port is no broker: its first byte shows that, before the CONNACK time-out."""
    with broker.connection() as connection:
        connection.send(answer)
        connection.expect_end(deadline=3)
    running.wait_for("mqtt.malformed_packet", level="error")
    broker.wait_connects(2)
    assert running.alive


def test_a_publish_before_connack_is_not_taken(
    broker: ScriptedBroker, running: BridgeProcess, topic: str, values: Values
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
    """The bridge ignores half a message; the broker resends it."""
    packet = Publish(b"t", b"x" * 1000, 1, 1).encode(5)
    live.send(packet[:600])
    live.close()
    with broker.connection() as again:
        again.connack(session_present=True)
        again.publish(b"t", b"x" * 1000, qos=1, identifier=1, dup=True)
        again.expect_puback(1)
    assert values(topic) == [b"x" * 1000]


def test_properties_of_every_kind_come_through(live: Connection) -> None:
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
    data: str, broker: ScriptedBroker, running: BridgeProcess, live: Connection
) -> None:
    """Paho reads these. The bridge keeps the connection or reconnects, and messages flow."""
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
            lambda: Ack(Kind.PUBACK, 1) in acked, 10, lambda: f"PUBACK 1 among {acked}{running.log_tail()}"
        )
    assert running.alive
