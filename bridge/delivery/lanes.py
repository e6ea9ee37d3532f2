"""A lane for each Kafka topic: whether its messages may be produced, and where they wait, in which order.

A lane is one Kafka topic as the bridge sees it. Pure: no Kafka, no disk, no clock of its own. A lane is in
one of these states:

    ASKING     the bridge asks Kafka for the topic's limit, the largest record that the topic takes
    LIVE       the bridge produces messages as they arrive; no message waits, none is on disk
    SPOOLING   Kafka is late: arriving messages are written to disk too, and produced in their turn
    HELD       something is wrong that time or a person can cure; the bridge asks Kafka again at `retry_at`,
               or in the lane's turn, if many are held (held_lanes.py)
    DRAINING   nothing is produced until Kafka has reported on all messages in flight
    PROBING    the first waiting message is in flight, alone
    IDLE       as LIVE, but no message has come for a while
    FORGOTTEN  the pipeline has no such lane any more; the topic's next message makes a new one

    ASKING --answer--> DRAINING
    ASKING --no answer, or no such topic--> HELD --retry_at--> ASKING
    any --a report says "not now"--> HELD
    LIVE or SPOOLING --a suspect is next, or a message became one--> DRAINING
    DRAINING --nothing in flight; a suspect is next, or any message if the lane was held--> PROBING
    DRAINING --nothing in flight, otherwise--> LIVE
    PROBING --delivered, or given up as a dead letter--> DRAINING
    LIVE --the oldest message is late--> SPOOLING --not late any more, and no row is left--> LIVE
    LIVE --a large message arrives, and `room` bytes are in flight--> SPOOLING --no message waits--> LIVE
    LIVE --`rest`, nothing in flight--> IDLE --a message arrives--> LIVE
    IDLE --`forget`--> FORGOTTEN
    Wherever this table says LIVE, the lane is SPOOLING while Kafka is late or rows are left.

A suspect is a message that Kafka may never take: it exceeds the topic's limit (it may still fit once it is
compressed), or it failed together with others. If Kafka refuses a record, it refuses the record's whole
batch. So the bridge knows that a record is the bad one only if that record was in flight alone. The bridge
probes each suspect: it produces the suspect alone, in its place in the order.

A lane that is HELD until a person acts (the topic is missing, or forbidden) is late at once, and stays late
until Kafka says that the topic is there: its messages go to disk alone, and the broker's window is free for
other topics.

A message in flight is in memory twice, and an MQTT window full of large messages would need more memory than
a Pi has. So while `room` bytes are in flight, arriving large messages wait here, whether Kafka is late or
not. Small messages do not make a LIVE lane wait: the window limits them well enough. All lanes share one
room (room.py).

With delivery exactly-once (`through_disk`) all messages go to disk, whether Kafka is late or not, and are
produced once they are there, synced: Kafka must not hold a message that a crash would take from this machine.
Where this table says LIVE, such a lane is SPOOLING.

A lane's messages are in four places, in this order, which is the order of their arrival:

    in_flight   librdkafka has them                          in memory
    waiting     produced next                                in memory
    stored      on disk alone, read when there is room       only counted
    behind      written next, and then stored                in memory

While Kafka is late, every message that is not on disk yet is written to disk, wherever it is in this order,
in segments (segment.py). Messages in `in_flight` and `waiting` also stay in memory. A segment is deleted when
Kafka has confirmed all of its messages. So after a crash the bridge produces again the messages in flight,
and those messages that Kafka had confirmed from segments that were not finished. A message is on disk alone
only if it did not fit into `room`, or was on disk before the start. While there is such a message, all
arriving messages go to disk alone too, or they would overtake it.

These rules always hold:

* The messages of one lane are produced in order of arrival.
* The bridge never gives up a message whose fate it does not know: a message becomes a dead letter only if
  Kafka has refused it while it was in flight alone.
* A message that may have been acknowledged is held by Kafka or the dead letters; or it is in memory and its
  segment is on disk; or it is on disk alone.
* An IDLE or FORGOTTEN lane has no message, in memory or on disk. A FORGOTTEN lane takes none.
* The lane has taken from the room what it has in flight and waiting, unless it is LIVE or IDLE, and what it
  has asked the disk for.
* A segment is deleted only when Kafka or the dead letters hold all of its messages.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from operator import is_

from bridge.delivery.room import Room
from bridge.delivery.rows import Rows
from bridge.delivery.segment import MOST_BYTES, MOST_MESSAGES, Segment, Wanted, at_once
from bridge.message import NO_TIMESTAMP, Message

EVERY_TIMESTAMP = 2**63 - 1  # ms
_FIRST_RETRY, LAST_RETRY = 0.5, 10.0  # seconds; the delay doubles each time
CAUTIOUS_LIMIT = 1_048_588 - 128  # bytes; Kafka's default max.message.bytes, less a batch's overhead
_LEAST_PART = 64  # of the room: the part of it that a lane may have in flight whatever others have
_LARGE = 65_536  # bytes; a LIVE lane checks `room` only for larger records; a hundred small ones are a few MB


class LaneState(Enum):
    ASKING = auto()
    LIVE = auto()
    SPOOLING = auto()
    HELD = auto()
    DRAINING = auto()
    PROBING = auto()
    IDLE = auto()
    FORGOTTEN = auto()


# Used for each message; a look-up in the class takes six times as long.
_LIVE, _SPOOLING = LaneState.LIVE, LaneState.SPOOLING


class Lane:
    """One Kafka topic. A message that is handed in stays in order until Kafka or the dead letters hold it.

    `late`: Kafka has not confirmed a message of this lane within spool.after. `rows`: what the lane has on
    disk. `plain`: a LIVE lane produces a record of at most so many bytes without further checks.
    `is_stirred`, `due`: the lane is in these lists of held_lanes.py. `waits_for_disk`, `waits_for_room`: in
    these queues of spooling.py.
    """

    __slots__ = (
        "_asked",
        "_back",
        "_cleared",
        "_delay",
        "_limit",
        "_needs_a_person",
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
        "due",
        "in_flight",
        "is_stirred",
        "late",
        "plain",
        "retry_at",
        "room",
        "rows",
        "state",
        "through_disk",
        "topic",
        "waiting",
        "waits_for_disk",
        "waits_for_room",
    )

    def __init__(self, topic: str, room: Room, through_disk: bool = False) -> None:
        self.topic = topic
        self.through_disk = through_disk
        self.state = LaneState.ASKING
        self._limit = CAUTIOUS_LIMIT  # bytes of a record that Kafka certainly takes
        self.plain = min(CAUTIOUS_LIMIT, _LARGE)
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
        self._needs_a_person = False
        self._delay = _FIRST_RETRY
        self.rows = Rows(room)
        self._asked = (0, 0)  # messages and bytes that were asked from the disk, and have room
        self._back: dict[bytes | None, int] = {}  # key -> first sequence number that failed, while DRAINING
        self._reordered = 0
        self._unwritten: list[Message] = []  # these are written next
        self._size = 0  # bytes in flight and waiting; only while not LIVE
        self.is_stirred = self.waits_for_disk = self.waits_for_room = False
        self.due = 0.0

    @property
    def spooled(self) -> int:
        """How many messages are on disk that Kafka has not confirmed."""
        return self.rows.stored + self.rows.kept

    @property
    def undelivered(self) -> int:
        """How many messages neither Kafka nor the dead letters hold, in memory and on disk."""
        return len(self.in_flight) + len(self.waiting) + len(self.behind) + self.rows.stored

    @property
    def oldest(self) -> int:
        """The sequence number of the oldest message that Kafka does not hold; 0: there is none.

        Of messages on disk alone, only a number is known that is at most theirs.
        """
        if self.state is _LIVE:
            first = next(iter(self.in_flight), None)
            return first.sequence if first else 0
        numbers = [message.sequence for message in self.waiting]
        numbers += [message.sequence for message in self.in_flight]
        if self.behind:
            numbers.append(self.behind[0].sequence)
        if self.rows.stored:
            numbers.append(self.rows.next_stored)
        return min(numbers, default=0)

    @property
    def has_messages(self) -> bool:
        """Whether neither Kafka nor the dead letters hold some message, in memory or on disk."""
        return bool(self.in_flight or self.rows.stored or self.waiting or self.behind)

    @property
    def waits(self) -> bool:
        """Whether messages wait longer than usual, in a lane that is not LIVE.

        With delivery exactly-once all messages wait for a moment; those of a held lane are not late where
        none of them was in flight.
        """
        is_usual = self.through_disk and not self.late and self.state is not LaneState.HELD
        return self.has_messages and not is_usual

    @property
    def is_in_memory(self) -> bool:
        """Whether messages are in memory, in flight or waiting, or are being read from disk."""
        return bool(self.in_flight or self.waiting or self._asked[0])

    @property
    def may_produce(self) -> bool:
        """Whether Kafka may take messages that are read from disk."""
        return self.state in (LaneState.SPOOLING, LaneState.DRAINING)

    @property
    def may_calm(self) -> bool:
        """Whether `watch` may find that the lane is no longer late."""
        return self.late and not (self._needs_a_person or self._is_stored_between or self.behind)

    @property
    def unwritten(self) -> int:
        """How many messages `take_unwritten` may have."""
        return len(self._unwritten)

    @property
    def spools(self) -> bool:
        """Whether Kafka is late, or messages are on disk or on their way to disk."""
        return bool(self.late or self.through_disk or self.behind or self.rows)

    # -- messages ------------------------------------------------------------------------------------

    def offer(self, message: Message) -> bool:
        """Take an arriving message. True: produce the message now. False: the message waits in the lane.

        While the lane is LIVE, the pipeline does this itself for records of at most `plain` bytes.
        """
        if self.state is LaneState.IDLE:
            self.state = LaneState.SPOOLING if self.through_disk else _LIVE
        if self.state is _LIVE and (
            len(message.payload) + message.plan.overhead <= self.plain or self._may_fly(message)
        ):
            self.in_flight[message] = None
            return True
        if (
            self._is_stored_between
            or self.behind
            or self._needs_a_person
            or (self._writes_all and not self._has_room)
        ):
            self.behind.append(message)
            self._unwritten.append(message)
        else:
            self._wait(message)
            if self._writes_all:
                self._unwritten.append(message)
        return False

    def release(self) -> Iterator[Message]:
        """Yield the messages that may be produced now. Call this whenever a lane other than LIVE has changed.

        A message is in flight as soon as it is yielded.
        """
        if self.state is LaneState.HELD or self.state is LaneState.ASKING:
            self._leave_memory()
            return
        self._move_up()
        is_first = self.waiting and not self.in_flight and self._is_suspect(self.waiting[0])
        if is_first and self.state is LaneState.SPOOLING:
            self.state = LaneState.DRAINING  # no report will come that has the lane visited once more
        if self.state is LaneState.DRAINING and not self.in_flight:
            self._back.clear()
            if not self.waiting and self._is_stored_between:
                return  # the message to probe has not been read from disk yet
            self.waiting.sort(key=_arrival)
            if self.waiting and (self._was_held or self._is_suspect(self.waiting[0])):
                if not self._may_go(self.waiting[0]):
                    return
                self.state = LaneState.PROBING
                yield self._launch(self.waiting.pop(0))
                return
            self.state = LaneState.SPOOLING
        if self.state is LaneState.SPOOLING:
            waiting, self.waiting = self.waiting, []
            room = self._room_in_flight(waiting)
            # Nearly all messages from disk go this way: the calls of other methods are written out.
            suspects, limit, through_disk, in_flight = (
                self._suspects,
                self._limit,
                self.through_disk,
                self.in_flight,
            )
            for position, message in enumerate(waiting):
                size = len(message.payload)
                is_suspect = message in suspects or size + message.plan.overhead > limit
                if (
                    self.state is not _SPOOLING
                    or is_suspect
                    or room <= 0
                    or (through_disk and not message.state)
                ):
                    if self.state is _SPOOLING and is_suspect:
                        self.state = LaneState.DRAINING
                    self.waiting = waiting[position:] + self.waiting
                    return
                room -= size
                if message.timestamp <= self._refused_up_to:
                    self._leave_out_stamp(message)
                in_flight[message] = None
                yield message
            if self.state is LaneState.SPOOLING and not self.spools and not self.waiting:
                self.state = LaneState.LIVE
                self._unwritten.clear()
                self.room.give_back(len(self.in_flight), self._size)

    # -- reports -------------------------------------------------------------------------------------

    def delivered(self, messages: Sequence[Message]) -> None:
        """Kafka has confirmed these messages. While the lane is LIVE, the pipeline does this itself."""
        if self.state is _LIVE:
            for message in messages:
                del self.in_flight[message]
            return
        for message in messages:
            del self.in_flight[message]
            if self._back and message.sequence > self._back.get(message.plan.key, message.sequence):
                self._reordered += 1
            if message is self._tried:
                self._tried, self._refused_up_to = None, NO_TIMESTAMP
                self._set_plain()
        self._leave_room(messages)
        self.rows.finished(messages)
        self._progress(messages)

    def given_up(self, message: Message) -> None:
        """The message was in flight alone, and Kafka can never take it. `dead_lettered` must follow."""
        del self.in_flight[message]
        self._leave_room((message,))
        self._progress((message,))

    def dead_lettered(self, message: Message) -> None:
        """The message that was given up is on disk as a dead letter."""
        self.rows.finished((message,))

    def failed(self, message: Message, now: float, needs_a_person: bool = False) -> None:
        """Kafka can't take the message now. It is produced again, in its place, after the lane was HELD.

        `needs_a_person`: Kafka takes none until a person acts.
        """
        self._take_back(message)
        if self.state is not LaneState.HELD:
            self._was_held = True
            self._hold(now, needs_a_person)

    def returned(self, message: Message) -> None:
        """Its transaction was thrown away for another message. It is produced again, in its place."""
        self._take_back(message)
        if self.state is LaneState.SPOOLING:
            self.state = LaneState.DRAINING

    def suspect(self, message: Message) -> None:
        """The message failed together with others, perhaps by its own fault. It is produced again, alone."""
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
        """A new producer takes over. To keep the order, the old one first reports its messages in flight."""
        if self.state is LaneState.SPOOLING or (self.state is LaneState.LIVE and self.in_flight):
            self._leave_live(LaneState.DRAINING)

    def rest(self) -> None:
        """Make a LIVE lane IDLE that has nothing in flight, so that `forget` sees whether a message comes."""
        usual = LaneState.SPOOLING if self.through_disk else LaneState.LIVE
        if self.state is not usual or self.has_messages or self.late or self.is_stirred:
            return
        if self.rows.are_gone and not self.refuses_stamps:
            self.state = LaneState.IDLE

    def forget(self) -> bool:
        """Make an IDLE lane FORGOTTEN. False: it is not IDLE."""
        if self.state is LaneState.IDLE:
            self.state = LaneState.FORGOTTEN
        return self.state is LaneState.FORGOTTEN

    def is_alone(self, message: Message) -> bool:
        return self.state is LaneState.PROBING and message in self.in_flight

    def is_large_alone(self, message: Message) -> bool:
        """Whether the message is in flight alone, and larger than what its topic certainly takes."""
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
        """The producer is gone with its messages in flight. A new producer produces them again."""
        if self.in_flight and self.state in (LaneState.LIVE, LaneState.SPOOLING, LaneState.PROBING):
            self._leave_live(LaneState.DRAINING)
        self.waiting += self.in_flight
        self.in_flight.clear()

    # -- the disk ------------------------------------------------------------------------------------

    def open_late(self, last: int) -> None:
        """Messages up to the sequence number `last` were found on disk: those in memory come after them.

        What waits in memory goes to disk behind them. What is in flight may already be in Kafka, before them.
        How many of them belong to this lane is not known yet; `rows.found` follows.
        """
        is_live = self.state in (LaneState.LIVE, LaneState.IDLE)
        self._leave_live(LaneState.SPOOLING if is_live else self.state)
        self.waiting.sort(key=_arrival)
        self.behind.extendleft(reversed(self.waiting))
        self._leave_room(self.waiting)
        self.waiting.clear()
        for messages in (self.in_flight, self.behind):
            for message in messages:
                message.sequence += last
        self._back = {key: sequence + last for key, sequence in self._back.items()}
        candidates = [*self.in_flight, *self.behind] if self._writes_all else list(self.behind)
        # A write that was handed over before is refused, and then `refused` puts its messages back.
        self._unwritten = [message for message in candidates if message not in self.rows]
        self.rows.expect()

    def watch(self, sequence: int) -> None:
        """Set `late`. Messages with a sequence number up to `sequence` arrived over spool.after ago."""
        oldest = next(iter(self.in_flight), None)
        is_late = self._needs_a_person or (oldest is not None and oldest.sequence <= sequence)
        is_late = is_late or any(message.sequence <= sequence for message in self.waiting)
        if is_late and not self.late:
            self._be_late()
        elif not is_late and not (self._is_stored_between or self.behind):
            self.late = False
            if not self.through_disk:
                self._unwritten.clear()

    def take_unwritten(self) -> list[Segment]:
        """Segments to write now, in one commit. `committed` or `refused` must follow for each, in order."""
        pending = [message for message in self._unwritten if not message.state]
        count = at_once(pending)
        self._unwritten = pending[count:]
        pending = pending[:count]
        if not (self.behind and self._is_stored_between):
            return self.rows.cut(pending)
        # A segment of both would keep what is behind the stored rows in memory, and so before them.
        first = self.behind[0].sequence
        ahead = [message for message in pending if message.sequence < first]
        behind = [message for message in pending if message.sequence >= first]
        return self.rows.cut(ahead) + self.rows.cut(behind)

    def committed(self, segment: Segment) -> None:
        """The segment is on disk, synced: its messages may be acknowledged."""
        self.rows.under_way -= 1
        if self._is_next_behind(segment.messages):
            for _ in segment.messages:
                self.behind.popleft()
            self.rows.store(segment)
            return
        self.rows.keep(segment)
        while self.behind and self.rows.is_of(self.behind[0], segment):
            self._wait(self.behind.popleft())

    def refused(self, segments: Sequence[Segment]) -> None:
        """The segments could not be written. Messages that Kafka does not hold yet are written later."""
        again = self.rows.refuse(segments)
        self._unwritten = sorted(again + self._unwritten, key=_arrival) if self.spools else []
        # The room may be exhausted, but this message is in memory anyway, and Kafka may take it.
        is_first = not (self.in_flight or self.waiting or self._is_stored_between)
        if self.behind and is_first and not self._needs_a_person:
            self._wait(self.behind.popleft())

    def wants_rows(self, as_guest: bool = False) -> Wanted | None:
        """Which segments to read from disk now, if any. The caller passes the result to `read`.

        `as_guest`: the lane may have one segment beyond the room.
        """
        if not self.rows.stored or self.rows.reading:
            return None
        if not self.may_produce:
            return None
        used = len(self.in_flight) + len(self.waiting)
        most_messages, most_size = self.room.share(used, self._size)
        messages, size = most_messages - used, most_size - self._size
        if self._was_held or not self._is_worth_a_read(messages, size, most_messages, most_size):
            if used or (self.room.is_exhausted and not as_guest):
                return None  # what is in memory goes first
            messages = size = 1
        usual = self.rows.stored_size // self.rows.stored  # a segment with a larger message has it alone
        self._asked = (
            min(self.rows.stored, max(messages, MOST_MESSAGES)),
            min(self.rows.stored_size, max(size, MOST_BYTES, usual)),
        )
        self.room.take(*self._asked)
        return self.rows.ask(messages, size)

    def read(self, segments: Sequence[Segment]) -> int:
        """Take the segments that were read. If none: the rows can't be read, and stay for the next start.

        Returns how many messages stay on disk for that reason.
        """
        self.room.give_back(*self._asked)
        self._asked = (0, 0)
        for segment in segments:
            for message in segment.messages:
                self._wait(message)
        return self.rows.read(segments)

    # -- asking about the topic ------------------------------------------------------------------------

    def answered(self, limit: int, is_known: bool = True) -> None:
        """Kafka has answered: the topic exists and takes records of `limit` bytes. If not `is_known`,
        the bridge assumes this limit.
        """
        self._limit = limit
        if self.state is not LaneState.HELD:  # HELD: this was about the limit only, a person must still act
            self._needs_a_person = False
        self._set_plain()
        if is_known:
            cleared = {each for each in self._size_suspects if not self._exceeds_limit(each)}
            self._suspects -= cleared
            self._size_suspects -= cleared
            self._cleared.intersection_update(
                [*self.in_flight, *self.waiting]
            )  # what a LIVE lane delivered stays in no set
            self._cleared |= cleared
        if self.state is LaneState.ASKING:
            self.state = LaneState.DRAINING
            if not self._was_held:
                self._delay = _FIRST_RETRY

    def not_answered(self, now: float, needs_a_person: bool = False) -> None:
        """Kafka did not answer, or the topic does not exist, or the bridge may not see it."""
        if self.state is LaneState.ASKING:
            self._hold(now, needs_a_person)

    def ask_if_due(self, now: float) -> bool:
        """True if the bridge must ask Kafka about the topic now. The lane is then ASKING."""
        if self.state is not LaneState.HELD or now < self.retry_at:
            return False
        self.state = LaneState.ASKING
        return True

    # ------------------------------------------------------------------------------------------------

    @property
    def _writes_all(self) -> bool:
        return self.late or self.through_disk

    def _may_go(self, message: Message) -> bool:
        """Whether Kafka may have the message before the disk has."""
        return bool(message.state) or not self.through_disk

    @property
    def _is_stored_between(self) -> bool:
        """Whether messages are on disk alone. Arriving messages must not be produced before them."""
        return bool(self.rows.stored or self.rows.reading)

    @property
    def _has_room(self) -> bool:
        used = len(self.in_flight) + len(self.waiting)
        messages, size = self.room.share(used + self._asked[0], self._size + self._asked[1])
        if used + self._asked[0] < messages and self._size + self._asked[1] < size:
            return True
        return not used and not self.room.is_exhausted

    def _is_worth_a_read(self, messages: int, size: int, most_messages: int, most_size: int) -> bool:
        """Whether to read rows into so much room: it takes all of them, or is half of what may be taken."""
        if messages >= self.rows.stored and size >= self.rows.stored_size:
            return messages > 0 and size > 0
        return 2 * messages >= most_messages > 0 and 2 * size >= most_size > 0

    def _room_in_flight(self, waiting: Sequence[Message]) -> int:
        """How many bytes of these messages may be produced now: in flight they are twice in memory."""
        in_flight = self._size - sum(len(message.payload) for message in waiting)
        used = len(self.in_flight) + len(waiting)
        _, most = self.room.share(used + self._asked[0], self._size + self._asked[1])
        return max(most, self.room.size // _LEAST_PART) - in_flight

    def _may_fly(self, message: Message) -> bool:
        """A message larger than `plain` arrived. True: produce it. False: the lane has left LIVE."""
        if self._tries_stamp and message.timestamp != NO_TIMESTAMP:
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
        """Whether large messages of LIVE lanes fill the room, or others exhaust it."""
        return self.room.is_exhausted or self._size_of_large() >= self.room.size

    def _size_of_large(self) -> int:
        """The bytes that LIVE lanes have in flight which may have large messages. Few have."""
        large = self.room.large
        for lane in [each for each in large if each.state is not _LIVE or not each.in_flight]:
            large.discard(lane)
        large.add(self)
        return sum(len(each.payload) for lane in large for each in lane.in_flight)

    def _leave_out_stamp(self, message: Message) -> None:
        if message.timestamp <= self._refused_up_to and message is not self._tried:
            message.timestamp = NO_TIMESTAMP

    def _set_plain(self) -> None:
        """Nothing is plain while timestamps are to be left out: `offer` does that."""
        self.plain = -1 if self.refuses_stamps else min(self._limit, _LARGE)

    def _leave_live(self, state: LaneState) -> None:
        if self.state in (LaneState.LIVE, LaneState.IDLE):
            self._size = sum(len(message.payload) for message in self.in_flight)
            self.room.take(len(self.in_flight), self._size)
        self.state = state

    def _be_late(self) -> None:
        self.late = True
        if self.state is LaneState.LIVE:
            self._leave_live(LaneState.SPOOLING)
        self._make_room()
        everything = (*self.in_flight, *self.waiting, *self.behind)
        self._unwritten = sorted((each for each in everything if each not in self.rows), key=_arrival)

    def _wait(self, message: Message) -> None:
        self.waiting.append(message)
        self._size += len(message.payload)
        self.room.take(1, len(message.payload))

    def _leave_room(self, messages: Sequence[Message]) -> None:
        size = sum(len(message.payload) for message in messages)
        self._size -= size
        self.room.give_back(len(messages), size)

    def _move_up(self) -> None:
        """If no message is on disk alone, move messages from `behind` to `waiting` while there is room."""
        if not self._is_stored_between:
            while self.behind and self._has_room:
                self._wait(self.behind.popleft())

    def _make_room(self) -> None:
        """Move the last messages from `waiting` to `behind`, and so to disk alone, until `room` suffices.

        The messages that arrived while Kafka was not late were not limited by `room`. All are moved if the
        lane waits for a person. But none is moved before messages that are on their way to disk: those would
        not be stored in order.
        """
        if self._is_stored_between or not self.waiting or (self.behind and self.behind[0] in self.rows):
            return
        self.waiting.sort(key=_arrival)
        newest = max(map(_arrival, self.in_flight), default=0)  # may fail; must then come before `behind`
        while self.waiting and (self._needs_a_person or not self._has_room):
            message = self.waiting[-1]
            if message.sequence < newest or message in self.rows or message in self._suspects:
                break
            self.waiting.pop()
            self._leave_room((message,))
            self.behind.appendleft(message)

    def _leave_memory(self) -> None:
        """The lane is held, and not for the first time or until a person acts: its messages wait on disk."""
        if self._needs_a_person and not self.late:
            self._be_late()
        elif self._needs_a_person:
            self._make_room()
        is_held_again = self._delay > 2 * _FIRST_RETRY
        if not self.waiting or self.in_flight or not (self._needs_a_person or is_held_again):
            return
        self.waiting.sort(key=_arrival)
        if not self._suspects.isdisjoint(self.waiting):
            return
        size = self._size
        before = [len(message.payload) for message in self.waiting]
        if dropped := self.rows.unread(self.waiting):
            self._size -= sum(before[-dropped:])
            self.room.give_back(dropped, size - self._size)

    def _take_back(self, message: Message) -> None:
        if self.state is LaneState.LIVE:
            self._leave_live(LaneState.DRAINING)
        del self.in_flight[message]
        self.waiting.append(message)
        if self.in_flight:
            key = message.plan.key
            self._back[key] = min(message.sequence, self._back.get(key, message.sequence))

    def _hold(self, now: float, needs_a_person: bool) -> None:
        self.state = LaneState.HELD
        self._needs_a_person = needs_a_person  # `release` makes the lane late: it may be running now
        self.retry_at = now + self._delay
        self._delay = min(2 * self._delay, LAST_RETRY)

    def _launch(self, message: Message) -> Message:
        self._leave_out_stamp(message)
        self.in_flight[message] = None
        return message

    def _is_next_behind(self, messages: Sequence[Message]) -> bool:
        """Whether `behind` begins with these messages."""
        return len(self.behind) >= len(messages) and all(map(is_, self.behind, messages))

    def _progress(self, messages: Sequence[Message]) -> None:
        for doubted in (self._suspects, self._size_suspects, self._cleared, self._stamp_suspects):
            if doubted:
                doubted.difference_update(messages)
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
