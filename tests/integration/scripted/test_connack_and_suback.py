"""How a session comes up: CONNACK, SUBACK, what is on record, and which MQTT is spoken."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.fields import Property
from tests.harness.packets import Subscribe
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection

NewBridge = Callable[..., BridgeProcess]
Values = Callable[[str], list[bytes]]

MALFORMED_PACKET = 0x81
UNSUPPORTED_PROTOCOL_VERSION = 0x84
BAD_USER_NAME_OR_PASSWORD = 0x86
NOT_AUTHORIZED = 0x87
SESSION_TAKEN_OVER = 0x8E


def filters(subscribe: Subscribe) -> dict[str, int]:
    return {each.filter: each.qos for each in subscribe.filters}


# -- CONNECT and CONNACK -----------------------------------------------------------------------------------


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
        assert hello.properties.get(Property.TOPIC_ALIAS_MAXIMUM, 0) == 0


def test_retained_messages_are_asked_for_only_by_a_new_subscription(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    new_bridge({"t": topic}).start()
    with broker.connection() as connection:
        connection.connack()
        assert [each.retain_handling for each in connection.expect_subscribe().filters] == [1]


def test_what_comes_in_one_piece_with_connack_is_not_lost(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, values: Values
) -> None:
    """A resumed session's messages stand right behind CONNACK, before paho has seen it."""
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
    """While one EMQ node hangs, the other one's CONNACK takes 60 s; paho would give up at the keepalive."""
    tcp = {"keepalive_idle": "1s", "keepalive_interval": "1s", "keepalive_count": 1}
    bridge = new_bridge({"t": topic}, {"keepalive": "4s", "tcp": tcp})
    bridge.start()
    with broker.connection() as connection:
        connection.expect_silence(7.0)
        connection.connack()
        bridge.wait_live()
        connection.expect_pings(1)
    assert len(broker.connects) == 1


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


@pytest.mark.parametrize("reason", [BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED])
def test_bad_credentials_are_retried_slowly(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, reason: int
) -> None:
    """Never a tight loop, never an exit, and cured without a restart."""
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
    """CONNACK 3 of MQTT 3.1.1, server unavailable: time cures it, nobody has to act."""
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
    """HAProxy accepts and closes. The first try is at once, then delays grow to their limit."""
    reconnect = {"min_delay": "200ms", "max_delay": "1s"}
    bridge = new_bridge({"t": topic}, {"protocol": "5", "reconnect": reconnect})
    with broker.always(lambda connection: connection.reset()):
        bridge.start()
        bridge.wait_for("mqtt.unavailable")
        began = time.monotonic()
        broker.wait_connects(8, deadline=30)
    assert time.monotonic() - began > 1.0  # full jitter: 0.1 + 0.2 + 0.4 + 0.5 + ... s on average
    with broker.connection() as connection:
        connection.connack()
        bridge.wait_live()


def test_a_lost_session_is_said(broker: ScriptedBroker, new_bridge: NewBridge, topic: str) -> None:
    bridge = new_bridge({"t": topic})
    bridge.start()
    with broker.connection() as first:
        first.connack()
        bridge.wait_live()
        assert not bridge.entries("mqtt.session_lost"), "a first session was never expected"
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


# -- SUBSCRIBE and SUBACK ----------------------------------------------------------------------------------


