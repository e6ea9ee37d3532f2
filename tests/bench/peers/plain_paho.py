"""The simplest bridge: on_message, produce, acknowledge once Kafka has the message.

    python -m tests.bench.peers.plain_paho HOST:PORT CLIENT-ID FILTER BOOTSTRAP-SERVERS TOPIC 5|3.1.1

One thread for paho and for the reports. With paho's loop_start and a second thread that polls, the threads
pass the interpreter's lock back and forth, which costs more.
"""

import sys
from functools import partial
from typing import Any

import paho.mqtt.client as mqtt
from confluent_kafka import KafkaError, Producer
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_WAIT = 0.05  # seconds in paho's select without traffic; then poll Kafka's reports


def main(address: str, client_id: str, topic_filter: str, bootstrap: str, topic: str, protocol: str) -> None:
    mqtt5 = protocol == "5"
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
        }
    )
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        clean_session=None if mqtt5 else False,
        protocol=mqtt.MQTTv5 if mqtt5 else mqtt.MQTTv311,
        manual_ack=True,
    )

    def on_connect(*_: Any) -> None:
        client.subscribe(topic_filter, qos=1)

    def on_message(_client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        name = message.topic
        producer.produce(
            topic,
            bytes(message.payload),
            key=name.split("/")[2],
            headers=[("mqtt.topic", name), ("mqtt.qos", str(message.qos))],
            on_delivery=partial(delivered, message.mid, message.qos),
        )

    def delivered(packet_id: int, qos: int, error: KafkaError | None, _record: object) -> None:
        if error is None:
            client.ack(packet_id, qos)

    client.on_connect = on_connect
    client.on_message = on_message
    host, _, port = address.rpartition(":")
    if mqtt5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        client.connect(host, int(port), clean_start=False, properties=properties)
    else:
        client.connect(host, int(port))
    while client.loop(_WAIT) == mqtt.MQTT_ERR_SUCCESS:
        producer.poll(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
