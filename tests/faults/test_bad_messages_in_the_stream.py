"""Messages that Kafka can never take, among others: they become dead letters, and delay no other message."""

import os
import subprocess

from tests.faults.chain import Chain
from tests.harness.haproxy import DEVICES

_LIMIT = 20_000  # bytes: max.message.bytes of one of the topics
_ROUNDS = 10


def publish(chain: Chain, topic: str, payload: bytes) -> None:
    """Publish like a device, at QoS 1, and return when EMQ has acknowledged."""
    command = ["mosquitto_pub", "-h", chain.haproxy.host.address, "-p", str(DEVICES), "-q", "1", "-t", topic]
    subprocess.run([*command, "-s"], input=payload, check=True, timeout=20)


def test_too_large_for_the_topic_or_for_no_topic(chain: Chain) -> None:
    odd = {"name": "odd", "filter": "odd/{name}", "topic": "iot.{name}"}
    chain.kafka.alter_topic_config(chain.topics["temp"], {"max.message.bytes": _LIMIT})
    with chain.flow(routes=[odd]) as flow:
        for _ in range(_ROUNDS):
            publish(chain, "house/temp/camera", os.urandom(2 * _LIMIT))
            publish(chain, f"odd/{'x' * 300}", b"21.5")  # longer than a Kafka topic name may be
            flow.load.wait_sent(20)
        flow.goes_on()
        flow.stays()
    chain.judge(flow)
    assert flow.stopped["dead_lettered"] == 2 * _ROUNDS
    assert not flow.verifier.foreign


def test_too_large_while_kafka_is_away(chain: Chain) -> None:
    """They are on disk among the others; Kafka refuses them when their turn comes."""
    chain.kafka.alter_topic_config(chain.topics["temp"], {"max.message.bytes": _LIMIT})
    with chain.flow() as flow:
        with chain.universe.cable_out(*chain.universe.kafka):
            for _ in range(_ROUNDS):
                publish(chain, "house/temp/camera", os.urandom(2 * _LIMIT))
                flow.load.wait_sent(50)
        flow.goes_on()
        flow.stays()
    chain.judge(flow)
    assert flow.stopped["dead_lettered"] == _ROUNDS
