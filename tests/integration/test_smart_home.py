"""docs/how-to/smart-home.md: what each program sends goes where the page says, byte for byte.

The routes are read from the page. All recipes run in one bridge, as the page allows.
"""

import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from paho.mqtt import publish

from bridge.errors import Unroutable
from bridge.routing.router import Router
from bridge.settings import RouteSettings
from tests.artefacts import pages
from tests.artefacts.test_routing_docs import SMART_HOME
from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.records import Record, records
from tests.integration.smart_home import SENT, Sent, everything

RECIPES = {title: (toml, lines.splitlines()) for title, toml, lines in pages.examples(SMART_HOME)}


def routes(*titles: str) -> list[dict[str, Any]]:
    return [route for title in titles for route in tomllib.loads(RECIPES[title][0])["routes"]]


def test_each_recipe_has_messages_and_each_of_its_lines_has_one() -> None:
    assert list(SENT) == list(RECIPES)
    for title, (_, lines) in RECIPES.items():
        shown = {line.partition(" -> ")[0] for line in lines}
        assert shown <= {message.topic for message in SENT[title]}, title


@pytest.fixture
def send(haproxy: HAProxy) -> Callable[[Iterable[Sent]], None]:
    def send(messages: Iterable[Sent]) -> None:
        batch = [message._asdict() for message in messages]
        publish.multiple(batch, hostname=haproxy.host.address, port=DEVICES)

    return send


def wanted(messages: Iterable[Sent]) -> dict[str, list[tuple[bytes, bytes, bytes]]]:
    """MQTT topic, key and value of each record that these messages become, in order, by Kafka topic."""
    router = Router([RouteSettings.model_validate(route) for route in routes(*RECIPES)])
    found = defaultdict(list)
    for message in messages:
        try:
            plan = router.plan(message.topic.encode())
        except Unroutable:
            continue  # nothing subscribes it
        if plan.action == "produce":
            found[plan.kafka_topic].append((message.topic.encode(), plan.key, message.payload))
    return dict(found)


def seen(record: Record) -> tuple[bytes | None, bytes | None, bytes]:
    return record.header("mqtt.topic"), record.key, record.value


@pytest.fixture
def bridge(
    new_bridge: Callable[..., BridgeProcess], kafka: KafkaCluster, emq: Brokers
) -> Iterator[BridgeProcess]:
    """A bridge with all recipes, stopped, and their Kafka topics, empty and with one partition each."""
    topics = wanted(everything())
    there = set(kafka.admin.list_topics(timeout=10).topics)
    for topic in topics:
        if topic in there:
            kafka.delete_topic(topic)
        kafka.create_topic(topic, partitions=1)
    yield new_bridge(routes=routes(*RECIPES))
    for topic in topics:
        kafka.delete_topic(topic)


def all_records(kafka: KafkaCluster, enough: dict[str, list[Any]]) -> dict[str, list[Record]]:
    """The records of all these topics, once each has at least so many."""
    found = {}
    for topic, expected in enough.items():
        wait_until(
            lambda topic=topic, expected=expected: len(records(kafka.bootstrap, topic)) >= len(expected),
            30.0,
            f"{topic} has {len(expected)} records",
        )
        found[topic] = records(kafka.bootstrap, topic)
    return found


def test_what_each_program_sends_arrives_where_the_page_says(
    bridge: BridgeProcess, kafka: KafkaCluster, send: Callable[[Iterable[Sent]], None]
) -> None:
    with bridge:
        send(everything())
        expected = wanted(everything())
        found = all_records(kafka, expected)
    # A publisher's QoS 0 may overtake its QoS 1, so only what arrives is compared, not in which order.
    for topic, messages in expected.items():
        assert sorted(map(seen, found[topic])) == sorted(messages), topic
    (last,) = bridge.entries("service.stopped")
    assert (last["dead_lettered"], last["dropped"], last["in_flight"]) == (0, 0, 0)
    qos = {record.header("mqtt.qos") for record in found["esphome.states"] + found["frigate.events"]}
    assert qos == {b"0"}, "the page says that they publish at QoS 0"
    assert [record.header("mqtt.retained") for record in found["esphome.states"]] == [b"false", b"false"]
    (*_, removed) = found["ha.discovery"]
    assert (removed.key, removed.is_tombstone) == (b"homeassistant/switch/plug1/config", True)


def test_retained_states_come_at_the_first_start_and_not_at_the_next(
    bridge: BridgeProcess, kafka: KafkaCluster, send: Callable[[Iterable[Sent]], None]
) -> None:
    states = [message for message in everything() if message.retain and message.payload]
    send(states)
    expected = wanted(states)
    with bridge:
        found = all_records(kafka, expected)
    for topic, messages in expected.items():
        assert sorted(map(seen, found[topic])) == sorted(messages), topic
        assert {record.header("mqtt.retained") for record in found[topic]} == {b"true"}, topic
    marker = SENT["OwnTracks"][1]
    with bridge:
        send([marker])
        all_records(kafka, wanted([marker]))
    assert {topic: len(records(kafka.bootstrap, topic)) for topic in expected} == {
        topic: len(messages) for topic, messages in expected.items()
    }
