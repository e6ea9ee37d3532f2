"""Kafka's client alone: produces the backlog's records with the bridge's options, key and headers.

    python -m tests.bench.peers.producer BOOTSTRAP-SERVERS FILE COUNT SIZE WINDOW LINGER-MS

It does not receive, route, acknowledge or store messages. The lines of FILE are the Kafka topics, which get
the messages of SIZE bytes in turn. At most WINDOW messages are in flight.
"""

import sys
import time
from pathlib import Path

from confluent_kafka import Producer

from bridge.kafka.options import BATCH_SIZE, producer_options
from bridge.settings import KafkaSettings
from tests.bench import backlog

_AT_ONCE = 200  # messages between two polls for delivery reports, at most


def main(bootstrap: str, topics: str, count: str, size: str, window: str, linger_ms: str) -> None:
    settings = KafkaSettings(bootstrap_servers=bootstrap, options={"linger.ms": int(linger_ms)})
    producer = Producer(producer_options(settings, BATCH_SIZE))
    names = Path(topics).read_text().splitlines()
    devices = range(backlog.DEVICES)
    keys = [b"d%d" % device for device in devices]
    headers = [[("mqtt.topic", backlog.topic("alone", device)), ("mqtt.qos", b"1")] for device in devices]
    now = int(time.time() * 1000)
    at_once = max(1, min(_AT_ONCE, int(window) // 2))
    room = int(window) - at_once
    padded = int(size)

    def delivered(_error: object, _record: object) -> None: ...

    producer.list_topics(timeout=10.0)  # connect, even without records
    for number in range(int(count)):
        device = number % backlog.DEVICES
        topic = names[number % len(names)]
        value = b"%-*d" % (padded, number)
        producer.produce(topic, value, keys[device], -1, delivered, None, now, headers[device])
        if number % at_once == 0:
            producer.poll(0)
            while len(producer) > room:
                producer.poll(0.01)
    while True:
        producer.poll(1.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
