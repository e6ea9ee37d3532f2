"""Payloads as real devices send them: the record's value is the payload, byte by byte.

Tasmota, Shelly and Zigbee2MQTT payloads are copied from their documentation, Sparkplug B from the example of
its specification in protobuf; others have no valid format at all.
"""

import json
import zlib
from itertools import count

import pytest

from tests.harness.fields import Property
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.integration.scripted.conftest import InKafka, NewBridge

TASMOTA = (
    b'{"Time":"2024-03-01T12:00:00","ENERGY":{"TotalStartTime":"2023-01-01T00:00:00","Total":123.456,'
    b'"Power":42,"ApparentPower":50,"Factor":0.84,"Voltage":231,"Current":0.217}}'
)
ZIGBEE2MQTT = '{"battery":97,"humidity":51.2,"linkquality":120,"temperature":21.37,"unit":"°C"}'.encode()
SHELLY = (
    b'{"src":"shellyplus1-a8032abe54dc","dst":"shellyplus1-a8032abe54dc/events","method":"NotifyStatus",'
    b'"params":{"ts":1709294400.12,"switch:0":{"id":0,"output":true,"source":"switch"}}}'
)
# timestamp = 1; metrics { name "temp", alias 1, timestamp, datatype Float, float_value 21.5 }; seq = 0
SPARKPLUG = bytes.fromhex("08e8d2a4f0de31 1215 0a0474656d70 1001 18e8d2a4f0de31 2009 650000ac41 1800")

PAYLOADS = {
    "Tasmota": (b"tele/plug/SENSOR", TASMOTA),
    "Zigbee2MQTT": (b"zigbee2mqtt/living room/climate", ZIGBEE2MQTT),
    "Shelly": (b"shellyplus1-a8032abe54dc/events/rpc", SHELLY),
    "Sparkplug": (b"spBv1.0/Plant/DDATA/Edge/Device", SPARKPLUG),
    "an image": (b"camera/door", zlib.compress(bytes(range(256)) * 300, level=0)),
    "nothing at all": (b"switch/pressed", b""),
    "NUL bytes": (b"meter/raw", b"\x00\x00\x01\x00"),
    "no UTF-8": (b"meter/raw", b"\xff\xfe\xfd"),
    "a topic with umlauts": ("haus/küche/größe".encode(), b"1"),
    "a topic of one slash": (b"/", b"1"),
    "a topic with empty levels": (b"a//b/", b"1"),
}


@pytest.fixture(params=["5", "3.1.1"])
def live(
    request: pytest.FixtureRequest, broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> Connection:
    bridge = new_bridge({"#": topic}, {"protocol": request.param})
    bridge.start()
    connection = broker.next_connection()
    connection.connack()
    connection.expect_subscribe()
    bridge.wait_live()
    return connection


def test_payloads_of_devices_arrive_untouched(live: Connection, topic: str, in_kafka: InKafka) -> None:
    for identifier, (mqtt_topic, payload) in zip(count(1), PAYLOADS.values(), strict=False):
        live.publish(mqtt_topic, payload, qos=1, identifier=identifier)
        live.expect_puback(identifier)

    records = in_kafka(topic)
    assert [(record.key, record.value) for record in records] == list(PAYLOADS.values())
    assert [record.header("mqtt.topic") for record in records] == [name for name, _ in PAYLOADS.values()]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_how_a_message_came_is_in_its_headers(
    live: Connection, topic: str, in_kafka: InKafka, qos: int
) -> None:
    live.publish(b"t", b"x", qos=qos, identifier=9 if qos else 0, retain=True)
    live.publish(b"t", b"behind", qos=1, identifier=10)
    if qos == 1:
        live.expect_puback(9)
    if qos == 2:
        live.expect_pubrec(9)
    live.expect_puback(10)

    record, _ = in_kafka(topic)
    assert record.header("mqtt.qos") == b"%d" % qos
    assert record.header("mqtt.retained") == b"true"
    assert record.header("mqtt.duplicate") == b"false"


def test_mqtt_5_properties_become_headers(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, in_kafka: InKafka
) -> None:
    """User properties keep their names, their order and their repetitions."""
    bridge = new_bridge({"#": topic})
    bridge.start()
    user = [("unit", "°C"), ("trace", "1"), ("trace", "2"), ("empty", "")]
    with broker.connection() as connection:
        connection.connack()
        bridge.wait_live()
        connection.publish(
            b"t",
            b"x",
            qos=1,
            identifier=1,
            properties={
                Property.CONTENT_TYPE: "application/json",
                Property.RESPONSE_TOPIC: "answers/here",
                Property.CORRELATION_DATA: b"\x00\xff",
                Property.USER_PROPERTY: user,
            },
        )
        connection.expect_puback(1)

    (record,) = in_kafka(topic)
    assert record.header("content-type") == b"application/json"
    assert record.header("response-topic") == b"answers/here"
    assert record.header("correlation-data") == b"\x00\xff"
    own = [
        (name, value.decode())
        for name, value in record.headers
        if (name, value.decode(errors="replace")) in user
    ]
    assert own == user


def test_an_envelope_holds_any_payload(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, in_kafka: InKafka
) -> None:
    bridge = new_bridge([{"name": "all", "filter": "#", "topic": topic, "envelope": "json"}])
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        bridge.wait_live()
        for identifier, payload in enumerate([ZIGBEE2MQTT, b"21.5", b"\xff\x00", b""], 1):
            connection.publish(b"t", payload, qos=1, identifier=identifier)
            connection.expect_puback(identifier)
    assert [json.loads(record.value)["topic"] for record in in_kafka(topic)] == ["t"] * 4


def test_the_largest_message_that_the_broker_may_send_fits_into_the_units_memory(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """One that does not would end the service, and come again at each start. Kafka takes 1 MB, so this one
    is a dead letter, which costs most.
    """
    bridge = new_bridge({"t": topic}, spool={"after": "1s"})
    bridge.start()
    with broker.connection() as connection:
        hello = connection.hello
        assert hello is not None
        connection.connack()
        connection.publish(
            b"t", bytes(hello.properties[Property.MAXIMUM_PACKET_SIZE] - 20), qos=1, identifier=1
        )
        connection.expect_puback(1, deadline=60)
        assert bridge.terminate() == 0
    assert bridge.peak_mb < 256


@pytest.mark.parametrize("envelope", ["none", "json"])
def test_an_empty_payload_becomes_kafka_s_null_where_the_route_says_tombstone(
    envelope: str, broker: ScriptedBroker, new_bridge: NewBridge, topic: str, in_kafka: InKafka
) -> None:
    route = {"name": "r", "filter": "t/#", "topic": topic, "empty": "tombstone", "envelope": envelope}
    bridge = new_bridge([route])
    bridge.start()
    connection = broker.next_connection()
    connection.connack()
    connection.expect_subscribe()
    bridge.wait_live()
    connection.publish(b"t/1", b"21.5", qos=1, identifier=1)
    connection.publish(b"t/1", b"", qos=1, identifier=2)
    connection.expect_pubacks([1, 2])
    kept, deleted = in_kafka(topic)
    assert kept.value
    assert not kept.is_tombstone
    assert deleted.key == b"t/1"
    assert deleted.is_tombstone
    assert bridge.terminate() == 0
