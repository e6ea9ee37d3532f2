"""What docs/ promises and no other test holds: QoS 2 and QoS 0 while something fails, and a raised limit."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records
from tests.integration.flow import Flow, assert_nothing_lost_or_doubled
from tests.integration.test_a_broker_node_fails import node_of_the_session

WINDOW = 100  # mqtt.receive_maximum


@contextlib.contextmanager
def comes_back(flow: Flow) -> Iterator[None]:
    with flow.bridge.log_contains("mqtt.live", deadline=60):
        yield


def test_qos_2_a_kafka_broker_is_killed(new_flow: Callable[..., Any], kafka: KafkaCluster) -> None:
    with new_flow(qos=2) as flow:
        with kafka.node(1).dead():
            flow.goes_on()
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def test_qos_2_kafka_is_out_of_reach(new_flow: Callable[..., Any], kafka: KafkaCluster) -> None:
    with new_flow(qos=2, rate=20) as flow:
        with kafka.all_hung():
            flow.devices.wait_sent(20 * 10, deadline=30)
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def test_qos_2_the_node_of_the_session_is_killed(
    new_flow: Callable[..., Any], emq: Brokers, haproxy: HAProxy
) -> None:
    with new_flow(qos=2) as flow:
        with comes_back(flow), emq.node(node_of_the_session(haproxy)).dead():
            flow.goes_on()
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def test_qos_2_haproxy_is_killed_and_started_again(new_flow: Callable[..., Any], haproxy: HAProxy) -> None:
    with new_flow(qos=2) as flow:
        with comes_back(flow), haproxy.dead():
            flow.bridge.wait_for("mqtt.closed")
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def test_qos_2_the_bridge_is_stopped_and_started(new_flow: Callable[..., Any]) -> None:
    with new_flow(qos=2) as flow:
        assert flow.bridge.terminate() == 0
        flow.devices.wait_sent(50)
        flow.bridge.start()
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)


def test_qos_2_the_bridge_is_killed(new_flow: Callable[..., Any]) -> None:
    with new_flow(qos=2) as flow:
        flow.bridge.kill9()
        flow.devices.wait_sent(50)
        flow.bridge.start()
        flow.goes_on()
    assert not flow.verdict.lost, flow.verdict
    assert flow.verdict.copies <= WINDOW, flow.verdict


@pytest.mark.parametrize("fault", ["a broker is killed", "a broker hangs", "all of them hang"])
def test_qos_0_outlives_kafka_s_faults_within_the_bounds(
    fault: str, new_flow: Callable[..., Any], kafka: KafkaCluster
) -> None:
    with new_flow(qos=0, rate=50) as flow:
        with {
            "a broker is killed": kafka.node(1).dead,
            "a broker hangs": kafka.node(2).hung,
            "all of them hang": kafka.all_hung,
        }[fault]():
            flow.devices.wait_sent(250)
        sent = flow.devices.stop().sent0
        wait_until(
            lambda: not flow.verifier.missing(sent),
            60.0,
            lambda: f"missing {len(flow.verifier.missing(sent))}",
        )
        assert not flow.bridge.entries("qos0.dropped")
    assert not flow.verdict.doubled, flow.verdict


def test_a_limit_that_is_raised_holds_at_once(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    haproxy: HAProxy,
    kafka: KafkaCluster,
) -> None:
    """docs/how-to/prepare-kafka.md"""
    topic = new_topic(config={"max.message.bytes": 20_000})
    large = os.urandom(40_000)

    def publish() -> None:
        host = ["-h", haproxy.host.address, "-p", str(DEVICES)]
        subprocess.run(
            ["mosquitto_pub", *host, "-q", "1", "-t", "t", "-s"], input=large, check=True, timeout=20
        )

    with new_bridge(routes=[{"name": "large", "filter": "t", "topic": topic}]) as bridge:
        publish()
        bridge.wait_for("kafka.refused", size=len(large))
        kafka.alter_topic_config(topic, {"max.message.bytes": 100_000})
        publish()
        wait_until(lambda: len(records(kafka.bootstrap, topic)) == 1, 30.0, "the second one is in Kafka")
