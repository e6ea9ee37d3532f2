"""One lane for each Kafka topic: whether its messages may be produced, and where they wait, in which order.

Pure: no Kafka, no disk, no clock of its own. A lane goes through these states:

    ASKING     the topic's limit is being asked of Kafka
    LIVE       messages are produced as they come; nothing waits, nothing is on disk
    SPOOLING   Kafka is late: what comes is written to disk too, and produced in its turn
    HELD       something is wrong that time or a person can cure; asked again at `retry_at`
    DRAINING   nothing is produced until all that is in flight was reported
    PROBING    the first message that waits is in flight, alone

    ASKING --answer--> LIVE, or after a failure DRAINING --all reported--> PROBING --delivered--> LIVE
    ASKING --no answer, or no such topic--> HELD --retry_at--> ASKING
    any --a report says "not now"--> HELD
    LIVE --a suspect comes--> DRAINING       (suspect: may be what Kafka can never take)
    LIVE --the oldest message is late--> SPOOLING --no longer, and no row is left--> LIVE
    LIVE --a large one comes, and in_flight has its fill--> SPOOLING --nothing waits any more--> LIVE
    Wherever this says LIVE, it is SPOOLING while Kafka is late or rows are left.

Why probe: a record that Kafka refuses takes its whole batch with it, so only of one that was alone is it
known that it is the bad one. Suspects are what exceeds the topic's limit (it may still fit once it is
compressed) and what failed together with others; each of them is produced alone, in its place.

What is in flight is in memory twice, and a window of large messages would be more than a Pi has. So beyond
`room` bytes they wait here, late or not. Small ones are not counted: a window bounds them well enough.

A lane's messages stand in this order, which is that of their arrival:

    in_flight   librdkafka has them                    in memory
    waiting     to be produced next                    in memory
    stored      on disk alone, read when there is room       counted
    behind      to be written, and then stored         in memory

While Kafka is late every message that is not on disk yet is written, wherever it stands, in segments
(segment.py). What is in memory stays there: its segment is deleted when all of it was delivered, so a crash
replays what was in flight, and of the segments just begun the rest. Only beyond `room` a message is on disk
alone. Everything behind what is stored goes that way too, or it would overtake.

What always holds: of one lane messages are produced in order of arrival; one whose fate is not known is
never given up; one that may have been acknowledged is in memory with its segment on disk, or on disk alone;
a segment is deleted only when Kafka holds all of it, or the dead letters do.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from operator import is_

from bridge.delivery.rows import Rows
from bridge.delivery.segment import Segment, Wanted, at_once
from bridge.message import NO_TIMESTAMP, Message

EVERY_TIMESTAMP = 2**63 - 1  # ms
_FIRST_RETRY, _LAST_RETRY = 0.5, 10.0  # seconds; doubled each time
CAUTIOUS_LIMIT = 1_048_588 - 128  # bytes; Kafka's default max.message.bytes, less a batch's overhead
_LARGE = 65_536  # bytes of a record, from which on they are counted; a hundred smaller ones are a few MB


class LaneState(Enum):
    ASKING = auto()
    LIVE = auto()
    SPOOLING = auto()
    HELD = auto()
    DRAINING = auto()
    PROBING = auto()


_LIVE = LaneState.LIVE  # asked of each message twice, and looked up in the class it takes six times as long


@dataclass(frozen=True, slots=True)
class Room:
    """How much of a lane that spools may be in memory, in flight or waiting."""

    messages: int
    size: int  # bytes of payload


class Lane:
    """`late`: Kafka has not confirmed something within spool.after. `rows`: what is on disk of it."""

    __slots__ = (
        "_back",
        "_cleared",
        "_delay",
        "_limit",
        "_refused_up_to",
        "_reordered",
        "_size",
        "_size_suspects",
        "_stamp_suspects",
        "_suspects",
        "_tried",
        "_tries_stamp",
        "_unwritten",
        "_was_held",
        "behind",
        "in_flight",
        "late",
        "plain",
        "retry_at",
        "room",
        "rows",
        "state",
        "topic",
        "waiting",
    )

    def __init__(self, topic: str, room: Room) -> None:
        self.topic = topic
        self.state = LaneState.ASKING
        self._limit = CAUTIOUS_LIMIT  # bytes of a record that Kafka takes for certain
        self.plain = min(CAUTIOUS_LIMIT, _LARGE)  # bytes of a record about which `offer` need not be asked
        self.room = room
        self.in_flight: dict[Message, None] = {}
        self.waiting: list[Message] = []
        self.behind: deque[Message] = deque()
        self.late = False
        self.retry_at = 0.0  # monotonic seconds; while HELD
        self._suspects: set[Message] = set()
        self._size_suspects: set[Message] = set()  # those whose batch was too large
        self._cleared: set[Message] = set()  # those of them that the topic's limit allows
        self._stamp_suspects: set[Message] = set()  # those whose batch failed for a timestamp
        self._refused_up_to = NO_TIMESTAMP  # timestamps up to this one are left out: the topic refuses them
        self._tries_stamp = False  # the next message shows whether the topic still refuses all timestamps
        self._tried: Message | None = None
        self._was_held = False
        self._delay = _FIRST_RETRY
        self.rows = Rows()
        self._back: dict[bytes | None, int] = {}  # key -> first sequence number that failed, while DRAINING
        self._reordered = 0
        self._unwritten: list[Message] = []  # to be written next
        self._size = 0  # bytes in flight and waiting; only while not LIVE

    @property
    def spooled(self) -> int:
        """Messages that are on disk, and not in Kafka as far as is known."""
        return self.rows.stored + self.rows.kept

    @property
    def spools(self) -> bool:
        """Kafka is late, or something is on disk, or on its way there."""
        return bool(self.late or self.behind or self.rows)

    # -- messages ------------------------------------------------------------------------------------

    def offer(self, message: Message) -> bool:
        """A message came. True: produce it now. False: it waits. For a LIVE lane the pipeline does it."""
        if self.state is _LIVE and (
            len(message.payload) + message.plan.overhead <= self.plain or self._may_fly(message)
        ):
            self.in_flight[message] = None
            return True
        if self._is_stored_between or self.behind or (self.late and not self._has_room):
            self.behind.append(message)
            self._unwritten.append(message)
        else:
            self._wait(message)
            if self.late:
                self._unwritten.append(message)
        return False

    def release(self) -> Iterator[Message]:
        """What may be produced now; to be called whenever the lane is not LIVE and something changed.

        A message is in flight from the moment it is yielded.
        """
        self._move_up()
        if self.state is LaneState.DRAINING and not self.in_flight:
            self._back.clear()
            if not self.waiting and self._is_stored_between:
                return  # what is to be probed is being read
            self.waiting.sort(key=_arrival)
            if self.waiting and (self._was_held or self._is_suspect(self.waiting[0])):
                self.state = LaneState.PROBING
                yield self._launch(self.waiting.pop(0))
                return
            self.state = LaneState.SPOOLING
        if self.state is LaneState.SPOOLING:
            waiting, self.waiting = self.waiting, []
            room = self.room.size - self._size + sum(len(message.payload) for message in waiting)
            for position, message in enumerate(waiting):
                is_suspect = self._is_suspect(message)
                if self.state is not LaneState.SPOOLING or is_suspect or room <= 0:
                    if self.state is LaneState.SPOOLING and is_suspect:
                        self.state = LaneState.DRAINING
                    self.waiting = waiting[position:] + self.waiting
                    return
                room -= len(message.payload)
                yield self._launch(message)
            if self.state is LaneState.SPOOLING and not self.spools and not self.waiting:
                self.state = LaneState.LIVE
                self._unwritten.clear()

    # -- reports -------------------------------------------------------------------------------------

    def delivered(self, message: Message) -> None:
        """Kafka holds it. For a LIVE lane the pipeline does it."""
        del self.in_flight[message]
        if self.state is not _LIVE:
            if self._back and message.sequence > self._back.get(message.plan.key, message.sequence):
                self._reordered += 1
            if message is self._tried:
                self._tried, self._refused_up_to = None, NO_TIMESTAMP
                self._set_plain()
            self._size -= len(message.payload)
            self.rows.finished(message)
            self._progress(message)

    def given_up(self, message: Message) -> None:
        """It was alone, and Kafka can never take it. To be followed by `dead_lettered`."""
        del self.in_flight[message]
        self._size -= len(message.payload)
        self._progress(message)

    def dead_lettered(self, message: Message) -> None:
        """The dead letters hold what was given up, on disk."""
        self.rows.finished(message)

    def failed(self, message: Message, now: float) -> None:
        """Not now: it is produced again, in its place, when the lane is no longer held."""
        self._take_back(message)
        if self.state is not LaneState.HELD:
            self._was_held = True
            self._hold(now)

    def suspect(self, message: Message) -> None:
        """It failed in company, of something that may be its own fault: it is produced again, alone."""
        self._take_back(message)
        self._suspects.add(message)
        if self.state is not LaneState.HELD:
            self.state = LaneState.DRAINING

    def suspect_size(self, message: Message) -> None:
        """As `suspect`, for its size or that of its batch.

        Once the topic has told its limit, one that is smaller is no suspect any more, for batches are made
        smaller than the limit, too. One that fails a second time is produced alone.
        """
        if message not in self._cleared:
            self._size_suspects.add(message)
        self.suspect(message)

    def suspect_stamp(self, message: Message) -> None:
        """As `suspect`, for its timestamp."""
        self._stamp_suspects.add(message)
        self.suspect(message)

    def refuse_stamp(self, message: Message, up_to: int) -> None:
        """It was alone, and the topic refuses its timestamp: those up to `up_to` (ms) are left out from now.

        With EVERY_TIMESTAMP all are, until `try_stamp` and a message that is delivered with one.
        """
        self._refused_up_to = max(up_to, self._refused_up_to)
        self._tried = None
        self._set_plain()
        self._suspects -= {message, *self._stamp_suspects}
        self._stamp_suspects.clear()
        self._take_back(message)
        if self.state is not LaneState.HELD:
            self.state = LaneState.DRAINING

    @property
    def refuses_stamps(self) -> bool:
        """The topic refuses the time that this machine's clock shows."""
        return self._refused_up_to == EVERY_TIMESTAMP

    def try_stamp(self) -> None:
        """Have the next message that comes while the lane is LIVE keep its timestamp, alone."""
        self._tries_stamp = self.refuses_stamps

    def drain(self) -> None:
        """Another producer comes: what this one has in flight must be reported first, to keep the order."""
        if self.state in (LaneState.LIVE, LaneState.SPOOLING):
            self._leave_live(LaneState.DRAINING)

    def is_alone(self, message: Message) -> bool:
        return self.state is LaneState.PROBING and message in self.in_flight

    def is_large_alone(self, message: Message) -> bool:
        """It is alone, and larger than what its topic takes for certain."""
        return self.is_alone(message) and self._exceeds_limit(message)

    def take_reordered(self) -> int:
        """How many messages Kafka stored before an older one with the same key, which had failed. Since the
        last call, and once all that was in flight is reported.
        """
        if not self._reordered or (self._back and self.in_flight):
            return 0
        reordered, self._reordered = self._reordered, 0
        return reordered

    def start_over(self) -> None:
        """The producer is gone, with all that was in flight: it is produced again by a new one."""
        if self.in_flight and self.state in (LaneState.LIVE, LaneState.SPOOLING, LaneState.PROBING):
            self._leave_live(LaneState.DRAINING)
        self.waiting += self.in_flight
        self.in_flight.clear()

    # -- the disk ------------------------------------------------------------------------------------

    def watch(self, sequence: int) -> None:
        """All that came up to `sequence` is older than spool.after. Sets `late`."""
        oldest = next(iter(self.in_flight), None)
        is_late = oldest is not None and oldest.sequence <= sequence
        is_late = is_late or any(message.sequence <= sequence for message in self.waiting)
        if is_late and not self.late:
            self.late = True
            if self.state is LaneState.LIVE:
                self._leave_live(LaneState.SPOOLING)
            self._make_room()
            everything = (*self.in_flight, *self.waiting, *self.behind)
            self._unwritten = sorted((each for each in everything if each not in self.rows), key=_arrival)
        elif not is_late and not (self._is_stored_between or self.behind):
            self.late = False
            self._unwritten.clear()

    def take_unwritten(self) -> list[Segment]:
        """What is to be written next, not too much. `committed` or `refused` follows for each, in order."""
        pending = [message for message in self._unwritten if not message.state]
        count = at_once(pending)
        self._unwritten = pending[count:]
        return self.rows.cut(pending[:count])

    def committed(self, segment: Segment) -> None:
        """It is on disk, synced: its messages may be acknowledged."""
        if self._is_next_behind(segment.messages):
            for _ in segment.messages:
                self.behind.popleft()
            self.rows.store(segment)
            return
        self.rows.keep(segment)
        while self.behind and self.rows.is_of(self.behind[0], segment):
            self._wait(self.behind.popleft())

    def refused(self, segments: Sequence[Segment]) -> None:
        """They could not be written: what is still to be delivered is written later."""
        again = self.rows.refuse(segments)
        self._unwritten = sorted(again + self._unwritten, key=_arrival) if self.spools else []

    def wants_rows(self) -> Wanted | None:
        """What is to be read now; `read` follows."""
        if not self.rows.stored or self.rows.reading:
            return None
        if self.state not in (LaneState.SPOOLING, LaneState.DRAINING):
            return None
        messages = self.room.messages - len(self.in_flight) - len(self.waiting)
        size = self.room.size - self._size
        if 2 * messages < self.room.messages or 2 * size < self.room.size:
            return None
        return self.rows.ask(messages, size)

    def read(self, segments: Sequence[Segment]) -> int:
        """What was asked for has come; nothing: it can't be read, and is left to another run.

        Returns how many messages are left so.
        """
        for segment in segments:
            for message in segment.messages:
                self._wait(message)
        return self.rows.read(segments)

    # -- asking about the topic ------------------------------------------------------------------------

    def answered(self, limit: int, is_known: bool = True) -> None:
        """The topic exists and takes records of `limit` bytes; or that is assumed, where it does not tell."""
        self._limit = limit
        self._set_plain()
        if is_known:
            cleared = {each for each in self._size_suspects if not self._exceeds_limit(each)}
            self._suspects -= cleared
            self._size_suspects -= cleared
            self._cleared |= cleared
        if self.state is LaneState.ASKING:
            self.state = LaneState.DRAINING
            if not self._was_held:
                self._delay = _FIRST_RETRY

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

    @property
    def _is_stored_between(self) -> bool:
        """What comes now must not be produced before what is on disk alone."""
        return bool(self.rows.stored or self.rows.reading)

    @property
    def _has_room(self) -> bool:
        used = len(self.in_flight) + len(self.waiting)
        return used < self.room.messages and self._size < self.room.size

    def _may_fly(self, message: Message) -> bool:
        """One came that is not plain. False: the lane is no longer LIVE."""
        if self._tries_stamp:
            self._tries_stamp = False
            self._tried = message
            self._suspects.add(message)
        if self._is_suspect(message):
            self._leave_live(LaneState.DRAINING)
        elif len(message.payload) + message.plan.overhead > _LARGE and self._is_full_of_large():
            self._leave_live(LaneState.SPOOLING)
        else:
            self._leave_out_stamp(message)
        return self.state is LaneState.LIVE

    def _is_full_of_large(self) -> bool:
        return sum(len(each.payload) for each in self.in_flight) >= self.room.size

    def _leave_out_stamp(self, message: Message) -> None:
        if message.timestamp <= self._refused_up_to and message is not self._tried:
            message.timestamp = NO_TIMESTAMP

    def _set_plain(self) -> None:
        """Nothing is plain while timestamps are to be left out: `offer` does that."""
        self.plain = -1 if self.refuses_stamps else min(self._limit, _LARGE)

    def _leave_live(self, state: LaneState) -> None:
        if self.state is LaneState.LIVE:
            self._size = sum(len(message.payload) for message in self.in_flight)
        self.state = state

    def _wait(self, message: Message) -> None:
        self.waiting.append(message)
        self._size += len(message.payload)

    def _move_up(self) -> None:
        """Nothing is stored between: what is behind has its place in memory, as far as there is room."""
        if not self._is_stored_between:
            while self.behind and self._has_room:
                self._wait(self.behind.popleft())

    def _make_room(self) -> None:
        """What came while Kafka was not late is not bounded by `room`: the last of it goes to disk alone."""
        if self._is_stored_between:
            return
        self.waiting.sort(key=_arrival)
        newest = max(map(_arrival, self.in_flight), default=0)  # it may yet come back, before what is behind
        while self.waiting and not self._has_room:
            message = self.waiting[-1]
            if message.sequence < newest or message in self.rows or message in self._suspects:
                break
            self.waiting.pop()
            self._size -= len(message.payload)
            self.behind.appendleft(message)

    def _take_back(self, message: Message) -> None:
        if self.state is LaneState.LIVE:
            self._leave_live(LaneState.DRAINING)
        del self.in_flight[message]
        self.waiting.append(message)
        if self.in_flight:
            key = message.plan.key
            self._back[key] = min(message.sequence, self._back.get(key, message.sequence))

    def _hold(self, now: float) -> None:
        self.state = LaneState.HELD
        self.retry_at = now + self._delay
        self._delay = min(2 * self._delay, _LAST_RETRY)

    def _launch(self, message: Message) -> Message:
        self._leave_out_stamp(message)
        self.in_flight[message] = None
        return message

    def _is_next_behind(self, messages: Sequence[Message]) -> bool:
        """All of them stand at the head of what is behind."""
        return len(self.behind) >= len(messages) and all(map(is_, self.behind, messages))

    def _progress(self, message: Message) -> None:
        self._suspects.discard(message)
        self._size_suspects.discard(message)
        self._cleared.discard(message)
        self._stamp_suspects.discard(message)
        if self.state is LaneState.PROBING:
            self.state = LaneState.DRAINING
            self._was_held = False
            self._delay = _FIRST_RETRY

    def _is_suspect(self, message: Message) -> bool:
        return message in self._suspects or self._exceeds_limit(message)

    def _exceeds_limit(self, message: Message) -> bool:
        return bool(len(message.payload) + message.plan.overhead > self._limit)


def _arrival(message: Message) -> int:
    return message.sequence