def test_a_resumed_session_with_known_filters_gets_no_subscribe(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """It would bring all retained messages again. Known over a restart of the bridge, too."""
    bridge = new_bridge({"t": topic})
    bridge.start()
    with broker.connection() as first:
        first.connack()
        first.expect_subscribe()
        bridge.wait_live()
    for restarted in (False, True):
        if restarted:
            bridge.kill9()
            bridge.start()
        with broker.connection() as again, bridge.log_contains("mqtt.live"):
            again.connack(session_present=True)
            again.expect_silence(0.3)


def test_a_death_before_suback_is_followed_by_subscribe(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """Else the session would be present and subscribed to nothing, for ever."""
    bridge = new_bridge({"t": topic})
    bridge.start()
    first = broker.next_connection()
    first.answers_subscribe = False
    first.connack()
    first.expect_subscribe()
    bridge.kill9()
    bridge.start()
    with broker.connection() as second:
        second.connack(session_present=True)
        assert filters(second.expect_subscribe()) == {"t": 2}
        bridge.wait_live()


def test_a_lost_session_forgets_its_filters_before_it_subscribes_again(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """Known filters, session lost, killed before SUBACK: the record of the old session must be gone."""
    bridge = new_bridge({"t": topic})
    bridge.start()
    with broker.connection() as first:
        first.connack()
        bridge.wait_live()
    second = broker.next_connection()
    second.answers_subscribe = False
    second.connack(session_present=False)
    second.expect_subscribe()
    bridge.kill9()
    bridge.start()
    with broker.connection() as third:
        third.connack(session_present=True)
        third.expect_subscribe()


def test_a_filter_that_the_settings_dropped_is_taken_off_the_session(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, tmp_path: Any
) -> None:
    bridge = new_bridge({"a/#": topic, "b": topic})
    bridge.start()
    with broker.connection() as first:
        first.connack()
        bridge.wait_live()
        bridge.terminate()
    bridge.settings.write_text(bridge.settings.read_text().replace('"a/#"', '"c"'))
    bridge.start()
    with broker.connection() as second:
        second.connack(session_present=True)
        assert filters(second.expect_subscribe()) == {"c": 2}
        assert second.expect_unsubscribe().filters == ("a/#",)
        bridge.wait_for("mqtt.unsubscribed")


def test_a_refused_filter_leaves_the_others_working(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, values: Values
) -> None:
    reconnect = {"min_delay": "50ms", "max_delay": "200ms", "refused_delay": "2s"}
    bridge = new_bridge({"good": topic, "secret": topic}, {"reconnect": reconnect})
    bridge.start()
    with broker.connection() as connection:
        connection.grants = lambda subscribe: [
            NOT_AUTHORIZED if each.filter == "secret" else each.qos for each in subscribe.filters
        ]
        connection.connack()
        connection.expect_subscribe()
        refused = bridge.wait_for("mqtt.subscribe_refused", filter="secret")
        assert refused["way_out"]
        bridge.wait_live()
        connection.publish(b"good", b"x", qos=1, identifier=1)
        connection.expect_puback(1)

        asked = time.monotonic()
        again = connection.expect_subscribe()  # slowly, and only what was refused
        assert filters(again) == {"secret": 2}
        assert time.monotonic() - asked > 0.5
        connection.grants = lambda subscribe: [each.qos for each in subscribe.filters]
        connection.expect_subscribe()
        connection.publish(b"secret", b"y", qos=1, identifier=2)
        connection.expect_puback(2)
    assert values(topic) == [b"x", b"y"]


def test_a_refused_filter_on_3_1_1(broker: ScriptedBroker, new_bridge: NewBridge, topic: str) -> None:
    bridge = new_bridge({"good": topic, "secret": topic}, {"protocol": "3.1.1"})
    bridge.start()
    with broker.connection() as connection:
        connection.grants = lambda subscribe: [
            0x80 if each.filter == "secret" else each.qos for each in subscribe.filters
        ]
        connection.connack()
        bridge.wait_for("mqtt.subscribe_refused", filter="secret")
        bridge.wait_live()


# -- the client id is taken by somebody else -----------------------------------------------------------------


def test_a_take_over_is_said_and_backed_off(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """No tug of war: whoever comes back at once throws the other one out again."""
    reconnect = {"min_delay": "50ms", "max_delay": "200ms", "refused_delay": "2s"}
    bridge = new_bridge({"t": topic}, {"reconnect": reconnect})
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        bridge.wait_live()
        connection.disconnect(SESSION_TAKEN_OVER)
    assert "client_id" in bridge.wait_for("mqtt.taken_over", level="error")["way_out"]
    thrown_out = time.monotonic()
    broker.wait_connects(2)
    assert time.monotonic() - thrown_out > 0.5


def test_a_take_over_on_3_1_1_is_seen_by_its_pattern(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    bridge = new_bridge({"t": topic}, {"protocol": "3.1.1"})
    bridge.start()

    def accept_and_close(connection: Connection) -> None:
        connection.connack(session_present=True)

    for _ in range(3):
        connection = broker.next_connection()
        accept_and_close(connection)
        wait_until(lambda: bridge.entries("mqtt.live"), 10, "it is live")
        connection.close()
    bridge.wait_for("mqtt.taken_over")


# -- which MQTT --------------------------------------------------------------------------------------------


def speaks_only_3_1_1(answer: Callable[[Connection], None]) -> Callable[[Connection], None]:
    """A broker that answers MQTT 5 so, and 3.1.1 as it should."""

    def script(connection: Connection) -> None:
        if connection.version == 5:
            answer(connection)
        else:
            connection.connack()

    return script


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: connection.connack(reason=UNSUPPORTED_PROTOCOL_VERSION),
        lambda connection: connection.send(bytes.fromhex("20020001")),
        lambda connection: connection.reset(),
    ],
    ids=["CONNACK 0x84", "CONNACK 1 as of 3.1.1", "just closes"],
)
def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, answer: Callable[[Connection], None]
) -> None:
    """EMQ 2.x of the founding document answers; RabbitMQ 3.10 just closes."""
    bridge = new_bridge({"t": topic})
    with broker.always(speaks_only_3_1_1(answer)):
        bridge.start()
        live = bridge.wait_live()
        assert live["protocol"] == "3.1.1"
        assert bridge.entries("mqtt.protocol_fallback")
        assert broker.hellos[-1].version == 4
        assert not broker.hellos[-1].clean_start


def test_a_broker_that_was_away_is_not_taken_for_an_old_one(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """HAProxy closes too when no EMQ is up; a session resumed in 3.1.1 would lose what MQTT 5 carries."""
    bridge = new_bridge({"t": topic})
    with broker.always(lambda connection: connection.reset()):
        bridge.start()
        broker.wait_connects(5)
    with broker.always(lambda connection: connection.connack()):
        assert bridge.wait_live()["protocol"] == "5"


def test_mqtt_5_alone_can_be_asked_for(broker: ScriptedBroker, new_bridge: NewBridge, topic: str) -> None:
    bridge = new_bridge({"t": topic}, {"protocol": "5"})
    with broker.always(lambda connection: connection.connack(reason=UNSUPPORTED_PROTOCOL_VERSION)):
        bridge.start()
        assert "mqtt.protocol" in bridge.wait_for("mqtt.refused")["way_out"]
    assert {hello.version for hello in broker.hellos} == {5}
