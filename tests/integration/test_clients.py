"""Clients that people use on devices, through HAProxy's :1883: each published message is in Kafka, once.

Their programs are in tests/clients. If a client cannot be built, its tests are skipped with the reason.
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
from tests.harness.records import Headers, Record, records

ROUTE = {"name": "sensors", "filter": "sensors/{site}/{device}/temp", "key": "{device}", "qos": 2}
PAYLOAD = bytes(range(256))  # not text: contains a zero byte, and is not UTF-8

# The MQTT 5 properties that all of the programs set.
PROPERTIES = {"content-type": b"application/octet-stream", "unit": b"celsius"}

CLIENTS = [
    (clients.mosquitto_pub, ["3.1.1", "5"]),
    (clients.mqtt_js, ["3.1.1", "5"]),
    (clients.paho_go_311, ["3.1.1"]),
    (clients.paho_go_5, ["5"]),
    (clients.paho_c, ["3.1.1", "5"]),
]


@pytest.fixture(scope="session")
def client(request: pytest.FixtureRequest) -> clients.Command:
    """The command of a client, which is built once for all its tests."""
    try:
        command: clients.Command = request.param()
    except clients.NotHere as error:
        pytest.skip(str(error))
    return command


@pytest.mark.parametrize(
    ("client", "versions"), CLIENTS, indirect=["client"], ids=[make.__name__ for make, _ in CLIENTS]
)
def test_what_a_client_publishes_is_in_kafka_once(
    client: clients.Command,
    versions: list[str],
    emq: Brokers,
    haproxy: HAProxy,
    kafka: KafkaCluster,
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    tmp_path: Path,
) -> None:
    versions = [version for version in versions if version != "5" or emq.supports_mqtt5]
    if not versions:
        pytest.skip("these brokers have no MQTT 5")
    topic = new_topic(partitions=1)
    file = tmp_path / "payload"
    file.write_bytes(PAYLOAD)
    with new_bridge(routes=[ROUTE | {"topic": topic}]):
        for version in versions:
            mqtt_topic = f"sensors/küche/öfen-{version}/temp"
            command = [*client, haproxy.host.address, str(DEVICES), version, mqtt_topic, file]
            publisher = Process("client", command, log=tmp_path / "client.log")
            publisher.start()
            publisher.wait_end(20.0)
        published = 3 * len(versions)
        wait_until(lambda: len(records(kafka.bootstrap, topic)) >= published, 20.0, "all of it is in Kafka")
    # The bridge has stopped: a duplicate would be in Kafka by now.
    found = [comparable(record) for record in records(kafka.bootstrap, topic)]
    assert sorted(found) == sorted(
        expected(version, min(qos, emq.max_qos)) for version in versions for qos in range(3)
    )


def comparable(record: Record) -> tuple[bytes | None, bytes, Headers]:
    return record.key, record.value, tuple(sorted(record.headers))


def expected(version: str, qos: int) -> tuple[bytes, bytes, Headers]:
    device = f"öfen-{version}".encode()
    headers = {
        "mqtt.topic": "sensors/küche/".encode() + device + b"/temp",
        "mqtt.qos": b"%d" % qos,
        "mqtt.retained": b"false",
        "mqtt.duplicate": b"false",
    }
    if version == "5":
        headers |= PROPERTIES
    return device, PAYLOAD, tuple(sorted(headers.items()))
