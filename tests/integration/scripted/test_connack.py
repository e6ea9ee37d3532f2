"""How a connection is accepted, refused or taken over, and what the bridge logs."""

import time

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.fields import Property
from tests.harness.scripted import ScriptedBroker
from tests.integration.scripted.conftest import NewBridge, Values

BAD_USER_NAME_OR_PASSWORD = 0x86
NOT_AUTHORIZED = 0x87
SESSION_TAKEN_OVER = 0x8E


def test_what_the_first_connect_says(broker: ScriptedBroker, new_bridge: NewBridge, topic: str) -> None:
    new_bridge(
        {"t": topic}, {"session_expiry": "2h", "receive_maximum": 7, "username": "u", "password": "p"}
    ).start()
    with broker.connection() as connection:
        hello = connection.hello
        assert hello is not None
        assert (hello.client_id, hello.version, hello.clean_start) == ("the-bridge", 5, False)
        assert (hello.keepalive, hello.username, hello.password) == (60, "u", b"p")
        assert hello.properties[Property.SESSION_EXPIRY] == 7200
        assert hello.properties[Property.RECEIVE_MAXIMUM] == 7
        assert hello.properties[Property.MAXIMUM_PACKET_SIZE] == 16_000_000
        assert hello.properties.get(Property.TOPIC_ALIAS_MAXIMUM, 0) == 0


def test_what_comes_in_one_piece_with_connack_is_not_lost(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, values: Values
) -> None:
    """Messages of a resumed session follow CONNACK directly, before paho has handled it."""
    new_bridge({"t": topic}).start()
    with broker.connection() as connection:
        with connection.one_segment():
            connection.connack(session_present=True)
            for identifier in range(1, 14):
                connection.publish(b"t", b"%d" % identifier, qos=1, identifier=identifier)
        connection.expect_pubacks(range(1, 14))
    assert values(topic) == [b"%d" % number for number in range(1, 14)]


