"""One Kafka broker or all are killed, hang or are out of reach while messages are in flight."""

from collections.abc import Callable
from typing import Any

from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.integration.flow import Flow, assert_nothing_lost_or_doubled


def test_a_broker_is_killed_and_started_again(new_flow: Callable[..., Any], kafka: KafkaCluster) -> None:
    with new_flow() as flow:
        with kafka.node(1).dead():
            flow.goes_on()
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def test_a_broker_hangs(new_flow: Callable[..., Any], kafka: KafkaCluster) -> None:
    with new_flow() as flow:
        with kafka.node(2).hung():
            flow.goes_on(deadline=30)
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def test_all_brokers_are_killed_at_once(new_flow: Callable[..., Any], kafka: KafkaCluster) -> None:
    """Each broker reloads the producer's state from its disk: decision 0008."""
    with new_flow(rate=50) as flow:
        for _ in range(3):
            with kafka.all_dead():
                flow.devices.wait_sent(50)
            flow.goes_on()
            flow.catches_up()
    assert_nothing_lost_or_doubled(flow)


def test_kafka_is_out_of_reach_for_30_seconds(new_flow: Callable[..., Any], kafka: KafkaCluster) -> None:
    """At 20 messages a second EMQ's queue of 1,000 holds all messages of that time."""
    with new_flow(rate=20) as flow:
        with kafka.all_hung():
            flow.devices.wait_sent(20 * 30, deadline=60)
        flow.goes_on()
        assert not flow.bridge.entries("mqtt.closed"), "the session must stay up, with PINGREQs"
    assert_nothing_lost_or_doubled(flow)


def test_the_session_outlives_many_keepalives_while_kafka_is_away(
    new_bridge: Callable[..., Any], new_topic: Callable[..., str], kafka: KafkaCluster
) -> None:
    route = {"name": "all", "filter": "sensors/#", "topic": new_topic()}
    quick = {"keepalive": "6s", "tcp": {"keepalive_idle": "2s", "keepalive_interval": "1s"}}
    with new_bridge(routes=[route], mqtt=quick, log={"level": "debug"}) as bridge, kafka.all_hung():

        def pings() -> int:
            lines = bridge.entries("library.paho")
            return sum("PINGRESP" in line["message"] for line in lines)

        wait_until(lambda: pings() >= 4, 40.0, lambda: f"four PINGRESP, {pings()} so far")
        assert not bridge.entries("mqtt.closed")


def test_a_bridge_that_starts_before_kafka_delivers_once_kafka_is_there(
    new_flow: Callable[..., Any], kafka: KafkaCluster
) -> None:
    with new_flow(rate=20) as flow:
        with kafka.all_hung():
            stop_in_spite_of_kafka(flow)
            flow.bridge.start()
            flow.bridge.wait_live()
            flow.devices.wait_sent(60)
        flow.goes_on()
    verdict = flow.verdict
    assert not verdict.lost, verdict
    # A stop while Kafka does not answer: messages in flight may be delivered twice.
    assert verdict.copies <= 100, verdict


def stop_in_spite_of_kafka(flow: Flow) -> None:
    flow.devices.wait_sent(20)
    with flow.bridge.log_contains("service.stop_deadline", deadline=40):
        flow.bridge.terminate(deadline=40)


def test_an_order_that_a_lowered_limit_breaks_is_logged(
    new_flow: Callable[..., Any], kafka: KafkaCluster
) -> None:
    """Whether the next batch is on its way by then is a race: in each case the log tells the truth."""
    with new_flow(rate=800, tables={"spool": {"after": "200ms"}}) as flow:
        topic = flow.verifier._topics[0]
        kafka.alter_topic_config(topic, {"max.message.bytes": 1500})
        flow.devices.wait_sent(400)
        flow.devices.rate = 50
        flow.catches_up(deadline=120)
        flow.goes_on()
    verdict = flow.verdict
    assert verdict is not None
    assert not verdict.lost, f"{verdict}{flow.bridge.log_tail(100)}"
    said = sum(line["messages"] for line in flow.bridge.entries("kafka.reordered"))
    assert bool(said) == bool(verdict.inversions), f"{said} said; {verdict}"
