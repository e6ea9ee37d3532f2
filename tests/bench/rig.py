"""The basis of every measurement: a broker that holds any backlog, a real Kafka, a directory."""

import contextlib
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.bench import backlog
from tests.bench.peers import Peer, Place
from tests.harness.brokers import MQTT, TwoDoors
from tests.harness.conditions import wait_until
from tests.harness.host import Network
from tests.harness.kafka import KafkaCluster
from tests.harness.process import Process

NETWORK = "127.30.3"  # separate from lab and tests; still, run nothing else while measuring
PARTITIONS = 3

# Packet identifiers end at 65535. A broker with that many in flight reuses an identifier as soon as it is
# acknowledged, while its neighbours are still in use; half as many avoids that for all three peers.
_INFLIGHT = 32_767
_UNLIMITED = 0

# Each partition has two index files of 10 MB by default, and a deleted one stays for a minute. A broker that
# is busy with thousands of new partitions is late with its heartbeats. After 9 s without one, the controller
# elects new leaders for all partitions, so that the broker is busier still.
_MANY_TOPICS = """
log.index.size.max.bytes=65536
log.segment.delete.delay.ms=1000
broker.session.timeout.ms=300000
"""


class Rig:
    """A running mosquitto and Kafka. `inflight` is the broker's window; 0 means unlimited.

    `many_topics`: Kafka has the memory for 10,000 partitions, and forgets deleted ones at once.
    """

    def __init__(
        self, directory: Path, nodes: int, inflight: int = _INFLIGHT, *, many_topics: bool = False
    ) -> None:
        network = Network(NETWORK)
        self.directory = directory
        self.host = network.behind_the_doors.address
        self.mosquitto = TwoDoors(
            network, directory / "mosquitto", inflight=inflight, queued=_UNLIMITED
        ).mosquitto  # without its doors, which would use part of the two cores
        self._mosquitto_conf = directory / "mosquitto" / "mosquitto.conf"
        more: dict[str, Any] = {"properties": _MANY_TOPICS, "heap": "1g"} if many_topics else {}
        self.kafka = KafkaCluster(network, directory / "kafka", nodes=nodes, **more)
        self._runs = 0

    def place(self, slug: str, mqtt5: bool) -> Place:
        """Make a new place, with unused topics."""
        self._runs += 1
        return Place(
            mqtt_host=self.host,
            mqtt_port=MQTT,
            bootstrap=self.kafka.bootstrap,
            site=f"run{self._runs}",
            client_id=f"bench-{slug}-{self._runs}",
            mqtt5=mqtt5,
            directory=self.directory,
        )

    @contextlib.contextmanager
    def live(self, peer: Peer, place: Place) -> Iterator[Process]:
        """Run the peer inside the block. It is killed at the end: its stop is not measured."""
        mark = self._connections(place)
        process = peer.process(place)
        process.start()
        try:
            wait_until(
                lambda: not peer.has_mqtt or not process.alive or self._connections(place) > mark,
                30.0,
                lambda: f"{peer.name} has connected{process.log_tail()}",
            )
            yield process
        finally:
            process.kill9()

    def allow_inflight(self, window: int) -> None:
        """Restart the broker with this window, unless it has it. Its sessions are lost.

        mosquitto applies a client's Receive Maximum only to what it queues while the client is connected, so
        a backlog comes within the broker's own window.
        """
        changed = re.sub(
            r"(?m)^max_inflight_messages .*$",
            f"max_inflight_messages {window}",
            before := self._mosquitto_conf.read_text(),
        )
        if changed != before:
            self._mosquitto_conf.write_text(changed)
            self.mosquitto.kill9()
            self.mosquitto.start()

    def forget_session(self, place: Place) -> None:
        backlog.forget_session(place.mqtt_host, place.mqtt_port, place.client_id)

    def _connections(self, place: Place) -> int:
        """How often this client has connected, according to the broker's log."""
        return self.mosquitto.log.read_text().count(f" as {place.client_id} (")


@contextlib.contextmanager
def rig(nodes: int, inflight: int = _INFLIGHT, *, many_topics: bool = False) -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="mqtt-kafka-bridge-bench-") as directory:
        made = Rig(Path(directory), nodes, inflight, many_topics=many_topics)
        with made.kafka:
            made.mosquitto.start()
            try:
                yield made
            finally:
                made.mosquitto.kill9()


@dataclass(frozen=True)
class Found:
    """The records of a backlog in a Kafka topic."""

    different: int
    copies: int  # records after the first of each number


class TopicReader:
    """Reads how many records a topic has, and which."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._partitions = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "bench",  # the library demands one; nothing is committed
                "enable.auto.commit": False,
                # A peer's transactions have marks among the records, which nobody can read.
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )

    def size(self) -> int:
        """How many records are committed, so on all in-sync replicas, with the marks of transactions."""
        return sum(self._consumer.get_watermark_offsets(each, timeout=10.0)[1] for each in self._partitions)

    def read(self, deadline: float = 120.0) -> Found:
        """Read all current records. Raises ValueError for a record that the bench did not produce."""
        numbers: set[int] = set()
        self._consumer.assign(self._partitions)
        ends = time.monotonic() + deadline
        read = 0
        unread = {each.partition for each in self._partitions}
        while unread and time.monotonic() < ends:
            for message in self._consumer.consume(10_000, timeout=1.0):
                error = message.error()
                if error is None:
                    read += 1
                    numbers.add(backlog.number_of(message.value()))
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition())
        self._consumer.unassign()
        return Found(len(numbers), read - len(numbers))

    def close(self) -> None:
        self._consumer.close()
