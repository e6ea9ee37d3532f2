"""The whole chain: devices -> HAProxy :1883 -> EMQ -> HAProxy :1884 -> bridge -> Kafka."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records
from tests.integration.flow import assert_nothing_lost_or_doubled

ROUTE = {"name": "sensors", "filter": "sensors/{site}/{device}/temp", "key": "{device}", "qos": 2}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"], ids="bridge{}".format)
@pytest.mark.parametrize("version", [5, 4], ids={5: "device5", 4: "device3.1.1"}.get)
@pytest.mark.parametrize("qos", [1, 2])
def test_what_devices_saw_acknowledged_comes_out_of_kafka_once_and_in_order(
    new_flow: Callable[..., Any], qos: int, version: int, protocol: str
) -> None:
    with new_flow(rate=200, qos=qos, version=version, protocol=protocol) as flow:
        flow.devices.wait_sent(200)
    assert_nothing_lost_or_doubled(flow)
    assert flow.verdict.delivered >= 200


def test_qos_0_comes_through_when_nothing_is_wrong(new_flow: Callable[..., Any]) -> None:
    with new_flow(qos=0) as flow:
        flow.devices.wait_sent(100)
        sent = flow.devices.stop().sent0
        wait_until(lambda: not flow.verifier.missing(sent), 10.0, "all of QoS 0 is there")
    assert not flow.verdict.doubled


def test_mosquitto_pub_reaches_kafka_with_topic_key_and_headers(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    haproxy: HAProxy,
    kafka: KafkaCluster,
) -> None:
    topic = new_topic(partitions=1)
    with new_bridge(routes=[ROUTE | {"topic": topic}]):
        for qos in range(3):
            publish = ["mosquitto_pub", "-h", haproxy.host.address, "-p", str(DEVICES), "-q", str(qos)]
            publish += ["-t", "sensors/kitchen/oven/temp", "-m", f"{qos}: 21.5 °C", "-V", "mqttv5"]
            publish += ["-D", "publish", "user-property", "unit", "celsius"]
            subprocess.run(publish, check=True, timeout=20)

        def found() -> list[Any] | None:
            got = records(kafka.bootstrap, topic)
            return got if len(got) == 3 else None

        got = wait_until(found, 20.0, "three records are in Kafka")
    assert [record.value.decode() for record in got] == [f"{qos}: 21.5 °C" for qos in range(3)]
    assert {record.key for record in got} == {b"oven"}
    assert [record.header("mqtt.qos") for record in got] == [b"0", b"1", b"2"]
    assert {record.header("mqtt.topic") for record in got} == {b"sensors/kitchen/oven/temp"}
    assert {record.header("unit") for record in got} == {b"celsius"}


def test_the_counts_add_up_when_the_bridge_stops(new_flow: Callable[..., Any]) -> None:
    with new_flow() as flow:
        flow.devices.wait_sent(50)
    (last,) = flow.bridge.entries("service.stopped")
    assert last["received"] == last["delivered"] + last["given_up"] + last["skipped"] + last["dropped"]
    assert last["in_flight"] == 0
    assert last["delivered"] == flow.verdict.delivered
