"""A producer with nothing to produce: python -m tests.bench.peers.bare_producer BOOTSTRAP-SERVERS TOPIC.

It is connected like the bridge's producer, and waits for reports like its thread: librdkafka's own cost.
"""

import sys

from confluent_kafka import Producer


def main(bootstrap: str, topic: str) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 0,
        }
    )
    producer.produce(topic, b"connect")
    while True:
        producer.poll(1.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
