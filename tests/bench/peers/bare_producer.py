"""A producer with nothing to produce: python -m tests.bench.peers.bare_producer BOOTSTRAP-SERVERS TOPIC.

Connected as the bridge's is, and waiting for reports as its thread does. What it costs, librdkafka costs.
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
