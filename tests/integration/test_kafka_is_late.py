"""Kafka is away longer than EMQ's queue could hold messages: the bridge's disk holds them."""

from collections.abc import Callable
from typing import Any

from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.integration.flow import Flow, assert_nothing_lost_or_doubled


def spooled(flow: Flow, messages: int) -> None:
    """Wait until so many messages are on disk, and therefore acknowledged."""
    flow.devices.wait_sent(messages)
    wait_until(
        lambda: any(line["spooled"] >= messages for line in flow.bridge.entries("spool.progress")),
        60.0,
        lambda: f"{messages} messages are on disk: {flow.bridge.entries('spool.progress')[-1:]}",
    )


def test_a_burst_beyond_emq_s_queue_outlives_kafka(new_flow: Callable[..., Any], kafka: KafkaCluster) -> None:
    with new_flow(rate=300) as flow:
        with kafka.all_dead():
            spooled(flow, 2000)
            assert flow.bridge.entries("spool.late")
            assert not flow.bridge.entries("mqtt.closed")
        flow.goes_on()
        flow.bridge.wait_for("spool.empty", deadline=60)
    assert_nothing_lost_or_doubled(flow)


def test_kill_9_with_messages_on_disk(new_flow: Callable[..., Any], kafka: KafkaCluster) -> None:
    with new_flow(rate=60) as flow:  # EMQ queues 1,000: a busy machine takes seconds to start the bridge
        with kafka.all_dead():
            spooled(flow, 1000)
            flow.bridge.kill9()
            flow.bridge.start()
            flow.bridge.wait_live()
            spooled(flow, 500)
        flow.goes_on()
        flow.catches_up()
    verdict = flow.verdict
    assert verdict is not None
    assert not verdict.lost, f"{verdict}{flow.bridge.log_tail(100)}"
    assert not verdict.inversions, f"{verdict}{flow.bridge.log_tail(100)}"
    # Duplicates: messages in flight to Kafka when its brokers died may be in Kafka, and are produced again;
    # and EMQ resends messages that the bridge had not acknowledged when it was killed.
    assert verdict.copies <= 400, f"{verdict}{flow.bridge.log_tail(100)}"
