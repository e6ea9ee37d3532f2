"""A consumer that checks what is in Kafka. A thread reads the topics from the beginning or from now.

with Verifier(kafka.bootstrap, ["iot.house"]) as verifier:
    with Devices(...) as devices:
        ...
    verifier.wait_for(devices.tally.acked, deadline=30)
assert not verifier.verdict(devices.tally).lost
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from tests.harness.conditions import wait_until
from tests.harness.device import Tally
from tests.harness.records import watermarks
from tests.harness.verdict import Evidence, Record, Verdict, id_of

_OPTIONS = {
    "group.id": "verifier",  # the library demands one; nothing is committed
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 100,
    "enable.partition.eof": True,  # where transactions end, a partition has records that no consumer gets
    # The consumer must survive Kafka's failures, and reconnect quickly.
    "socket.timeout.ms": 6000,
    "reconnect.backoff.max.ms": 500,
    "topic.metadata.refresh.interval.ms": 5000,
}


class Verifier:
    """Collects the ids in the records of `topics`, which must exist.

    The counters are meant for display during a run, the verdict for the end. With `from_now` only records
    that are produced after the start count. Records whose value begins with no id are counted as `foreign`.
    """

    def __init__(self, bootstrap: str, topics: Sequence[str], *, from_now: bool = False) -> None:
        self._bootstrap, self._topics, self._from_now = bootstrap, list(topics), from_now
        self._to_follow: list[TopicPartition] = []  # partitions that the thread shall also read
        self._evidence = Evidence()
        self.foreign = 0
        self.stall = 0.0  # the longest time in s for which a partition with messages got no new one
        self._read_to: dict[str, int] = {}  # where each partition was read to its end
        self._last_new: dict[str, float] = {}  # when each partition got its last message
        self._lock = threading.Lock()  # guards the evidence
        self._running = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="verifier", daemon=True)

    @property
    def delivered(self) -> int:
        """How many different ids are in Kafka."""
        return self._evidence.delivered

    @property
    def doubled(self) -> int:
        """How many records were seen after the first of their id."""
        with self._lock:
            return self._evidence.copies

    def missing(self, ids: set[str]) -> set[str]:
        """The `ids` that were not seen up to now."""
        with self._lock:
            return self._evidence.missing(ids)

    def wait_for(
        self, ids: set[str], deadline: float = 30.0, *, unless: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until all `ids` were seen, or until `unless`. Raises NotInTime, which names missing ids."""

        def complete() -> bool:
            if self._failure is not None:
                raise RuntimeError("the verifier's thread failed") from self._failure
            return unless() or not self.missing(ids)

        def what() -> str:
            missing = self.missing(ids)
            return f"{len(ids)} ids are in Kafka, {len(missing)} are not: {sorted(missing)[:10]}"

        wait_until(complete, deadline, what)

    def wait_end(self, deadline: float = 30.0) -> None:
        """Wait until everything is read that Kafka holds now, including copies. Raises NotInTime."""
        ends = {}
        with self._asking() as kafka:
            for topic in self._topics:
                for number in kafka.list_topics(topic, timeout=deadline).topics[topic].partitions:
                    _, end = watermarks(kafka, TopicPartition(topic, number), deadline)
                    ends[f"{topic}/{number}"] = end

        def behind() -> dict[str, int]:
            with self._lock:
                return {
                    name: end
                    for name, end in ends.items()
                    if max(self._evidence.end(name), self._read_to.get(name, 0)) < end
                }

        wait_until(lambda: not behind(), deadline, lambda: f"these are read to their ends: {behind()}")

    def verdict(self, tally: Tally) -> Verdict:
        with self._lock:
            return self._evidence.verdict(tally)

    def start(self, deadline: float = 20.0) -> Self:
        """Start, and return once the start offsets are fixed. Raises NotInTime."""
        self._consumer = Consumer({"bootstrap.servers": self._bootstrap, **_OPTIONS}, logger=_silent())
        self._consumer.assign(self._wait_partitions(self._topics, deadline))
        self._running.set()
        self._thread.start()
        return self

    def follow(self, topic: str, deadline: float = 20.0) -> None:
        """Read this topic too, from its beginning. Raises NotInTime if it does not appear."""
        self._to_follow += self._wait_partitions([topic], deadline)
        self._topics.append(topic)

    def stop(self) -> None:
        if self._running.is_set():
            self._running.clear()
            self._thread.join()
            self._consumer.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_partitions(self, topics: Sequence[str], deadline: float) -> list[TopicPartition]:
        what = f"Kafka has the topics {', '.join(topics)}"
        with self._asking() as kafka:
            return wait_until(lambda: self._partitions(kafka, topics), deadline, what) or []

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Consumer]:
        """A second consumer for queries: a consumer that another thread polls never answers them."""
        asking = Consumer({"bootstrap.servers": self._bootstrap, **_OPTIONS}, logger=_silent())
        try:
            yield asking
        finally:
            asking.close()

    def _partitions(self, kafka: Consumer, topics: Sequence[str]) -> list[TopicPartition] | None:
        """All partitions with their start offsets; None while one is unknown or has no leader."""
        found = []
        try:
            for topic in topics:
                numbers = kafka.list_topics(topic, timeout=2.0).topics[topic].partitions
                if not numbers:
                    return None
                for number in numbers:
                    partition = TopicPartition(topic, number, OFFSET_BEGINNING)
                    if self._from_now:
                        _, partition.offset = kafka.get_watermark_offsets(partition, timeout=2.0)
                    found.append(partition)
        except KafkaException:
            return None
        return found

    def _run(self) -> None:
        try:
            while self._running.is_set():
                if self._to_follow:
                    partitions, self._to_follow = self._to_follow, []
                    self._consumer.incremental_assign(partitions)
                for message in self._consumer.consume(1000, timeout=0.1):
                    error = message.error()
                    if error is None:
                        self._add(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        self._read_to[f"{message.topic()}/{message.partition()}"] = message.offset()
                    # else a broker is away, and the library asks again
        except BaseException as error:
            self._failure = error

    def _add(self, message: Any) -> None:
        name = id_of(message.value() or b"")
        if name is None:
            self.foreign += 1
            return
        headers = dict(message.headers() or ())
        mqtt_topic = headers.get("mqtt.topic", message.key() or b"").decode()
        partition = f"{message.topic()}/{message.partition()}"
        record = Record(name, partition, message.offset(), mqtt_topic, int(headers.get("mqtt.qos", b"1")))
        with self._lock:
            before = self._evidence.delivered
            self._evidence.add(record)
            is_new = self._evidence.delivered > before
        if is_new:
            now = time.monotonic()
            self.stall = max(self.stall, now - self._last_new.get(partition, now))
            self._last_new[partition] = now


def _silent() -> logging.Logger:
    """A silent logger for librdkafka, which reports each broker that a test kills."""
    silent = logging.getLogger("tests.verifier.librdkafka")
    silent.propagate = False
    silent.addHandler(logging.NullHandler())  # without a handler, logging prints the messages anyway
    return silent
