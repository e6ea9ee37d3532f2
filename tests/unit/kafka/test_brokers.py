"""Which brokers are up, from librdkafka's statistics; by its own mock cluster, and by what it may say."""

import json

from confluent_kafka import Producer

from bridge.kafka.brokers import Brokers
from tests.harness.conditions import wait_until


def _statistics(*brokers: tuple[int, str]) -> str:
    each = {
        f"b{number}:9092/{number}": {
            "name": f"b{number}:9092/{number}",
            "nodeid": number,
            "nodename": f"b{number}:9092",
            "state": state,
            "rtt": {"p99": 2500, "cnt": 4},
        }
        for number, state in brokers
    }
    return json.dumps({"name": "x", "brokers": each, "topics": {"t": {}}}, separators=(",", ":"))


def test_librdkafka_names_the_brokers_that_are_up() -> None:
    brokers = Brokers()
    producer = Producer(
        {
            "bootstrap.servers": "mock",
            "test.mock.num.brokers": 3,
            "statistics.interval.ms": 50,
            "stats_cb": brokers.take,
        }
    )
    for number in range(80):  # the mock cluster chooses leaders at random
        producer.produce(f"topic{number // 4}", b"x", partition=number % 4)

    def are_up() -> bool:
        producer.poll(0.1)
        return len([broker for broker in brokers.known if broker.is_up]) == 3

    wait_until(are_up, 20.0, lambda: f"three brokers are up: {brokers.known}")
    assert [broker.number for broker in brokers.known] == [1, 2, 3]
    assert all(broker.address.startswith("127.0.0.1:") for broker in brokers.known)
    assert brokers.any_up


def test_a_broker_that_is_gone_keeps_its_name() -> None:
    brokers = Brokers()
    brokers.take(_statistics((1, "UP"), (2, "UP"), (-1, "UP")))
    brokers.take(_statistics((1, "UP"), (2, "TRY_CONNECT"), (-1, "DOWN")))
    assert [(each.number, each.is_up, each.address) for each in brokers.known] == [
        (1, True, "b1:9092"),
        (2, False, "b2:9092"),
    ]
    assert brokers.known[0].round_trip_p99 == 0.0025
    assert brokers.any_up
    brokers.take(_statistics((1, "DOWN"), (2, "DOWN")))
    assert not brokers.any_up
    assert brokers.ever_up


def test_a_broker_without_a_connection_is_what_it_was() -> None:
    brokers = Brokers()
    brokers.take(_statistics((1, "UP"), (2, "INIT")))
    assert [each.number for each in brokers.known] == [1]  # nothing is known of 2
    brokers.take(_statistics((1, "INIT"), (2, "UP")))
    assert [each.is_up for each in brokers.known] == [True, True]


def test_an_unknown_format_changes_nothing() -> None:
    brokers = Brokers()
    brokers.take(_statistics((1, "UP")))
    for text in ("", "{}", '{"brokers":[]}', '{"brokers":{"a":{}}}', '{"brokers":{"a":'):
        brokers.take(text)
    assert [each.number for each in brokers.known] == [1]
