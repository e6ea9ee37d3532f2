"""Works between the lanes and the disk: finds late lanes, has messages written, read back and deleted.

A lane is one Kafka topic as the bridge sees it. A lane is late while Kafka has not confirmed one of its
messages within spool.after. The messages of late lanes are written to disk; once they are on disk, synced,
they are settled and may be acknowledged. Spooling works for the pipeline, in the loop's thread, and decides
nothing about Kafka.

A lane that has messages to write, or rows to read, is in a queue until the disk or the room accepts them. So
a turn costs what the disk takes, not what waits, and no lane waits behind one that has more.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Protocol

from bridge.delivery.counts import Counts
from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.gathering import ENOUGH, Gathering
from bridge.delivery.journal import Journal, Journaled, Standing
from bridge.delivery.lanes import Lane, LaneState
from bridge.delivery.results import Found, FromDisk, Moved, Opened, ReadBack, Refused, Removed, Written
from bridge.delivery.room import Room
from bridge.delivery.sampled import Sampled
from bridge.delivery.segment import Segment, Wanted, cut
from bridge.message import Message
from bridge.observe.events import Event, log
from bridge.observe.many_topics import ManyTopics

# Messages and bytes of one spooling lane in memory; all have at most twice as many (room.py). So many
# messages may be duplicated if the bridge crashes while it produces rows.
ROOM_MESSAGES, ROOM_SIZE = 8192, 16_000_000
MOST_LANES = 128  # that write in one commit, and that ask for rows in one turn: a turn stays short

_EMQ_QUEUE = 1000  # messages that EMQ queues for a session; EMQ then drops the oldest (EMQX: max_mqueue_len)
_GUEST_STAYS = 1.0  # seconds in which Kafka confirms the segment of a guest, or another one follows
_GUESTS_TRIED = 1000  # lanes of which one may be the next guest
_SAY_AGAIN_AFTER = 60.0  # seconds between two log lines about a full spool
_SAY_PROGRESS_EVERY = 10.0  # seconds between two log lines about the progress
_SAY_WAITING_EVERY = 6  # so many times as long if none of these messages is on its way to Kafka


class Spool(Protocol):
    """The part of spool.spool.Spool that is used here; its docstrings are there."""

    results: deque[FromDisk]
    moves: bool
    journal: Journal | None

    @property
    def accepts(self) -> bool: ...
    @property
    def accepts_more(self) -> bool: ...
    @property
    def releases(self) -> int: ...
    def is_due(self, now: float) -> bool: ...
    def write(self, topic: str, segments: Sequence[Segment]) -> None: ...
    def write_letters(self, letters: Sequence[DeadLetter]) -> None: ...
    def read(self, topic: str, wanted: Wanted) -> None: ...
    def delete(self, topic: str, segments: Sequence[Segment]) -> None: ...
    def replace(self, topic: str, old: Segment, rest: Sequence[Segment]) -> None: ...
    def turn(self, now: float, gathers: bool = ...) -> float: ...
    def stand(self, standing: Standing, forgets: bool) -> None: ...
    def routes_changed(self) -> None: ...


class Spooling:
    """Serves the disk's side of all lanes.

    `sequences_found`: how many sequence numbers the earlier runs' messages have taken in a database that was
    opened late. The pipeline adds them to its own number, and resets the attribute.

    `untried`: how many lanes that wait for room were not asked yet since some was given back. If there are
    any, the loop's next turn must come at once.

    `watch_at`: when `watch` looks for late lanes again, in monotonic seconds. `look_after`: where that is
    over, because nothing was in flight then, `watch` must look so many seconds after the next message.

    `lane` returns a topic's lane, and makes a missing one with `new_lane`. `settle` is called for each
    message that is on disk, synced, and may be acknowledged; `route` for each message that was read back,
    with the Kafka topic of its lane; `journaled` for each row of the journal that is on disk. `through_disk`:
    with delivery exactly-once.
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
        many_topics: ManyTopics,
        journaled: Callable[[Journaled], None] = lambda _: None,
        through_disk: bool = False,
    ) -> None:
        self._journaled = journaled
        self._through_disk = through_disk
        self._gathering = Gathering()
        self._gathered = 0  # messages and PUBRELs that wait for a commit
        self._sampled = sampled
        self._many_topics = many_topics
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
        self.look_after = after / 8
        self.sequences_found = 0
        self._late: set[Lane] = set()  # SPOOL_EMPTY is logged once they have nothing on disk
        self._calming: set[Lane] = set()  # `watch` may find that they are no longer late
        self._writers: deque[Lane] = deque()  # each has messages that are not on disk yet
        self._readers: deque[Lane] = deque()  # each has rows for which there was no room
        self.untried = 0
        self._guest: Lane | None = None  # has, or had, a segment in memory beyond the room
        self._guest_until = 0.0  # when the next guest may follow in any case, in monotonic seconds
        self._unwritten_letters: list[DeadLetter] = []
        self.letters_waiting = 0  # dead letters that are not on disk yet
        self._reads = True
        self._rate = 0.0  # messages that arrive in a second
        self._say_full_at = self._say_progress_at = 0.0
        self._drained = 0  # deliveries counted when the progress was looked at last
        self._silent = 0  # how often the progress was looked at since its last line
        self._has_read = False  # since then
        self.room = Room(ROOM_MESSAGES, ROOM_SIZE)

    def new_lane(self, topic: str) -> Lane:
        lane = Lane(topic, self.room, self._through_disk)
        if self._moves:
            lane.rows.expect()
            self._expecting.append(lane)
        return lane

    def take_up(self, found: Iterable[Found]) -> None:
        """Tell the lanes what is on disk from before the start. Does nothing until rows are moved."""
        for each in () if self._moves else found:
            lane = self._lane(each.topic)
            lane.rows.found(each.messages, each.last, each.size)
            self._counts.restored += each.messages
            self._late.add(lane)

    # -- late lanes ------------------------------------------------------------------------------------

    def watch(
        self, now: float, sequence: int, settled: int, lanes: Iterable[Lane], flying: Iterable[Lane]
    ) -> list[Lane]:
        """Look for messages that Kafka has not confirmed in time. Returns lanes that are late now or no more.

        Messages up to number `settled` are at least on disk. While these are all that could be late, only
        lanes that are `flying` (not LIVE, with messages in flight) are looked at: there may be ten thousand
        `lanes`. Of those, only lanes with messages in memory are looked at.
        """
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
        if when > now - self._after:
            late_up_to = 0
        if late_up_to <= settled:
            lanes = flying
        looked_at = {lane for lane in lanes if lane.in_flight or lane.waiting}
        looked_at |= self._calming
        found = []
        for lane in looked_at:
            was_late = lane.late
            lane.watch(late_up_to)
            if lane.late != was_late:
                found.append(lane)
        return found

    @property
    def any_calming(self) -> bool:
        """Whether `watch` may find that a lane is no longer late."""
        return bool(self._calming)

    # -- at each turn ----------------------------------------------------------------------------------

    def see_to(self, lane: Lane) -> None:
        """Delete rows that Kafka has, and put the lane into the queues for the disk that it needs."""
        if lane.late and lane not in self._late:
            self._late.add(lane)
            self._many_topics.log(Event.SPOOL_LATE, topic=lane.topic)
        if lane.unwritten and not lane.waits_for_disk:
            lane.waits_for_disk = True
            self._writers.append(lane)
        if not lane.waits_for_room:
            self._ask_for_rows(lane)
        if done := lane.rows.take_done():
            self._spool.delete(lane.topic, done)
        if lane.may_calm:
            self._calming.add(lane)
        else:
            self._calming.discard(lane)
        caught_up = lane.state is LaneState.LIVE or (
            lane.through_disk and not (lane.late or lane.rows.stored)
        )
        if caught_up and lane in self._late:
            self._late.discard(lane)
            self._many_topics.log(Event.SPOOL_EMPTY, topic=lane.topic)

    def turn(self, now: float) -> float:
        """Give the disk thread its work. Returns for how many seconds no turn is needed."""
        if self._unwritten_letters and self._spool.accepts:
            letters, self._unwritten_letters = self._unwritten_letters, []
            self._spool.write_letters(letters)
        gathers_for = self._gather(now)
        if self._writers and not gathers_for:
            self._write()
        if self.room.freed:
            self.room.freed = False
            self.untried = len(self._readers)
        if self.untried:
            self._read_in_turn()
        waits_for_guest = bool(self._readers) and self.room.takes_guests
        if waits_for_guest and self._may_be_followed(now):
            self._let_guest_in(now)
        self._counts.spooled = self.room.stored
        if now >= self._say_progress_at:
            self._say_progress(now)
        due = self._spool.turn(now, gathers_for > 0)
        if gathers_for:
            due = min(due, gathers_for)
        return min(due, max(0.0, self._guest_until - now)) if waits_for_guest else due

    def takes_along(self, lane: Lane) -> bool:
        """Whether a message that has just come is written without a turn: with others that wait for more."""
        if not (self._through_disk and lane.waits_for_disk):
            return False
        self._gathered += 1
        return self._gathered < self._gathering.enough

    def _gather(self, now: float) -> float:
        """For how many seconds messages and PUBRELs wait for others, before they are written."""
        spool = self._spool
        if not self._through_disk or not spool.accepts or not (self._writers or spool.releases):
            return 0.0
        waiting = spool.releases
        for lane in islice(self._writers, ENOUGH):
            waiting += lane.unwritten
        self._gathered = waiting
        until = now if spool.is_due(now) else self._gathering.until(now, waiting)
        if until <= now:
            self._gathering.began(now, waiting)
            self._gathered = 0  # what comes during the commit is seen to at its end
            return 0.0
        return until - now

    def _write(self) -> None:
        """Have messages written, lane by lane. A lane that fills the commit is the last one next time."""
        written = 0
        for _ in range(len(self._writers)):
            if written == MOST_LANES or not self._spool.accepts_more:
                return
            lane = self._writers.popleft()
            if segments := lane.take_unwritten():
                self._spool.write(lane.topic, segments)
                written += 1
            lane.waits_for_disk = lane.unwritten > 0
            if lane.waits_for_disk:
                self._writers.append(lane)

    def _ask_for_rows(self, lane: Lane, as_guest: bool = False) -> bool:
        """Have rows read, or put a lane that has some into the queue of those that wait for room.

        Returns whether rows are read now.
        """
        if not self._reads or not lane.rows.stored or lane.rows.reading:
            return False
        if wanted := lane.wants_rows(as_guest):
            self._spool.read(lane.topic, wanted)
            return True
        if lane.may_produce:
            lane.waits_for_room = True
            self._readers.append(lane)
        return False

    def _read_in_turn(self) -> None:
        untried = min(self.untried, len(self._readers))  # a guest may have left the queue
        tried = min(untried, MOST_LANES)
        self.untried = untried - tried
        for _ in range(tried):
            if self.room.is_exhausted:
                self.untried = 0
                return
            lane = self._readers.popleft()
            lane.waits_for_room = False
            self._ask_for_rows(lane)

    def _may_be_followed(self, now: float) -> bool:
        """Whether Kafka has the guest's messages, or has had a while for them."""
        return now >= self._guest_until or (self._guest is not None and not self._guest.is_in_memory)

    def _let_guest_in(self, now: float) -> None:
        """Have one segment read although the room is exhausted, of the next lane with nothing in memory."""
        self._guest, self._guest_until = None, now + _GUEST_STAYS
        for _ in range(min(len(self._readers), _GUESTS_TRIED)):
            lane = self._readers.popleft()
            lane.waits_for_room = False
            if self._ask_for_rows(lane, as_guest=True):
                self._guest = lane
                return

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
            # With delivery exactly-once a row keeps its name, by which the intent of a transaction has it.
            for segment, rest in lane.rows.begun().items() if not self._through_disk else ():
                self._spool.replace(lane.topic, segment, list(cut(rest)))
            self._spool.delete(lane.topic, lane.rows.take_done())

    # -- results of the disk thread --------------------------------------------------------------------

    def take_results(self, lanes: dict[str, Lane]) -> list[Lane]:
        """Handle the results of the disk thread. Returns the lanes that have something new to do.

        A lane that has segments under way, or waits for rows, is never forgotten.
        """
        stirred = []
        while self._spool.results:
            result = self._spool.results.popleft()
            if isinstance(result, ReadBack):
                lane = lanes[result.topic]
                self._has_read = True
                for segment in result.segments:
                    for message in segment.messages:
                        self._route(message, result.topic)
                self._counts.unreadable += lane.read(result.segments)
                stirred.append(lane)
                continue
            if isinstance(result, Journaled):
                self._journaled(result)
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
            stirred += [lanes[each.kafka_topic] for each in result.letters if each.kafka_topic in lanes]
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
            if lane := lanes.get(letter.kafka_topic):
                lane.dead_lettered(letter.message)
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
        self._readers.clear()
        self.untried = 0
        for lane in self._expecting:
            lane.waits_for_room = False
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

    def _say_progress(self, now: float) -> None:
        """Log the progress; seldom while all that is on disk waits for a person, perhaps for days."""
        drained, self._drained = self._counts.delivered - self._drained, self._counts.delivered
        self._silent += 1
        is_under_way = self._has_read or self.room.taken_messages
        is_due = is_under_way or self._silent >= _SAY_WAITING_EVERY
        waits = self._counts.spooled and (self._late or not self._through_disk)
        if waits and self._say_progress_at and is_due:
            log(
                Event.SPOOL_PROGRESS,
                spooled=self._counts.spooled,
                delivered_a_second=round(drained / _SAY_PROGRESS_EVERY),
            )
            self._silent, self._has_read = 0, False
        self._say_progress_at = now + _SAY_PROGRESS_EVERY
