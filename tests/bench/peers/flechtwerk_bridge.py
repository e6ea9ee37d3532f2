"""Flechtwerk as a bridge of raw payloads. Runs in a Python of its own, see flechtwerk_venv.py.

    python flechtwerk_bridge.py HOST:PORT CLIENT-ID FILTER BOOTSTRAP-SERVERS TOPIC

Its template reads JSON alone, so `poll` is the template's without JSON. It acknowledges a batch to the broker
at the next poll, after the batch's Kafka transaction. It reads what to subscribe from a Kafka topic.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from flechtwerk import Flechtwerk, Message, MqttBrokerConfig
from flechtwerk.mqtt import TOPIC, MqttExtractor
from flechtwerk.types import Config, State


class Bridge(MqttExtractor):
    """Every message to one Kafka topic, with the device as key."""

    # Measured: with the default of 1000 a message costs more, because each batch is a transaction.
    drain_limit = 20_000

    def __init__(self, kafka_topic: str, configuration: str) -> None:
        self.config_topics = [configuration]
        self._kafka_topic = kafka_topic

    def relay(self, *_: object) -> None:
        raise NotImplementedError  # the template's `poll` calls it, which is replaced below

    async def poll(self, config: Config, state: State) -> AsyncIterator[Message | State]:
        subscription = self.subscribe(config[TOPIC])
        subscription.ack_all_pending()
        batch = subscription.drain(self.drain_limit)
        if subscription.items and self.wakeup is not None:
            self.wakeup.set()
        for message in batch:
            key = message.topic.split("/")[2]
            yield Message(key=key, topic=self._kafka_topic, value=bytes(message.payload))
            subscription.mark_pending(message)


async def configure(bootstrap: str, name: str, topic_filter: str) -> None:
    """Create the topic with the one record that tells the filter, unless it exists."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        with contextlib.suppress(TopicAlreadyExistsError):
            compacted = {"cleanup.policy": "compact"}
            replicas = len((await admin.describe_cluster())["brokers"])
            await admin.create_topics([NewTopic(name, 1, replicas, topic_configs=compacted)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        value = json.dumps({"topic": topic_filter}).encode()
        await producer.send_and_wait(name, value, key=b"bench")


async def main(address: str, client_id: str, topic_filter: str, bootstrap: str, topic: str) -> None:
    host, _, port = address.rpartition(":")
    configuration = f"{topic}.configuration"
    await configure(bootstrap, configuration, topic_filter)
    await Flechtwerk.of(
        application_id=client_id,
        bootstrap_servers=bootstrap,
        client_id=client_id,
        stage=Bridge(topic, configuration),
        compression_type="lz4",
        mqtt=MqttBrokerConfig(broker=host, port=int(port), qos=1, session_expiry=timedelta(hours=1)),
        # A message wakes it. Where the broker's window is full, this is how long the acknowledgements wait.
        poll_interval=timedelta(milliseconds=10),
    ).run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
