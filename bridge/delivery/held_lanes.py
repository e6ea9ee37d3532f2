"""Serves the lanes that are not LIVE: looks up topics, produces what waits, hands messages to the disk.

A lane is one Kafka topic as the bridge sees it. lanes.py decides in which state a lane is. This file acts on
that state, for all lanes that are not LIVE, in the loop's thread.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from bridge.delivery.lanes import CAUTIOUS_LIMIT, Lane, LaneState
from bridge.delivery.results import Failure, Hold, NoTopicAnswer, TopicAnswer
from bridge.delivery.spooling import Spooling
from bridge.message import Message
from bridge.observe.events import Event, log


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

    `stirred`: a lane has something to do, so the loop's next turn must come at once.
    """

    def __init__(self, kafka: Kafka, spooling: Spooling, failed: Callable[[Failure], None]) -> None:
        """`failed` is called with each failure that is known as soon as a message is produced."""
        self._kafka = kafka
        self._spooling = spooling
        self._failed = failed
        self._lanes: dict[Lane, Why | None] = {}  # with what was logged last; None: nothing
        self.stirred = False

    def add(self, lane: Lane) -> None:
        """Serve this lane from now on: the lane has left LIVE, or has something new to do."""
        self._lanes.setdefault(lane, None)
        self.stirred = True

    def __bool__(self) -> bool:
        return bool(self._lanes)

    @property
    def lanes(self) -> list[Lane]:
        """The lanes that are not LIVE, in the order in which they hand messages to the disk."""
        return list(self._lanes)

    def why(self, lane: Lane) -> Why | None:
        """Why the lane is held, as it was logged last; None: it is not."""
        return self._lanes.get(lane)

    @property
    def any_in_flight(self) -> bool:
        return any(lane.in_flight for lane in self._lanes)

    @property
    def any_late(self) -> bool:
        return any(lane.late for lane in self._lanes)

    def due_times(self) -> list[float]:
        """The times at which topics of HELD lanes are looked up again, in monotonic seconds."""
        return [lane.retry_at for lane in self._lanes if lane.state is LaneState.HELD]

    def turn(self, now: float) -> None:
        """Look up topics that are due, produce messages that may go, and remove lanes that are LIVE again."""
        for lane in list(self._lanes):
            if lane.ask_if_due(now):
                self._kafka.look_up(lane.topic)
            self._kafka.produce(self._launch(lane), self._failed)
            if reordered := lane.take_reordered():
                log(Event.KAFKA_REORDERED, topic=lane.topic, messages=reordered)
            if self._spooling.see_to(lane):
                self._lanes[lane] = self._lanes.pop(lane)  # now the last one
            if lane.state is LaneState.LIVE and self._lanes.pop(lane):
                log(Event.KAFKA_LANE_LIVE, topic=lane.topic)

    def _launch(self, lane: Lane) -> Iterator[Message]:
        """Yield the messages that the lane releases. The cluster probes a message that may be too large."""
        for message in lane.release():
            if lane.is_large_alone(message):
                self._kafka.probe(message, self._failed)
            else:
                yield message

    def take_answers(self, now: float, lanes: Mapping[str, Lane]) -> None:
        """Handle the answers of topic lookups: Kafka has answered about a topic, or could not be asked."""
        while self._kafka.answers:
            answer = self._kafka.answers.popleft()
            lane = lanes[answer.topic]
            if isinstance(answer, NoTopicAnswer):
                lane.not_answered(now)
                self.log_held(lane, answer.reason, answer.hold)
            elif not answer.exists:
                lane.not_answered(now)
                if self._is_news(lane, Why(Hold.MISSING, "the topic does not exist", answer.way_out)):
                    log(Event.KAFKA_TOPIC_MISSING, topic=lane.topic, way_out=answer.way_out)
            else:
                if answer.limit is None:
                    log(Event.KAFKA_LIMIT_UNKNOWN, topic=lane.topic)
                    lane.answered(CAUTIOUS_LIMIT, is_known=False)
                else:
                    lane.answered(answer.limit)

    def log_held(self, lane: Lane, reason: str, hold: Hold) -> None:
        head, _, way_out = reason.partition("; allow it: ")
        if self._is_news(lane, Why(hold, head, way_out)):
            log(Event.KAFKA_LANE_HELD, topic=lane.topic, reason=reason)

    def _is_news(self, lane: Lane, why: Why) -> bool:
        """Whether to log this: once for each reason, and only for a lane that is HELD."""
        if lane.state is not LaneState.HELD or self._lanes[lane] == why:
            return False
        self._lanes[lane] = why
        return True
