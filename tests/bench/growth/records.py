"""The records of any number of Kafka topics: how many there are, and whether each message is there once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from tests.bench import backlog
from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster

_MANY = 100  # partitions; with fewer a query costs little
_PAUSE = 10  # times as long as a query took: queries about 10,000 topics would otherwise take half a core
_LONGEST_PAUSE = 10.0  # seconds
_AT_ONCE = 500  # partitions in a request: the client must know the leaders of all of them at one moment
_DEADLINE = 120.0  # seconds, of each request: right after it has created 10,000 topics Kafka is busy


@dataclass(frozen=True)
class Found:
    different: int
    copies: int
    """Records after the first of their message."""
    misplaced: int
    """Messages behind a later one of the same MQTT topic."""


class Tally:
    """What was found so far of messages 0 to `count` - 1, which go to `devices` MQTT topics in turn."""

    def __init__(self, count: int, devices: int) -> None:
        self._seen = bytearray(count)
        self._last = [-1] * devices
        self._copies = self._misplaced = 0

    def add(self, number: int) -> None:
        device = number % len(self._last)
        if self._seen[number]:
            self._copies += 1
        elif number < self._last[device]:
            self._misplaced += 1
        self._seen[number] = 1
        self._last[device] = max(self._last[device], number)

    def found(self) -> Found:
        return Found(sum(self._seen), self._copies, self._misplaced)


class Records:
    """What is added to these topics from now on; with `from_the_first`, what is in them already too."""

    def __init__(
        self, kafka: KafkaCluster, topics: Sequence[str], partitions: int, *, from_the_first: bool = False
    ) -> None:
        self._options = {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "bench",  # the library demands one; nothing is committed
            "enable.auto.commit": False,
            "log_level": 0,
        }
        self._asks = Consumer(self._options)
        self._partitions = [(topic, number) for topic in topics for number in range(partitions)]
        self._begin = dict.fromkeys(self._partitions, 0) if from_the_first else self._ends()
        self._size = 0
        self._look_at = 0.0

    def close(self) -> None:
        self._asks.close()

    def size(self) -> int:
        """How many records are committed. With many topics the answer may be seconds old."""
        began = time.monotonic()
        if began >= self._look_at:
            self._size = sum(self._ends().values()) - sum(self._begin.values())
            now = time.monotonic()
            if len(self._partitions) > _MANY:
                self._look_at = now + min((now - began) * _PAUSE, _LONGEST_PAUSE)
        return self._size

    def read(
        self,
        tally: Tally,
        number_of: Callable[[bytes | None], int] = backlog.number_of,
        deadline: float = 300.0,
    ) -> Found:
        """Read all current records. Raises ValueError for a record that the bench did not produce."""
        ends = self._ends()
        # An assigned partition costs, even an empty one.
        left = {each for each, offset in self._begin.items() if ends[each] > offset}
        # Records can't be counted down to 0: transactions leave marks among them, which nobody can read.
        consumer = Consumer(self._options | {"enable.partition.eof": True})
        try:
            consumer.assign([TopicPartition(*each, self._begin[each]) for each in left])
            until = time.monotonic() + deadline
            while left and time.monotonic() < until:
                for message in consumer.consume(10_000, timeout=1.0):
                    if (error := message.error()) is None:
                        tally.add(number_of(message.value()))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        left.discard((message.topic(), message.partition()))
        finally:
            consumer.close()
        return tally.found()

    def _ends(self) -> dict[tuple[str, int], int]:
        found: dict[tuple[str, int], int] = {}
        for first in range(0, len(self._partitions), _AT_ONCE):
            found |= self._ends_of(self._partitions[first : first + _AT_ONCE])
        return found

    def _ends_of(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        found: list[TopicPartition] = []
        trouble = ""

        def answered() -> bool:
            nonlocal trouble
            wanted = [TopicPartition(*each, OFFSET_END) for each in partitions]
            try:
                # ListOffsets takes this for a time, and means the end. One request asks about all of these.
                found[:] = self._asks.offsets_for_times(wanted, timeout=60.0)
            except KafkaException as error:
                trouble = str(error)
                self._asks.close()  # it may go on to believe that a topic is not there
                self._asks = Consumer(self._options)
                return False
            # Right after a topic's creation the error is "not leader".
            trouble = next((f"{each.topic}: {each.error}" for each in found if each.error), "")
            return len(found) == len(wanted) and not trouble

        wait_until(answered, _DEADLINE, lambda: f"Kafka tells the ends of all partitions ({trouble})")
        return {(each.topic, each.partition): each.offset for each in found}
