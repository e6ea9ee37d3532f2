"""A stand-in for pipeline and lanes: messages go to a real spool, and from there through Kafka transactions.

It runs the real loop, disk thread and transactional cluster in the caller's thread. `until` runs it for as
long as a test wants. Each message is held back after a failure until `retry`, but for those of other topics.
"""

import faulthandler
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from bridge.delivery.results import Failure, Moved, ReadBack, Refused, Verdict, Written
from bridge.delivery.segment import Segment, Wanted, cut
from bridge.kafka.transactional_cluster import TransactionalCluster
from bridge.loop import Loop
from bridge.message import Message
from bridge.routing.plan import plain_plan
from bridge.settings import KafkaSettings, SpoolSettings
from bridge.spool.spool import Spool
from tests.harness.conditions import NotInTime, patient

_ALL = 10**9


class Drain:
    """`delivered`, `refused`: payloads. `failures`: what the cluster has reported, but for RETURNED."""

    def __init__(
        self, kafka: str | dict[str, Any], directory: Path, transactional_id: str = "bridge"
    ) -> None:
        """`kafka`: the bootstrap servers, or all of [kafka]'s settings."""
        settings = KafkaSettings(**(kafka if isinstance(kafka, dict) else {"bootstrap_servers": kafka}))
        self.loop = Loop()
        self.cluster = TransactionalCluster(settings, self.loop, transactional_id, transactional_id)
        self.spool = Spool(
            SpoolSettings(),
            directory,
            self.loop,
            "routes",
            lambda t: (t.decode(), ""),
            "",
            keeps_journal=True,
        )
        self.cluster.use(self.spool)
        self.delivered: list[bytes] = []
        self.refused: list[bytes] = []
        self.failures: list[Failure] = []
        self._sequence = max((each.last for each in self.spool.backlogs), default=0)
        self._plans: dict[str, Any] = {}
        self._segments: dict[Message, Segment] = {}
        self._unwritten: list[tuple[str, Segment]] = []
        self.waiting: dict[str, list[Message]] = {}
        self.in_flight: set[Message] = set()
        self._left: dict[Segment, int] = {}
        self._reading = self._writing = 0  # rows that were asked for, segments under way to the disk
        self.held: set[str] = set()
        self._moves = self.spool.moves
        if not self._moves:
            self._read(self.spool.backlogs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.cluster.close()
        self.spool.finish()
        self.spool.close([])

    # -- messages --------------------------------------------------------------------------------------

    def write(self, topic: str, payloads: Sequence[bytes]) -> None:
        """Have messages written to disk; they go to Kafka once they are there."""
        messages = []
        for payload in payloads:
            message = Message.of(topic.encode(), 0x02, 1, None, payload)
            self._sequence += 1
            message.sequence, message.plan = self._sequence, self._plan(topic)
            message.timestamp = -1
            messages.append(message)
        self._unwritten += [(topic, segment) for segment in cut(messages)]

    def retry(self) -> None:
        """Try the messages of held topics again."""
        self.held.clear()

    @property
    def is_on_disk(self) -> bool:
        return not (self._unwritten or self._writing)

    @property
    def is_done(self) -> bool:
        waits = self._unwritten or self._writing or self._reading or self._moves or self.in_flight
        return not waits and not any(self.waiting.values())

    # -- the loop --------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        ends = time.monotonic() + patient(seconds)
        while not condition():
            if time.monotonic() >= ends:
                faulthandler.dump_traceback(sys.__stderr__)
                raise NotInTime(f"not within {seconds} s: {what}; {self.cluster.transactions}")
            self.turn()
            self.loop.wait(0.05)

    def turn(self) -> None:
        self.cluster.poll()
        for failure in self.cluster.take_failures():
            self._failed(failure)
        for message in self.cluster.take_delivered():
            self.delivered.append(message.payload)
            self._finished(message)
        while self.spool.results:
            self._take(self.spool.results.popleft())
        if self._unwritten and self.spool.accepts:
            for topic, segment in self._unwritten[:200]:
                self.spool.write(topic, [segment])
            self._writing += len(self._unwritten[:200])
            self._unwritten = self._unwritten[200:]
        waits = self._moves or self._reading  # new messages must not overtake what is on disk
        for topic, messages in self.waiting.items():
            if topic not in self.held and messages and not waits:
                messages.sort(key=lambda message: message.sequence)
                self.in_flight.update(messages)
                self.cluster.produce(messages, self._failed)
                self.waiting[topic] = []
        self.spool.turn(time.monotonic())

    def _take(self, result: object) -> None:
        if isinstance(result, Written):
            self._writing -= len(result.segments)
            for topic, segment in result.segments:
                self._known(topic, segment, segment.messages)
        elif isinstance(result, Refused):
            self._writing -= len(result.segments)
            self._unwritten = result.segments + self._unwritten
        elif isinstance(result, ReadBack):
            self._reading -= 1
            for segment in result.segments:
                self._known(result.topic, segment, segment.messages)
        elif isinstance(result, Moved):
            self._moves = False
            self._read(result.found)

    def _read(self, found: Sequence[Any]) -> None:
        for each in found:
            self._reading += 1
            self.spool.read(each.topic, Wanted(0, each.last, _ALL, _ALL))

    def _known(self, topic: str, segment: Segment, messages: Sequence[Message]) -> None:
        self._left[segment] = segment.count
        for message in messages:
            message.plan = self._plan(topic)
            self._segments[message] = segment
        self.waiting.setdefault(topic, []).extend(messages)

    def _plan(self, topic: str) -> Any:
        if topic not in self._plans:
            plan = self._plans[topic] = plain_plan(topic.encode(), topic)
            plan.lane = SimpleNamespace(rows=SimpleNamespace(row_of=self._segments.get))
        return self._plans[topic]

    def _failed(self, failure: Failure) -> None:
        message = failure.message
        topic = message.plan.kafka_topic
        self.held.add(topic)
        if failure.verdict is not Verdict.RETURNED:
            self.failures.append(failure)
        if failure.verdict in (Verdict.TOO_LARGE, Verdict.INVALID):
            self.refused.append(message.payload)
            self._finished(message)
        else:
            self.in_flight.discard(message)
            self.waiting[topic].append(message)

    def _finished(self, message: Message) -> None:
        self.in_flight.discard(message)
        segment = self._segments.pop(message)
        self._left[segment] -= 1
        if not self._left[segment]:
            del self._left[segment]
            self.spool.delete(message.plan.kafka_topic, [segment])
