"""Overlapping filters: a broker may send one copy per subscription; the bridge produces one record."""

import pytest

from tests.harness.fields import Property
from tests.harness.scripted import ScriptedBroker
from tests.integration.scripted.conftest import NewBridge, Values


def routes(topic: str) -> list[dict[str, str]]:
    """Two filters that overlap, neither covers the other; house/kitchen/temp belongs to the first."""
    return [
        {"name": "kitchen", "filter": "house/kitchen/+", "topic": topic},
        {"name": "temperature", "filter": "house/+/temp", "topic": topic},
    ]


def test_of_several_copies_only_the_first_routes_is_produced(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, values: Values
) -> None:
    """Like mosquitto: one copy per Subscription Identifier, in any order."""
    bridge = new_bridge(routes(topic), {"protocol": "5"})
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        identifiers = {}
        for _ in range(2):
            subscribe = connection.expect_subscribe()
            (identifier,) = subscribe.properties[Property.SUBSCRIPTION_IDENTIFIER]
            identifiers[subscribe.filters[0].filter] = identifier
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
        both = [
            connection.expect_subscribe().properties[Property.SUBSCRIPTION_IDENTIFIER][0] for _ in range(2)
        ]
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
