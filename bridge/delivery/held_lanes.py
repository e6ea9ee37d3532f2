"""Serves the lanes that are not LIVE: looks up topics, produces what waits, hands messages to the disk.

A lane is one Kafka topic as the bridge sees it. lanes.py decides in which state a lane is. This file acts on
that state, for all lanes that are not LIVE, in the loop's thread.

There may be ten thousand such lanes, so a turn visits only lanes that are stirred: something has happened to
them (a message, a report, an answer, a result of the disk), or their time has come. A turn visits a bounded
number; the others follow in the next turns, in order, and the session gets its turns in between.

These rules always hold:

* Each lane with something to do is stirred: whoever changes a lane that is not LIVE must `add` it.
* Each HELD lane has an entry in the heap of due times, at its `retry_at`; or it is one of many that are held
  for the same reason, and these are asked about in groups, in turn.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import count, islice
from typing import NamedTuple, Protocol

from bridge.delivery.lanes import CAUTIOUS_LIMIT, LAST_RETRY, Lane, LaneState
from bridge.delivery.results import Failure, Hold, NoTopicAnswer, TopicAnswer
from bridge.delivery.spooling import Spooling
from bridge.message import Message
from bridge.observe.events import Event
from bridge.observe.many_topics import ManyTopics

MOST_VISITS = 100  # lanes in a turn, about 1 ms on a Pi 4
_MOST_ANSWERS = 100  # in a turn
# While more lanes than _FEW are held for one reason, Kafka is asked about a group of them every two seconds:
# those whose last question is the oldest. So questions go on at this rate whichever lanes go away. Missing
# topics need fewer questions: each group brings the answer for all (kafka/topic_lookup.py).
_FEW, _GROUP_EVERY = 16, 2.0
_GROUP, _GROUP_IF_MISSING = 400, 120
_IF_MISSING = 3  # only one of so many times
_ARE_AT_REST = (LaneState.LIVE, LaneState.IDLE, LaneState.FORGOTTEN)
_ARE_HELD = (LaneState.HELD, LaneState.ASKING)
_NEVER = float("inf")


class Kafka(Protocol):
    """The part of kafka.cluster.Cluster that this file uses; its docstrings are there."""

    answers: deque[TopicAnswer | NoTopicAnswer]

    def produce(self, messages: Iterable[Message], failed: Callable[[Failure], None]) -> None: ...
    def probe(self, message: Message, failed: Callable[[Failure], None]) -> None: ...
    def look_up(self, topic: str) -> None: ...


class Why(NamedTuple):
    """Why a lane is held, for people. `way_out`: a command, or empty."""

    hold: Hold
    reason: str
    way_out: str = ""


class HeldLanes:
    """Every lane that is not LIVE.

    `stirred`: those that have something to do. If there are any, the loop's next turn must come at once.
    `flying`: those that had messages in flight when they were visited last, or have some since.
    """

    def __init__(
        self,
        kafka: Kafka,
        spooling: Spooling,
        failed: Callable[[Failure], None],
        many_topics: ManyTopics,
    ) -> None:
        """`failed` is called with each failure that is known as soon as a message is produced."""
        self._kafka = kafka
        self._spooling = spooling
        self._failed = failed
        self._many_topics = many_topics
        self._lanes: dict[Lane, Why | None] = {}  # with what was logged last; None: nothing
        self.stirred: deque[Lane] = deque()
        self.flying: set[Lane] = set()
        # HELD or ASKING, by the reason; of many, those that were asked about last are the last ones.
        self._held: dict[Hold, dict[Lane, None]] = {hold: {} for hold in Hold}
        self._due: list[tuple[float, int, Lane]] = []  # a heap; entries whose time is not `lane.due` are void
        self._numbers = count()
        self._group_at = _NEVER  # when the next groups are asked about, in monotonic seconds

    def add(self, lane: Lane) -> None:
        """Serve this lane from now on: the lane has left LIVE, or has something new to do."""
        if not lane.is_stirred:
            lane.is_stirred = True
            self.stirred.append(lane)
            self._lanes.setdefault(lane, None)
        if lane.in_flight:
            self.flying.add(lane)

    @property
    def lanes(self) -> list[Lane]:
        """The lanes that are not LIVE."""
        return list(self._lanes)

    def why(self, lane: Lane) -> Why | None:
        """Why the lane is held, as it was logged last; None: it is not."""
        return self._lanes.get(lane)

    @property
    def due(self) -> float:
        """When `turn` has something to do although nothing has happened, in monotonic seconds."""
        return min(self._next_due, self._group_at)

    @property
    def _next_due(self) -> float:
        while self._due and self._due[0][0] != self._due[0][2].due:
            heappop(self._due)
        return self._due[0][0] if self._due else _NEVER

    def turn(self, now: float) -> None:
        """Look up topics that are due, produce messages that may go, and remove lanes that are LIVE again."""
        if now >= self._group_at:
            self._ask_groups(now)
        while self._next_due <= now:
            lane = heappop(self._due)[2]
            _unschedule(lane)
            self.add(lane)
        for _ in range(min(len(self.stirred), MOST_VISITS)):
            lane = self.stirred.popleft()
            lane.is_stirred = False
            self._visit(lane, now)

    def _visit(self, lane: Lane, now: float) -> None:
        if lane.ask_if_due(now):
            self._kafka.look_up(lane.topic)
        self._kafka.produce(self._launch(lane), self._failed)
        if reordered := lane.take_reordered():
            self._many_topics.log(Event.KAFKA_REORDERED, topic=lane.topic, messages=reordered)
        self._spooling.see_to(lane)
        if lane.in_flight:
            self.flying.add(lane)
        else:
            self.flying.discard(lane)
        if lane.state in _ARE_AT_REST:
            self.flying.discard(lane)
            if self._lanes.pop(lane, None):
                self._many_topics.log(Event.KAFKA_LANE_LIVE, topic=lane.topic)
        why = self._lanes.get(lane)
        for hold, lanes in self._held.items():
            if lane in lanes and not (why and why.hold is hold and lane.state in _ARE_HELD):
                del lanes[lane]
                _unschedule(lane)
                if len(lanes) == _FEW:  # each of those that are left has its own time again
                    for each in lanes:
                        _unschedule(each)
                        self.add(each)
        if lane.state is not LaneState.HELD:
            lane.due = 0.0
        elif not lane.due:
            self._schedule(lane, now)

    def _launch(self, lane: Lane) -> Iterator[Message]:
        """Yield the messages that the lane releases. The cluster probes a message that may be too large."""
        for message in lane.release():
            if lane.state is LaneState.PROBING and lane.is_large_alone(message):
                self._kafka.probe(message, self._failed)
            else:
                yield message

    def _schedule(self, lane: Lane, now: float) -> None:
        """Have the lane visited at its `retry_at`; or in its turn, if many are held for the same reason."""
        why = self._lanes[lane]
        lanes = self._held[why.hold] if why else {}
        at = min(lane.retry_at, now + LAST_RETRY)
        if len(lanes) > _FEW and lane in lanes:
            lane.due, lane.retry_at = at, _NEVER  # what happens to the lane asks no question
            self._group_at = min(self._group_at, _next_group(now))
        else:
            lane.due = lane.retry_at = at
            heappush(self._due, (at, next(self._numbers), lane))

    def _ask_groups(self, now: float) -> None:
        """Of each reason for which many lanes are held, have some visited whose time has come."""
        self._group_at = _NEVER
        for hold, lanes in self._held.items():
            if len(lanes) <= _FEW:
                continue
            self._group_at = _next_group(now)
            is_missing = hold is Hold.MISSING
            if is_missing and now // _GROUP_EVERY % _IF_MISSING:
                continue
            for lane in list(islice(lanes, _GROUP_IF_MISSING if is_missing else _GROUP)):
                if lane.state is LaneState.HELD and lane.due > now:
                    continue
                lanes[lane] = lanes.pop(lane)  # the last one now
                if lane.state is LaneState.HELD:
                    lane.due, lane.retry_at = 0.0, now
                    self.add(lane)

    def take_answers(self, now: float, lanes: Mapping[str, Lane]) -> None:
        """Handle the answers of topic lookups: Kafka has answered about a topic, or could not be asked."""
        for _ in range(min(len(self._kafka.answers), _MOST_ANSWERS)):
            answer = self._kafka.answers.popleft()
            lane = lanes.get(answer.topic)
            if lane is None or (lane.state is LaneState.LIVE and not isinstance(answer, TopicAnswer)):
                continue  # the lane is forgotten, or goes on as before
            if isinstance(answer, NoTopicAnswer):
                lane.not_answered(now, answer.hold.needs_a_person)
                self.log_held(lane, answer.reason, answer.hold)
            elif not answer.exists:
                lane.not_answered(now, needs_a_person=True)
                if self._is_news(lane, Why(Hold.MISSING, "the topic does not exist", answer.way_out)):
                    self._many_topics.log(Event.KAFKA_TOPIC_MISSING, topic=lane.topic, way_out=answer.way_out)
            else:
                if lane in self._held[Hold.MISSING] and lane.state is LaneState.HELD:
                    lane.ask_if_due(lane.retry_at)  # it exists now: that was found out with another topic
                if answer.limit is None:
                    self._many_topics.log(Event.KAFKA_LIMIT_UNKNOWN, topic=lane.topic)
                    lane.answered(CAUTIOUS_LIMIT, is_known=False)
                else:
                    lane.answered(answer.limit)
            if lane in self._lanes:
                self.add(lane)

    def log_held(self, lane: Lane, reason: str, hold: Hold) -> None:
        head, _, way_out = reason.partition("; allow it: ")
        if self._is_news(lane, Why(hold, head, way_out)):
            self._many_topics.log(Event.KAFKA_LANE_HELD, topic=lane.topic, reason=reason)

    def _is_news(self, lane: Lane, why: Why) -> bool:
        """Whether to log this: once for each reason, and only for a lane that is HELD."""
        if lane.state is not LaneState.HELD:
            return False
        self._held[why.hold].setdefault(lane)
        if self._lanes[lane] == why:
            return False
        self._lanes[lane] = why
        return True


def _next_group(now: float) -> float:
    return (now // _GROUP_EVERY + 1) * _GROUP_EVERY


def _unschedule(lane: Lane) -> None:
    """Take the lane out of its list; it has its own time again. One of many had it as its `due`."""
    if lane.due:
        lane.retry_at = min(lane.retry_at, lane.due)
    lane.due = 0.0
