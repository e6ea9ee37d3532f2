"""bridge check: prints a line for each link of the chain, and how to repair a broken link."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.commands.check import check
from bridge.settings import Settings
from tests.harness.brokers import Brokers
from tests.harness.haproxy import SUBSCRIBER, HAProxy
from tests.harness.kafka import KafkaCluster

Look = Callable[..., tuple[bool, list[str]]]


@pytest.fixture
def look(haproxy: HAProxy, kafka: KafkaCluster, new_topic: Callable[..., str]) -> Look:
    """look(mqtt={...}, kafka={...}, topic=...): returns whether all links are good, and the lines."""
    there = new_topic()

    def run(
        topic: str = there, mqtt: dict[str, object] | None = None, **brokers: str
    ) -> tuple[bool, list[str]]:
        lines: list[str] = []
        session = {"host": haproxy.host.address, "port": SUBSCRIBER, **(mqtt or {})}
        settings = Settings(
            mqtt=session,
            kafka={"bootstrap_servers": kafka.bootstrap, **brokers},
            routes=[
                {"name": "fixed", "filter": "a/+", "topic": topic},
                {"name": "made", "filter": "b/{x}", "topic": "made.{x}"},
            ],
        )
        return check(settings, "test-check", lines.append), lines

    return run


def test_a_whole_chain_has_a_good_line_for_each_link(
    look: Look, haproxy: HAProxy, kafka: KafkaCluster
) -> None:
    whole, lines = look()
    assert whole
    assert [line.split()[:2] for line in lines] == [
        ["good", name]
        for name in ("name", "HAProxy", "EMQ", "subscription", "subscription", "Kafka", "topic")
    ] + [["note", "topic"]]
    assert lines[2].endswith("CONNACK, MQTT 5")
    assert "3 brokers: " in lines[5]


@pytest.mark.parametrize(
    ("mqtt", "said"),
    [
        pytest.param(
            {"host": "nobody.invalid"}, "FAILED  name          nobody.invalid does not resolve", id="name"
        ),
        pytest.param({"port": 1}, ":1: Connection refused (does HAProxy run there", id="port"),
        pytest.param({"protocol": "3.1.1"}, "", id="an older MQTT is fine"),
    ],
)
def test_the_link_that_breaks_is_named_and_kafka_is_looked_at_all_the_same(
    look: Look, mqtt: dict[str, object], said: str
) -> None:
    whole, lines = look(mqtt=mqtt)
    assert whole == (not said)
    assert any(said in line for line in lines), lines
    assert lines[-2].startswith("good    topic")
    assert lines[-1].startswith("note    topic         made.{x}: not checked")


def test_no_emq_node_is_up_behind_haproxy(look: Look, emq: Brokers, haproxy: HAProxy) -> None:
    with emq.node(1).dead(), emq.node(2).dead():
        for number in (1, 2):
            haproxy.wait_state(number, "DOWN")
        whole, lines = look()
    assert not whole
    assert (
        "FAILED  EMQ           closed before CONNACK, which HAProxy does while no EMQ node is up" in lines[2]
    )


def test_a_topic_that_does_not_exist_comes_with_the_command_that_creates_it(look: Look) -> None:
    whole, lines = look(topic="nobody.made.this")
    assert not whole
    assert "FAILED  topic         nobody.made.this does not exist (kafka-topics.sh" in lines[-1]


def test_kafka_is_not_there(look: Look) -> None:
    whole, lines = look(bootstrap_servers="127.0.0.1:1")
    assert not whole
    assert lines[-1].startswith("FAILED  Kafka         127.0.0.1:1: ")
    assert "do the brokers run" in lines[-1]


def test_nothing_of_it_stays_at_the_broker(look: Look, tmp_path: Path) -> None:
    assert look()[0]
    assert look()[0], "the second check finds no session, and no rival"
