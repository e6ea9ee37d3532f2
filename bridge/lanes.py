"""One lane for each Kafka topic: whether its messages may be produced, and in which order they wait.

Pure: no Kafka, no clock of its own. A lane goes through these states:

    ASKING     the topic's limit is being asked of Kafka; messages wait
    LIVE       messages are produced as they come; nothing waits
    HELD       something is wrong that time or a person can cure; asked again at `retry_at`
    DRAINING   nothing is produced until all that is in flight was reported
    PROBING    the first message that waits is in flight, alone

    ASKING --answer--> LIVE, or after a failure DRAINING --all reported--> PROBING --delivered--> LIVE
    ASKING --no answer, or no such topic--> HELD --retry_at--> ASKING
    any --a report says "not now"--> HELD
    LIVE --a suspect comes--> DRAINING       (suspect: may be what Kafka can never take)

Why probe: a record that Kafka refuses takes its whole batch with it, so only of one that was alone is it
known that it is the bad one. Suspects are what exceeds the topic's limit (it may still fit once it is
compressed) and what failed together with others; each of them is produced alone, in its place.

What always holds: a message is either waiting or in flight; of one lane they are produced in order of
arrival; one whose fate is not known is never given up.
"""

from collections.abc import Iterator
from enum import Enum, auto

from bridge.message import Message

_FIRST_RETRY, _LAST_RETRY = 0.5, 10.0  # seconds; doubled each time
CAUTIOUS_LIMIT = 1_048_588 - 128  # bytes; Kafka's default max.message.bytes, less a batch's overhead


class LaneState(Enum):
    ASKING = auto()
    LIVE = auto()
    HELD = auto()
    DRAINING = auto()
    PROBING = auto()


class Lane:
    """`in_flight` holds what librdkafka has, in order of arrival; `waiting` what it does not have."""

    __slots__ = (
        "_delay",
        "_suspects",
        "_was_held",
        "in_flight",
        "limit",
        "retry_at",
        "state",
        "topic",
        "waiting",
    )

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.state = LaneState.ASKING
        self.limit = CAUTIOUS_LIMIT  # bytes of a record that Kafka takes for certain
        self.in_flight: dict[Message, None] = {}
        self.waiting: list[Message] = []
        self.retry_at = 0.0  # monotonic seconds; while HELD
        self._suspects: set[Message] = set()
        self._was_held = False
        self._delay = _FIRST_RETRY

    # -- messages ------------------------------------------------------------------------------------

    def offer(self, message: Message) -> bool:
        """A message came. True: produce it now. False: it waits here."""
        if self.state is LaneState.LIVE:
            if len(message.payload) + message.plan.overhead <= self.limit or not self._is_suspect(message):
                self.in_flight[message] = None
                return True
            self.state = LaneState.DRAINING
        self.waiting.append(message)
        return False

    def release(self) -> Iterator[Message]:
        """What may be produced now; to be called whenever the lane is not LIVE and something changed.

        A message is in flight from the moment it is yielded.
        """
        if self.state is LaneState.DRAINING and not self.in_flight:
            self.waiting.sort(key=_arrival)
            if self.waiting and (self._was_held or self._is_suspect(self.waiting[0])):
                self.state = LaneState.PROBING
                yield self._launch(self.waiting.pop(0))
                return
            self.state = LaneState.LIVE
        if self.state is LaneState.LIVE and self.waiting:
            waiting, self.waiting = self.waiting, []
            for position, message in enumerate(waiting):
                if self.state is not LaneState.LIVE or self._is_suspect(message):
                    if self.state is LaneState.LIVE:
                        self.state = LaneState.DRAINING
                    self.waiting = waiting[position:] + self.waiting
                    return
                yield self._launch(message)

    # -- reports -------------------------------------------------------------------------------------

    def delivered(self, message: Message) -> None:
        """Kafka holds it."""
        del self.in_flight[message]
        if self.state is not LaneState.LIVE:
            self._progress(message)

    def given_up(self, message: Message) -> None:
        """It was alone, and Kafka can never take it."""
        del self.in_flight[message]
        self._progress(message)

    def failed(self, message: Message, now: float) -> None:
        """Not now: it is produced again, in its place, when the lane is no longer held."""
        del self.in_flight[message]
        self.waiting.append(message)
        if self.state is not LaneState.HELD:
            self._was_held = True
            self._hold(now)

    def suspect(self, message: Message) -> None:
        """It failed in company, of something that may be its own fault: it is produced again, alone."""
        del self.in_flight[message]
        self.waiting.append(message)
        self._suspects.add(message)
        if self.state is not LaneState.HELD:
            self.state = LaneState.DRAINING

    def drain(self) -> None:
        """Another producer comes: what this one has in flight must be reported first, to keep the order."""
        if self.state is LaneState.LIVE:
            self.state = LaneState.DRAINING

    def is_alone(self, message: Message) -> bool:
        return self.state is LaneState.PROBING and message in self.in_flight

    def start_over(self) -> None:
        """The producer is gone, with all that was in flight: it is produced again by a new one."""
        if self.in_flight and self.state in (LaneState.LIVE, LaneState.PROBING):
            self.state = LaneState.DRAINING
        self.waiting += self.in_flight
        self.in_flight.clear()

    # -- asking about the topic ------------------------------------------------------------------------

    def answered(self, limit: int) -> None:
        """The topic exists and takes records of `limit` bytes."""
        self.limit = limit
        if self.state is LaneState.ASKING:
            self.state = LaneState.DRAINING

    def not_answered(self, now: float) -> None:
        """Kafka is not there, or the topic is not."""
        if self.state is LaneState.ASKING:
            self._hold(now)

    def ask_if_due(self, now: float) -> bool:
        """True: the topic is to be asked about now."""
        if self.state is not LaneState.HELD or now < self.retry_at:
            return False
        self.state = LaneState.ASKING
        return True

    # ------------------------------------------------------------------------------------------------

    def _hold(self, now: float) -> None:
        self.state = LaneState.HELD
        self.retry_at = now + self._delay
        self._delay = min(2 * self._delay, _LAST_RETRY)

    def _launch(self, message: Message) -> Message:
        self.in_flight[message] = None
        return message

    def _progress(self, message: Message) -> None:
        self._suspects.discard(message)
        if self.state is LaneState.PROBING:
            self.state = LaneState.DRAINING
            self._was_held = False
            self._delay = _FIRST_RETRY

    def _is_suspect(self, message: Message) -> bool:
        return message in self._suspects or len(message.payload) + message.plan.overhead > self.limit


def _arrival(message: Message) -> int:
    return message.sequence