def test_connack_may_take_longer_than_the_keepalive(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """While one EMQ node hangs, the other's CONNACK takes 60 s; paho would give up at the keepalive."""
    tcp = {"keepalive_idle": "1s", "keepalive_interval": "1s", "keepalive_count": 1}
    bridge = new_bridge({"t": topic}, {"keepalive": "4s", "tcp": tcp})
    bridge.start()
    with broker.connection() as connection:
        connection.expect_silence(7.0)
        connection.connack()
        bridge.wait_live()
        connection.expect_pings(1)
        assert len(broker.connects) == 1  # the end of the block ends the connection


def test_a_broker_on_ipv6(new_bridge_to: NewBridge, topic: str) -> None:
    with ScriptedBroker("::1") as broker:
        bridge = new_bridge_to(broker, {"t": topic})
        bridge.start()
        with broker.connection() as connection:
            connection.connack()
            bridge.wait_live()


def test_no_connack_at_all_is_left_after_its_timeout(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    bridge = new_bridge({"t": topic}, {"connack_timeout": "5s"})
    bridge.start()
    with bridge.log_contains("mqtt.connack_timeout"):
        assert broker.next_connection().expect_end() == "closed by the bridge"
    broker.wait_connects(2)


def test_the_broker_may_ask_for_a_shorter_keepalive(broker: ScriptedBroker, running: BridgeProcess) -> None:
    """MQTT 5, 3.2.2.3.14: the client must use CONNACK's keepalive, or the broker ends the connection."""
    with broker.connection() as connection:
        connection.connack(properties={Property.SERVER_KEEP_ALIVE: 2})
        connection.expect_pings(2, deadline=8)


@pytest.mark.parametrize(
    "data", ["20 00", "20 01 00", "20 02 01 00", "20 05 00 00 02 7e 00", "20 03 00 7e 00"]
)
def test_a_connack_that_makes_no_sense(data: str, broker: ScriptedBroker, running: BridgeProcess) -> None:
    with broker.connection() as connection:
        connection.send(bytes.fromhex(data))
        connection.expect_end()
    with broker.always(lambda connection: connection.connack()):
        running.wait_live()


@pytest.mark.parametrize("reason", [BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED])
def test_bad_credentials_are_retried_slowly(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, reason: int
) -> None:
    """No tight loop, no exit, and recovery without a restart."""
    reconnect = {"min_delay": "50ms", "max_delay": "200ms", "refused_delay": "2s"}
    bridge = new_bridge({"t": topic}, {"username": "u", "reconnect": reconnect})
    with broker.always(lambda connection: connection.connack(reason=reason)):
        bridge.start()
        refused = bridge.wait_for("mqtt.refused")
        assert refused["level"] == "error"
        assert refused["way_out"]
        broker.wait_connects(3)
    pauses = [after - before for before, after in zip(broker.connects, broker.connects[1:], strict=False)]
    assert min(pauses) >= 0.9
    assert bridge.alive
    with broker.connection() as connection:
        connection.connack()
        bridge.wait_live()


def test_credentials_of_3_1_1_are_retried_slowly_too(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    reconnect = {"min_delay": "50ms", "max_delay": "200ms", "refused_delay": "2s"}
    bridge = new_bridge({"t": topic}, {"protocol": "3.1.1", "username": "u", "reconnect": reconnect})
    with broker.always(lambda connection: connection.connack(reason=4)):
        bridge.start()
        assert bridge.wait_for("mqtt.refused")["way_out"]
        broker.wait_connects(2)
    assert broker.connects[1] - broker.connects[0] >= 0.9


def test_a_broker_that_is_busy_is_tried_again_soon(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """CONNACK 3 of MQTT 3.1.1, server unavailable: goes away without an operator."""
    bridge = new_bridge({"t": topic}, {"protocol": "3.1.1"})
    bridge.start()
    with broker.connection() as connection:
        connection.connack(reason=3)
    bridge.wait_for("mqtt.unavailable")
    with broker.connection(deadline=3) as again:
        again.connack()
        bridge.wait_live()
    assert not bridge.entries("mqtt.refused")


def test_a_balancer_with_no_broker_behind_is_not_hammered(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """HAProxy accepts and closes. The bridge retries at once, then with delays that grow to their limit."""
    reconnect = {"min_delay": "200ms", "max_delay": "1s"}
    bridge = new_bridge({"t": topic}, {"protocol": "5", "reconnect": reconnect})
    with broker.always(lambda connection: connection.reset()):
        bridge.start()
        bridge.wait_for("mqtt.unavailable")
        began = time.monotonic()
        broker.wait_connects(len(broker.connects) + 10, deadline=30)
    assert time.monotonic() - began > 1.0  # full jitter: up to 1 s each, half of it on average
    with broker.connection() as connection:
        connection.connack()
        bridge.wait_live()


def test_a_lost_session_is_said(broker: ScriptedBroker, new_bridge: NewBridge, topic: str) -> None:
    bridge = new_bridge({"t": topic})
    bridge.start()
    with broker.connection() as first:
        first.connack()
        bridge.wait_live()
        assert not bridge.entries("mqtt.session_lost"), "a first connection expects no session"
    with bridge.log_contains("mqtt.session_lost", level="warning"), broker.connection() as second:
        second.connack(session_present=False)
        second.expect_subscribe()


def test_a_session_that_was_lost_while_the_bridge_was_down_is_said(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    bridge = new_bridge({"t": topic})
    bridge.start()
    with broker.connection() as first:
        first.connack()
        bridge.wait_live()
        bridge.terminate()
    bridge.start()
    with broker.connection() as second:
        second.connack(session_present=False)
        bridge.wait_for("mqtt.session_lost")


# -- another client takes the client id -----------------------------------------------------------------


def test_a_take_over_is_said_and_the_bridge_is_back_soon(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """It may have been a tool, for a moment; EMQ's queue fills, or drops, until the bridge is back."""
    bridge = new_bridge({"t": topic})
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        bridge.wait_live()
        connection.disconnect(SESSION_TAKEN_OVER)
    assert "client_id" in bridge.wait_for("mqtt.taken_over", level="error")["way_out"]
    broker.wait_connects(2, deadline=3)


def test_who_is_taken_over_again_backs_off(broker: ScriptedBroker, new_bridge: NewBridge, topic: str) -> None:
    """No tug of war: whoever comes back at once throws the other one out again."""
    reconnect = {"min_delay": "50ms", "max_delay": "200ms", "refused_delay": "2s"}
    bridge = new_bridge({"t": topic}, {"reconnect": reconnect})
    bridge.start()
    for _ in range(2):
        with bridge.log_contains("mqtt.live"):
            connection = broker.next_connection()
            connection.connack(session_present=True)
        with bridge.log_contains("mqtt.taken_over"):
            connection.disconnect(SESSION_TAKEN_OVER)
    thrown_out = time.monotonic()
    broker.wait_connects(3)
    assert time.monotonic() - thrown_out > 0.5


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_twin_is_seen_by_its_pattern_where_the_broker_says_nothing(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, protocol: str
) -> None:
    """mosquitto before 2.1 closes without DISCONNECT, on MQTT 5 too."""
    bridge = new_bridge({"t": topic}, {"protocol": protocol})
    bridge.start()
    for _ in range(3):
        with bridge.log_contains("mqtt.live"):
            connection = broker.next_connection()
            connection.connack(session_present=True)
        connection.close()
    assert "closed 3 times in a row" in bridge.wait_for("mqtt.taken_over")["evidence"]
    for closed in bridge.entries("mqtt.closed"):
        assert closed["reason"] == "the peer closed the connection (FIN), without DISCONNECT"
