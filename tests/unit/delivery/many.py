"""A Kafka and a disk for tests with many Kafka topics: they keep what they get, by topic."""

from collections import deque
from collections.abc import Sequence
from random import Random

from bridge.delivery.results import (
    Failure,
    Hold,
    NoTopicAnswer,
    ReadBack,
    Refused,
    TopicAnswer,
    Verdict,
    Written,
)
from bridge.delivery.segment import Segment, Wanted, unpack
from bridge.message import Message
from bridge.spool.store import Backlog
from tests.unit.delivery.world import Disk, Kafka, World


class Cluster(Kafka):
    """Kafka: what it stores, in order, and which topics it has not, forbids, or does not answer for.

    A topic in `leaderless` is there, but its partitions have no leader.
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.stored: dict[str, list[bytes]] = {}
        self.wrong: dict[str, Hold] = {}
        self.is_silent = False
        self.leaderless: set[str] = set()
        self._questions: deque[str] = deque()

    def look_up(self, topic: str) -> None:
        super().look_up(topic)
        if topic not in self._questions:
            self._questions.append(topic)

    def answer_all(self) -> None:
        while self._questions:
            topic = self._questions.popleft()
            hold = self.wrong.get(topic)
            if hold is Hold.MISSING:
                self.answers.append(TopicAnswer(topic, exists=False, way_out="create it"))
            elif hold is Hold.UNANSWERED:
                self.answers.append(NoTopicAnswer(topic, "timed out"))
            else:  # a user who may not write may see the topic
                self.answers.append(TopicAnswer(topic, exists=True, limit=1_000_000))

    @property
    def has_questions(self) -> bool:
        return bool(self._questions or self.answers)

    def report(self, share: float) -> None:
        """Confirm or fail some of what is in flight; of one topic in order."""
        if self.is_silent:
            return
        stops: set[str] = set()
        left: list[Message] = []
        for message in self.in_flight:
            topic = message.plan.kafka_topic
            if topic in self.leaderless:
                left.append(message)
            elif hold := self.wrong.get(topic):
                self._failures.append(Failure(message, Verdict.NOT_NOW, "why", hold))
            elif topic in stops or self.random.random() > share:
                stops.add(topic)
                left.append(message)
            else:
                self.stored.setdefault(topic, []).append(message.payload)
                self.delivered.append(message)
        self.in_flight = deque(left)


class Rows(Disk):
    """A disk whose rows have topics, which reads no more than it is asked for, and answers later."""

    def __init__(self) -> None:
        super().__init__(moves=False)
        self.is_quick = False
        self.by_topic: dict[str, dict[int, bytes]] = {}
        self._reads: list[tuple[str, Wanted]] = []

    def read(self, topic: str, wanted: Wanted) -> None:
        self._reads.append((topic, wanted))

    @property
    def has_reads(self) -> bool:
        return bool(self._reads)

    def answer_reads(self) -> None:
        reads, self._reads = self._reads, []
        for topic, wanted in reads:
            found: list[Segment] = []
            messages, size = wanted.messages, wanted.size
            rows = self.by_topic.get(topic, {})
            for first in sorted(rows):
                if wanted.after < first <= wanted.last and (not found or (messages > 0 and size > 0)):
                    found.append(Segment(unpack(rows[first])))
                    messages -= found[-1].count
                    size -= len(rows[first])
            self.results.append(ReadBack(topic, found))

    def delete(self, topic: str, segments: Sequence[Segment]) -> None:
        for segment in segments:
            del self.by_topic[topic][segment.first]

    def finish(self, works: bool) -> None:
        self.answer_reads()
        writing, self._writing = self._writing, []
        if not writing:
            return
        segments = [(topic, segment) for topic, segment, _ in writing]
        if not works:
            self.results.append(Refused(segments, [], is_full=True, reason="full"))
            return
        for topic, segment, body in writing:
            self.by_topic.setdefault(topic, {})[segment.first] = body
        self.results.append(Written(segments, []))

    def backlogs(self) -> list[Backlog]:
        found = []
        for topic, rows in self.by_topic.items():
            messages = [message for body in rows.values() for message in unpack(body)]
            if messages:
                size, last = sum(map(len, rows.values())), max(each.sequence for each in messages)
                found.append(Backlog(topic, len(messages), size, last))
        return found


def join(world: World, kafka: Cluster, disk: Rows) -> World:
    """Have the world use this Kafka and this disk instead of its own."""
    world.kafka = world.pipeline._kafka = world.pipeline._held._kafka = kafka
    world.disk = world.pipeline._spool = world.pipeline._spooling._spool = disk
    return world
