"""Promises of docs/ that no other test checks: QoS 0 while Kafka fails, and a raised limit."""

import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records


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
    """Checks docs/how-to/prepare-kafka.md."""
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

        def arrives() -> bool:
            """The controller has the new limit. The partition's leader has it once it has read of it."""
            publish()
            return bool(records(kafka.bootstrap, topic))

        wait_until(arrives, 30.0, "a second one is in Kafka")
