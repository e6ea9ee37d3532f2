"""Clients that people use on devices, through HAProxy's :1883: what they publish is in Kafka, once.

Their programs are in tests/clients. Where a client cannot be had, its tests are skipped, and that is said.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import clients
from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.process import Process
from tests.harness.records import records

ROUTE = {"name": "sensors", "filter": "sensors/{site}/{device}/temp", "key": "{device}", "qos": 2}
TOPIC = "sensors/küche/öfen/temp"
KEY = "öfen".encode()
PAYLOAD = bytes(range(256))  # no text: it has a zero, and is not UTF-8

# Of MQTT 5, as all of the programs set them.
PROPERTIES = {"content-type": b"application/octet-stream", "unit": b"celsius"}

CLIENTS = [
    (clients.mosquitto_pub, "3.1.1"),
    (clients.mosquitto_pub, "5"),
    (clients.mqtt_js, "3.1.1"),
    (clients.mqtt_js, "5"),
    (clients.paho_go_311, "3.1.1"),
    (clients.paho_go_5, "5"),
    (clients.paho_c, "3.1.1"),
    (clients.paho_c, "5"),
]


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest) -> clients.Command:
    """The command of a client, made ready once for all of its tests."""
    try:
        command: clients.Command = request.param()
    except clients.NotHere as error:
        pytest.skip(str(error))
    return command


@pytest.mark.parametrize(
    ("client", "version"),
    CLIENTS,
    indirect=["client"],
    ids=[f"{make.__name__}-mqtt{version}" for make, version in CLIENTS],
)
def test_what_a_client_publishes_is_in_kafka_once(
    client: clients.Command,
    version: str,
    emq: Brokers,
    haproxy: HAProxy,
    kafka: KafkaCluster,
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    tmp_path: Path,
) -> None:
    if version == "5" and not emq.supports_mqtt5:
        pytest.skip("these brokers have no MQTT 5")
    topic = new_topic(partitions=1)
    file = tmp_path / "payload"
    file.write_bytes(PAYLOAD)
    with new_bridge(routes=[ROUTE | {"topic": topic}]):
        arguments = [haproxy.host.address, str(DEVICES), version, TOPIC, file]
        publisher = Process("client", [*client, *arguments], log=tmp_path / "client.log")
        publisher.start()
        publisher.wait_end(20.0)
        wait_until(lambda: len(records(kafka.bootstrap, topic)) >= 3, 20.0, "three records are in Kafka")
    # The bridge has stopped: if a message came twice, it is there by now.
    got = sorted(records(kafka.bootstrap, topic), key=lambda record: record.header("mqtt.qos") or b"")
    assert [record.header("mqtt.qos") for record in got] == [
        str(min(qos, emq.max_qos)).encode() for qos in range(3)
    ]
    for record in got:
        headers = {
            "mqtt.topic": TOPIC.encode(),
            "mqtt.qos": record.header("mqtt.qos"),
            "mqtt.retained": b"false",
            "mqtt.duplicate": b"false",
        }
        if version == "5":
            headers |= PROPERTIES
        assert sorted(record.headers) == sorted(headers.items())
        assert record.key == KEY
        assert record.value == PAYLOAD
