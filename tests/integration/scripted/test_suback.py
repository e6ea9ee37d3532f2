"""Which filters the bridge subscribes, records and, after a refusal, tries again."""

import time
from typing import Any

from tests.harness.packets import Subscribe
from tests.harness.scripted import ScriptedBroker
from tests.integration.scripted.conftest import NewBridge, Values

NOT_AUTHORIZED = 0x87


def filters(subscribe: Subscribe) -> dict[str, int]:
    return {each.filter: each.qos for each in subscribe.filters}


def test_retained_messages_are_asked_for_only_by_a_new_subscription(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    new_bridge({"t": topic}).start()
    with broker.connection() as connection:
        connection.connack()
        assert [each.retain_handling for each in connection.expect_subscribe().filters] == [1]


def test_a_resumed_session_is_subscribed_again_on_mqtt_5(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """Whatever is on record here: the broker alone knows what its session is subscribed to."""
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
            again.answers_subscribe = False
            again.connack(session_present=True)
            subscribe = again.expect_subscribe()
            assert [each.retain_handling for each in subscribe.filters] == [1]
            again.expect_silence(0.3)
            again.suback(subscribe, 2)


def test_a_resumed_session_on_3_1_1_is_left_alone_after_a_balancer_was_away(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """SUBSCRIBE would bring all retained messages again: only after a start, or a close by a broker."""
    bridge = new_bridge({"t": topic}, {"protocol": "3.1.1"})
    bridge.start()
    with broker.connection() as first:
        first.connack(session_present=True)
        first.expect_subscribe()
        bridge.wait_live()
    with broker.connection():
        pass  # a balancer without a node
    with broker.connection() as again, bridge.log_contains("mqtt.live"):
        again.connack(session_present=True)
        again.expect_silence(0.3)
    with broker.connection() as at_once, bridge.log_contains("mqtt.live"):
        at_once.connack(session_present=True)
        at_once.expect_subscribe()
    bridge.kill9()
    bridge.start()
    with broker.connection() as started, bridge.log_contains("mqtt.live"):
        started.connack(session_present=True)
        started.expect_subscribe()


def test_a_death_before_suback_is_followed_by_subscribe(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """Otherwise the session would be present, but without subscriptions, for ever."""
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
    """The session is lost, and the bridge killed before SUBACK: the old record must be gone."""
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
        assert filters(second.expect_subscribe()) == {"b": 2, "c": 2}
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
        again = connection.expect_subscribe()  # slowly, and only for refused filters
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


def test_a_suback_that_never_comes(broker: ScriptedBroker, new_bridge: NewBridge, topic: str) -> None:
    """The broker answers only pings: the bridge is connected, but no message would ever come."""
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
