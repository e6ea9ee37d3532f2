"""Overlapping filters: a broker may send one copy per subscription; the bridge produces one record."""

import pytest

from tests.harness.fields import Property
from tests.harness.packets import Subscribe
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.integration.scripted.conftest import NewBridge, Values

NOT_AUTHORIZED = 0x87


def routes(topic: str) -> list[dict[str, str]]:
    """Two filters that overlap, neither covers the other; house/kitchen/temp belongs to the first."""
    return [
        {"name": "kitchen", "filter": "house/kitchen/+", "topic": topic},
        {"name": "temperature", "filter": "house/+/temp", "topic": topic},
    ]


def subscribed(connection: Connection) -> dict[str, int]:
    """The identifiers, by filter, once both filters were granted without."""
    first = connection.expect_subscribe()
    assert len(first.filters) == 2
    assert Property.SUBSCRIPTION_IDENTIFIER not in first.properties
    identifiers = {}
    for _ in range(2):
        subscribe = connection.expect_subscribe()
        (identifier,) = subscribe.properties[Property.SUBSCRIPTION_IDENTIFIER]
        identifiers[subscribe.filters[0].filter] = identifier
    return identifiers


def publish_copy(connection: Connection, payload: bytes, number: int, *identifiers: int) -> None:
    """A copy of house/kitchen/temp that these subscriptions bring."""
    properties = {Property.SUBSCRIPTION_IDENTIFIER: list(identifiers)} if identifiers else {}
    connection.publish(b"house/kitchen/temp", payload, qos=1, identifier=number, properties=properties)


def test_of_several_copies_only_the_first_routes_is_produced(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, values: Values
) -> None:
    """Like mosquitto: one copy per Subscription Identifier, in any order."""
    bridge = new_bridge(routes(topic), {"protocol": "5"})
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        identifiers = subscribed(connection)
        assert len(set(identifiers.values())) == 2
        bridge.wait_live()

        copies = ["house/+/temp", "house/kitchen/+"]
        for number, name in enumerate(copies, 1):
            connection.publish(
                b"house/kitchen/temp",
                b"copy %d" % number,
                qos=1,
                identifier=number,
                properties={Property.SUBSCRIPTION_IDENTIFIER: [identifiers[name]]},
            )
        connection.publish(
            b"house/cellar/temp",
            b"cellar",
            qos=1,
            identifier=3,
            properties={Property.SUBSCRIPTION_IDENTIFIER: [identifiers["house/+/temp"]]},
        )
        connection.expect_pubacks([1, 2, 3])
    assert values(topic) == [b"copy 2", b"cellar"]


def test_one_copy_that_names_both_subscriptions_is_produced_once(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, values: Values
) -> None:
    """EMQX and HiveMQ may send such a copy."""
    bridge = new_bridge(routes(topic), {"protocol": "5"})
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        both = list(subscribed(connection).values())
        bridge.wait_live()
        connection.publish(
            b"house/kitchen/temp",
            b"x",
            qos=1,
            identifier=1,
            properties={Property.SUBSCRIPTION_IDENTIFIER: both},
        )
        connection.expect_puback(1)
    assert values(topic) == [b"x"]


def refuses_kitchen(subscribe: Subscribe) -> list[int]:
    return [NOT_AUTHORIZED if "kitchen" in each.filter else each.qos for each in subscribe.filters]


def test_a_copy_that_comes_before_the_refusal_is_produced(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, values: Values
) -> None:
    """The first route's copy will never come, for the broker refuses its subscription."""
    bridge = new_bridge(routes(topic), {"protocol": "5"})
    bridge.start()
    with broker.connection() as connection:
        connection.answers_subscribe = False
        connection.connack()
        asked = {}  # identifiers, by filter
        first = connection.expect_subscribe()
        waiting = [first]
        if len(first.filters) == 1:
            waiting.append(connection.expect_subscribe())
        for subscribe in waiting:
            for each in subscribe.filters:
                asked[each.filter] = subscribe.properties.get(Property.SUBSCRIPTION_IDENTIFIER, [])
        publish_copy(connection, b"before", 1, *asked["house/+/temp"])
        for subscribe in waiting:
            connection.suback(subscribe, *refuses_kitchen(subscribe))
        bridge.wait_for("mqtt.subscribe_refused", filter="house/kitchen/+")
        connection.answers_subscribe = True
        connection.expect_puback(1)
    assert values(topic) == [b"before"]


def test_a_copy_waits_for_the_answer_of_a_resumed_session_too(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, values: Values
) -> None:
    """The rights of the first route's filter were taken away while the bridge was not connected."""
    bridge = new_bridge(routes(topic), {"protocol": "5"})
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        identifiers = subscribed(connection)
        bridge.wait_live()
    with broker.connection():
        pass  # a balancer without a node: so no other client had the session
    for refused in (False, True):
        with broker.connection() as resumed:
            resumed.answers_subscribe = False
            resumed.connack(session_present=True)
            asked = [resumed.expect_subscribe() for _ in range(2)]
            publish_copy(resumed, b"refused" if refused else b"granted", 1, identifiers["house/+/temp"])
            resumed.expect_silence(0.5)
            resumed.answers_subscribe = True
            for each in asked:
                resumed.suback(each, *(refuses_kitchen(each) if refused else [1]))
            resumed.expect_puback(1)
        with broker.connection():
            pass
    assert values(topic) == [b"refused"]


def test_a_filter_that_covers_another_is_subscribed_alone(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, values: Values
) -> None:
    """MQTT 3.1.1 has no Subscription Identifiers, so only one subscription may match a topic."""
    bridge = new_bridge({"a/b": topic, "a/#": topic}, {"protocol": "3.1.1"})
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        assert [each.filter for each in connection.expect_subscribe().filters] == ["a/#"]
        bridge.wait_live()
        connection.publish(b"a/b", b"x", qos=1, identifier=1)
        connection.expect_puback(1)
    assert values(topic) == [b"x"]


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_overlaps_that_only_mqtt_5_can_tell_apart_are_refused_at_start(
    protocol: str, new_bridge: NewBridge, topic: str
) -> None:
    bridge = new_bridge(routes(topic), {"protocol": protocol})
    with pytest.raises(RuntimeError, match=r'ended with 2(?s:.)*"kitchen" and "temperature"'):
        bridge.start()
