"""The question to many brokers at once; librdkafka's mock cluster, and sockets that answer or do not."""

import socket
import time
from collections.abc import Iterator
from threading import active_count
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.kafka.broker_watch import BrokerWatch, reach
from bridge.kafka.brokers import Brokers, Reach
from bridge.kafka.listeners import addresses
from bridge.kafka.producer import Producer
from bridge.settings import KafkaSettings
from tests.harness.mock_kafka import QUIET, MockKafka


@pytest.fixture
def mute() -> Iterator[str]:
    """Accepts connections and never answers: the kernel does so for a process that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("tls", [False, True])
def test_each_address_tells_whether_a_broker_answers_hangs_or_is_away(
    mute: str, refusing: str, *, tls: bool
) -> None:
    kafka = MockKafka(1)
    began = time.monotonic()
    found = reach([kafka.bootstrap, mute, refusing, "no.such.host.invalid:1"], tls=tls, timeout=1.0)
    assert time.monotonic() - began < 10.0
    assert found.pop(kafka.bootstrap) in ((Reach.HANGS, Reach.AWAY) if tls else (Reach.ANSWERS,))
    assert found == {mute: Reach.HANGS, refusing: Reach.AWAY, "no.such.host.invalid:1": Reach.AWAY}


def _producer(bootstrap: str) -> Producer:
    return Producer({"bootstrap.servers": bootstrap, **QUIET}, wake=lambda: None, on_error=lambda *_: None)


def test_thirty_brokers_of_which_three_are_needed_are_all_up_and_cost_one_question(refusing: str) -> None:
    kafka = MockKafka(30)
    kafka.create_topic("t", 1)
    bootstrap = ",".join([*kafka.bootstrap.split(",")[:3], refusing])
    brokers = Brokers(addresses(bootstrap))
    watch = BrokerWatch(KafkaSettings(bootstrap_servers=bootstrap), brokers)
    watch.use_topic("t")
    producer = _producer(bootstrap)
    try:
        for _ in range(3):
            watch.ask(producer)
        assert [each.number for each in brokers.known if each.is_up] == list(range(1, 31))
        assert [each.address for each in brokers.known if not each.is_up] == [refusing]
        before = active_count()
        watch.ask(producer)
        assert active_count() == before
    finally:
        producer.close()


def test_a_closed_producer_is_not_asked() -> None:
    kafka = MockKafka(1)
    brokers = Brokers(addresses(kafka.bootstrap))
    watch = BrokerWatch(KafkaSettings(bootstrap_servers=kafka.bootstrap), brokers)
    producer = _producer(kafka.bootstrap)
    producer.close()
    for _ in range(2):
        watch.ask(producer)
        assert not brokers.any_up
    watch.ask(None)
    assert brokers.taken_at


def test_a_removed_broker_is_forgotten_although_its_topic_is_watched_no_more() -> None:
    class Asked:
        queued = 0

        def metadata(self, topic: str, _: float) -> SimpleNamespace:
            partition = SimpleNamespace(leader=1, isrs=[1], replicas=[1, 4] if topic == "old" else [1])
            told = SimpleNamespace(error=None, partitions={0: partition})
            broker = SimpleNamespace(host="127.47.0.1", port=1)
            return SimpleNamespace(brokers={1: broker}, topics={topic: told})

    brokers = Brokers()
    watch = BrokerWatch(KafkaSettings(bootstrap_servers="127.47.0.1:1"), brokers)
    asked: Any = Asked()
    watch.use_topic("old")
    watch.ask(asked)
    assert [each.number for each in brokers.known] == [1, 4]
    for number in range(100):
        watch.use_topic(f"new{number}")
    watch.ask(asked)
    assert [each.number for each in brokers.known] == [1]


def test_a_topic_without_a_leader_is_asked_about_in_every_second_round() -> None:
    asked: list[str] = []
    leaders = {"b": -1}

    class Asked:
        queued = 0

        def metadata(self, topic: str, _: float) -> SimpleNamespace:
            asked.append(topic)
            partition = SimpleNamespace(leader=leaders.get(topic, 1), isrs=[1], replicas=[1])
            told = SimpleNamespace(error=None, partitions={0: partition})
            broker = SimpleNamespace(host="127.47.0.1", port=1)
            return SimpleNamespace(brokers={1: broker}, topics={topic: told})

    brokers = Brokers()
    watch = BrokerWatch(KafkaSettings(bootstrap_servers="127.47.0.1:1"), brokers)
    producer: Any = Asked()
    for topic in "abcd":
        watch.use_topic(topic)
    for _ in range(8):
        watch.ask(producer)
    assert "".join(asked) == "abcbdbab"
    assert [(each.topic, each.has_leader) for each in brokers.stopped] == [("b", False)]
    leaders.clear()
    watch.ask(producer)
    watch.ask(producer)
    assert brokers.stopped == ()
    asked.clear()
    for _ in range(4):
        watch.ask(producer)
    assert sorted(asked) == list("abcd")


def test_a_dead_broker_that_the_metadata_goes_on_to_name_is_found_once_messages_wait(refusing: str) -> None:
    """Kafka without a majority of its controllers; librdkafka needs no connection to the dead broker."""
    kafka = MockKafka(1)
    host, _, port = kafka.bootstrap.partition(":")
    gone, _, gone_port = refusing.partition(":")

    class Asked:
        queued = 0

        def metadata(self, topic: str, _: float) -> SimpleNamespace:
            partition = SimpleNamespace(leader=1, isrs=[1, 2], replicas=[1, 2])
            told = SimpleNamespace(error=None, partitions={0: partition})
            here, there = (
                SimpleNamespace(host=host, port=int(port)),
                SimpleNamespace(host=gone, port=int(gone_port)),
            )
            return SimpleNamespace(brokers={1: here, 2: there}, topics={topic: told})

    brokers = Brokers()
    watch = BrokerWatch(KafkaSettings(bootstrap_servers=kafka.bootstrap), brokers)
    asked: Any = Asked()
    watch.use_topic("t")

    def up() -> list[bool]:
        watch.ask(asked)
        return [each.is_up for each in brokers.known]

    assert [up() for _ in range(3)] == [[True, True]] * 3
    asked.queued = 5
    assert [up() for _ in range(3)] == [[True, True], [True, True], [True, False]]
    asked.queued = 0
    assert [up() for _ in range(3)] == [[True, False]] * 3
