"""Kafka's client alone: produces the backlog's records with the bridge's options, key and headers.

    python -m tests.bench.peers.producer BOOTSTRAP-SERVERS TOPIC COUNT

It does not receive, route, acknowledge or store messages.
"""

import sys
import time

from confluent_kafka import Producer

from bridge.kafka.options import BATCH_SIZE, producer_options
from bridge.settings import KafkaSettings
from tests.bench import backlog

_WINDOW = 5000  # messages in flight, like the bridge's Receive Maximum in the bench
_AT_ONCE = 200  # messages between two polls for delivery reports


def main(bootstrap: str, topic: str, count: str) -> None:
    settings = KafkaSettings(bootstrap_servers=bootstrap, options={"linger.ms": 5})
    producer = Producer(producer_options(settings, BATCH_SIZE))
    devices = range(backlog.DEVICES)
    keys = [b"d%d" % device for device in devices]
    headers = [[("mqtt.topic", backlog.topic("alone", device)), ("mqtt.qos", b"1")] for device in devices]
    now = int(time.time() * 1000)

    def delivered(_error: object, _record: object) -> None: ...

    producer.list_topics(timeout=10.0)  # connect, even without records
    for number in range(int(count)):
        device = number % backlog.DEVICES
        value = backlog.payload(number)
        producer.produce(topic, value, keys[device], -1, delivered, None, now, headers[device])
        if number % _AT_ONCE == 0:
            producer.poll(0)
            while len(producer) > _WINDOW:
                producer.poll(0.01)
    while True:
        producer.poll(1.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
