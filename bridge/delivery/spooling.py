"""Works between the lanes and the disk: finds late lanes, has messages written, read back and deleted.

A lane is one Kafka topic as the bridge sees it. A lane is late while Kafka has not confirmed one of its
messages within spool.after. The messages of late lanes are written to disk; once they are on disk, synced,
they are settled and may be acknowledged. Spooling works for the pipeline, in the loop's thread, and decides
nothing about Kafka.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from bridge.delivery.counts import Counts
from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.lanes import Lane, LaneState, Room
from bridge.delivery.results import Found, FromDisk, Moved, Opened, ReadBack, Refused, Removed, Written
from bridge.delivery.sampled import Sampled
from bridge.delivery.segment import Segment, Wanted, cut
from bridge.message import Message
from bridge.observe.events import Event, log

# How much all spooling lanes together may have in memory, and how much each of them may have at least. So
# many messages may be duplicated if the bridge crashes while it produces rows.
_ROOM, _LEAST_ROOM = Room(8192, 16_000_000), Room(64, 256_000)

_EMQ_QUEUE = 1000  # messages that EMQ queues for a session; EMQ then drops the oldest (EMQX: max_mqueue_len)
_SAY_AGAIN_AFTER = 60.0  # seconds between two log lines about a full spool
_SAY_PROGRESS_EVERY = 10.0  # seconds between two log lines about the progress


class Spool(Protocol):
    """The part of spool.spool.Spool that is used here; its docstrings are there."""

    results: deque[FromDisk]
    moves: bool

    @property
    def accepts(self) -> bool: ...
    @property
    def accepts_more(self) -> bool: ...
    def write(self, topic: str, segments: Sequence[Segment]) -> None: ...
    def write_letters(self, letters: Sequence[DeadLetter]) -> None: ...
    def read(self, topic: str, wanted: Wanted) -> None: ...
    def delete(self, topic: str, segments: Sequence[Segment]) -> None: ...
    def replace(self, topic: str, old: Segment, rest: Sequence[Segment]) -> None: ...
    def turn(self, now: float) -> float: ...
    def routes_changed(self) -> None: ...


class Spooling:
    """Serves the disk's side of all lanes.

    `sequences_found`: how many sequence numbers the earlier runs' messages have taken in a database that was
    opened late. The pipeline adds them to its own number, and resets the attribute.

    `watch_at`: when `watch` looks for late lanes again, in monotonic seconds. `lane` returns a topic's lane,
    and makes a missing one with `new_lane`. `settle` is called for each message that is on disk, synced, and
    may be acknowledged; `route` for each message that was read back, with the Kafka topic of its lane.
    """

    def __init__(
        self,
        spool: Spool,
        after: float,
        counts: Counts,
        lane: Callable[[str], Lane],
        settle: Callable[[Message], None],
        route: Callable[[Message, str], None],
        sampled: Sampled,
    ) -> None:
        self._sampled = sampled
        self._spool = spool
        self._moves = spool.moves
        self._after = after
        self._counts = counts
        self._lane = lane
        self._expecting: list[Lane] = []  # lanes that don't know yet what they have on disk
        self._settle = settle
        self._route = route
        self._marks: deque[tuple[float, int]] = deque()  # a time, and the last sequence number at that time
        self.watch_at = 0.0
        self.sequences_found = 0
        self._late: set[Lane] = set()  # SPOOL_EMPTY is logged once they have nothing on disk
        self._unwritten_letters: list[DeadLetter] = []
        self.letters_waiting = 0  # dead letters that are not on disk yet
        self._reads = True
        self._sharing: list[Lane] = []
        self._rate = 0.0  # messages that arrive in a second
        self._say_full_at = self._say_progress_at = 0.0
        self._drained = 0  # deliveries counted at the last progress line
        self.room = _ROOM

    def new_lane(self, topic: str) -> Lane:
        lane = Lane(topic, self.room)
        if self._moves:
            lane.rows.expect()
            self._expecting.append(lane)
        return lane

    def take_up(self, found: Iterable[Found]) -> None:
        """Tell the lanes what is on disk from before the start. Does nothing until rows are moved."""
        for each in () if self._moves else found:
            lane = self._lane(each.topic)
            lane.rows.found(each.messages, each.last)
            self._counts.restored += each.messages
            self._late.add(lane)

    # -- late lanes ------------------------------------------------------------------------------------

    def watch(self, now: float, sequence: int, lanes: Iterable[Lane]) -> list[Lane]:
        """Look for messages that Kafka has not confirmed in time. Returns lanes that have become late."""
        if now < self.watch_at:
            return []
        self.watch_at = now + self._after / 4
        if self._marks:
            before, arrived = self._marks[-1]
            passed = max(now - before, 1e-3)
            self._rate += min(1.0, passed) * ((sequence - arrived) / passed - self._rate)
        self._marks.append((now, sequence))
        while len(self._marks) > 1 and self._marks[1][0] <= now - self._after:
            self._marks.popleft()
        when, late_up_to = self._marks[0]
        found = []
        for lane in lanes:
            was_late = lane.late
            lane.watch(late_up_to if when <= now - self._after else 0)
            if lane.late and not was_late:
                found.append(lane)
                if lane not in self._late:
                    self._late.add(lane)
                    log(Event.SPOOL_LATE, topic=lane.topic)
        return found

    # -- at each turn ----------------------------------------------------------------------------------

    def see_to(self, lane: Lane) -> bool:
        """Read rows if there is room, write messages that are not on disk, delete rows that Kafka has.

        True: the next commit is full with this lane's messages, so another lane comes first next time.
        """
        if self._reads and (wanted := lane.wants_rows()):
            self._spool.read(lane.topic, wanted)
        has_written = False
        if self._spool.accepts_more and (segments := lane.take_unwritten()):
            self._spool.write(lane.topic, segments)
            has_written = True
        if done := lane.rows.take_done():
            self._spool.delete(lane.topic, done)
        if lane.state is LaneState.LIVE and lane in self._late:
            self._late.discard(lane)
            log(Event.SPOOL_EMPTY, topic=lane.topic)
        return has_written and not self._spool.accepts_more

    def turn(self, now: float, lanes: Sequence[Lane]) -> float:
        """Give the disk thread its work. `lanes`: all that are not LIVE. Returns seconds to the next turn."""
        if self._unwritten_letters and self._spool.accepts:
            letters, self._unwritten_letters = self._unwritten_letters, []
            self._spool.write_letters(letters)
        self._share(lanes)
        self._counts.spooled = sum(lane.spooled for lane in lanes)
        if now >= self._say_progress_at:
            self._say_progress(now)
        return self._spool.turn(now)

    def keep_letter(self, letter: DeadLetter) -> None:
        """Have a dead letter written to disk. Once it is there, synced, its message is settled."""
        self._unwritten_letters.append(letter)
        self.letters_waiting += 1

    def read_no_more(self) -> None:
        """The bridge is about to stop: messages on disk stay there for the next start."""
        self._reads = False

    def leave(self, lanes: Iterable[Lane]) -> None:
        """The bridge stops. Delete the messages that Kafka holds, so that the next start reads only the rest.

        Call this after all delivery reports have been handled, the disk thread has finished its job, and
        the job's `results` have been taken.
        """
        for lane in lanes:
            for segment, rest in lane.rows.begun().items():
                self._spool.replace(lane.topic, segment, list(cut(rest)))
            self._spool.delete(lane.topic, lane.rows.take_done())

    # -- results of the disk thread --------------------------------------------------------------------

    def take_results(self, lanes: dict[str, Lane]) -> list[Lane]:
        """Handle the results of the disk thread. Returns the lanes that have something new to do."""
        stirred = []
        while self._spool.results:
            result = self._spool.results.popleft()
            if isinstance(result, ReadBack):
                lane = lanes[result.topic]
                for segment in result.segments:
                    for message in segment.messages:
                        self._route(message, result.topic)
                self._counts.unreadable += lane.read(result.segments)
                stirred.append(lane)
                continue
            if isinstance(result, Removed):
                self._counts.dead_letters_removed += result.letters
                continue
            if isinstance(result, Opened):
                stirred += self._opened(result.last, lanes)
                continue
            if isinstance(result, Moved):
                stirred += self._moved(result)
                continue
            stirred += [lanes[topic] for topic, _ in result.segments]
            if isinstance(result, Written):
                self._written(result, lanes)
            else:
                self._refused(result, lanes)
        return stirred

    def _written(self, result: Written, lanes: dict[str, Lane]) -> None:
        for topic, segment in result.segments:
            messages = segment.messages
            self._counts.spooled_total += segment.count
            if not messages[0].state:
                self._sampled.written(messages[0])
            lanes[topic].committed(segment)
            for message in messages:
                self._settle(message)
        for letter in result.letters:
            if letter.kafka_topic:
                lanes[letter.kafka_topic].dead_lettered(letter.message)
            self._counts.dead_lettered += 1
            self._counts.dead_lettered_by_reason[letter.kind] += 1
            self.letters_waiting -= 1
            self._settle(letter.message)

    def _opened(self, last: int, lanes: dict[str, Lane]) -> list[Lane]:
        """Returns the lanes, which wait until it is known what each of them has on disk."""
        self._moves = True
        self._expecting = list(lanes.values())
        for lane in self._expecting:
            lane.open_late(last)
        self._marks = deque((when, sequence + last) for when, sequence in self._marks)
        self.sequences_found += last
        return self._expecting

    def _moved(self, result: Moved) -> list[Lane]:
        """The rows from before the start have been moved. Returns the lanes that waited for that."""
        if not self._reads:  # the bridge stops: the next start reads them
            return []
        self._moves = False
        waited, self._expecting = self._expecting, []
        for lane in waited:
            lane.rows.found(0, 0)
        self.take_up(result.found)
        return waited

    def _refused(self, result: Refused, lanes: dict[str, Lane]) -> None:
        segments: dict[str, list[Segment]] = {}
        for topic, segment in result.segments:
            segments.setdefault(topic, []).append(segment)
        for topic, refused in segments.items():
            lanes[topic].refused(refused)
        self._unwritten_letters = result.letters + self._unwritten_letters
        now = time.monotonic()
        if result.is_full and now >= self._say_full_at:
            self._say_full_at = now + _SAY_AGAIN_AFTER
            lasts = round(_EMQ_QUEUE / self._rate) if self._rate > 0.1 else None
            log(Event.SPOOL_FULL, reason=result.reason, emq_queue_lasts_seconds=lasts)

    # ------------------------------------------------------------------------------------------------

    def _share(self, lanes: Sequence[Lane]) -> None:
        spooling = [lane for lane in lanes if lane.spools]
        if spooling == self._sharing:
            return
        self._sharing = spooling
        parts = max(1, len(spooling))
        self.room = Room(
            max(_LEAST_ROOM.messages, _ROOM.messages // parts), max(_LEAST_ROOM.size, _ROOM.size // parts)
        )
        for lane in spooling:
            lane.room = self.room

    def _say_progress(self, now: float) -> None:
        drained, self._drained = self._counts.delivered - self._drained, self._counts.delivered
        if self._counts.spooled and self._say_progress_at:
            log(
                Event.SPOOL_PROGRESS,
                spooled=self._counts.spooled,
                delivered_a_second=round(drained / _SAY_PROGRESS_EVERY),
            )
        self._say_progress_at = now + _SAY_PROGRESS_EVERY
