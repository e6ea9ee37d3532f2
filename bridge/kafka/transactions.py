"""Which messages go into which Kafka transaction, and what its end means for them. Pure.

In the mode exactly-once one producer at a time delivers the messages of all lanes, in transactions that are
numbered (delivery/intent.py). This file decides; a thread does what it decides (transaction_thread.py), and
the disk thread writes the intents.

    UNKNOWN    nothing is known yet of what the disk holds
    CLOSED     there is no producer; the next one is opened at `due`
    OPENING    the thread builds a producer, calls init_transactions, and then reads the number in Kafka
    SETTLING   the disk thread takes the verdict about the intent that was on disk at the start
    READY      the producer may begin a transaction
    RUNNING    the transaction is under way in the thread, and its intent on its way to the disk

    UNKNOWN --`remember`--> CLOSED --`next`: Open--> OPENING --`opened`--> READY
    OPENING --`opened`, the first time--> SETTLING --`settled`--> READY --`next`: Run--> RUNNING
    RUNNING --`committed`--> READY; or CLOSED, if the producer may have sent an EndTxn twice
    RUNNING --`refused`, `lost`--> CLOSED
    OPENING --`lost`--> CLOSED

A transaction ends in one of two ways: its commit has returned, promptly; or its producer is thrown away, and
the next one's init_transactions fences the old one and ends what was open. No transaction is aborted, no
commit is tried again, and nothing is produced by a producer that has failed: in Kafka's protocol as
librdkafka speaks it, a request that was delayed and sent again can end the *next* transaction (KAFKA-17754).
That is also why a producer is thrown away although its commit has returned, if the commit took so long that
librdkafka may have sent it twice.

These rules always hold:

* A message that was handed in is in exactly one of these places: `queue`, `doubtful`, the running
  transaction, or it was handed back as delivered or failed.
* Messages of one topic are handed back as delivered in the order in which they were handed in.
* A message is delivered only if its transaction's commit returned, or if its number was read in Kafka after
  the producer had been fenced.
* At most one transaction's outcome is unknown, and no other one begins before it is known.
* A number is used once.
* A transaction may commit only after its intent is synced, and its intent names exactly its messages.
* A failure of one topic's message hands back all messages of the topic, and none of another topic.

A topic at fault fails the transaction of all. So its messages are handed back as failures, which hold its
lane, and when they come again they go into a transaction without any topic that had none of these (`_trial`).
Where transactions fail twice in a row without telling which topic is at fault, all their topics are suspects:
the next one has half of them, and so on, until one is left; what commits is no suspect any more. Where Kafka
confirms records, but too slowly, no topic is at fault: the next transaction has half as many messages.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from bridge.delivery.intent import Intent, IntentVerdict, Memory, Number, Rows, judge
from bridge.message import Message

GATHER = 0.1  # seconds that the first message waits for others, before a transaction begins
MOST_MESSAGES, MOST_BYTES = 20_000, 32_000_000  # of one transaction
_MOST_HALVED = 6  # times, if Kafka does not confirm so much in time
_QUICK, _QUICK_IN_A_ROW = 4.0, 4  # seconds; after so many that take less the next one may be larger
CONFIRM_EVERY = 43_200.0  # seconds; Kafka forgets an offset of a group without members after 7 days
_CONFIRM_FIRST = 3600.0  # seconds after the start, because nobody knows how old the number is
_FIRST_DELAY, _LAST_DELAY = 0.2, 5.0  # seconds until the next producer; doubled until one commits
_FENCED_DELAY, _LAST_FENCED_DELAY = 30.0, 300.0
_CALM = 600.0  # seconds without being fenced
_NEVER = float("inf")
_NOT_CONFIRMED = -192  # librdkafka's _MSG_TIMED_OUT
_UNEXPLAINED = 2  # transactions in a row that failed without telling why, until each topic has its own


class State(Enum):
    UNKNOWN = auto()
    CLOSED = auto()
    OPENING = auto()
    SETTLING = auto()
    READY = auto()
    RUNNING = auto()


@dataclass(frozen=True, slots=True)
class Open:
    """Build a producer, call init_transactions, then read the number. `opened` or `lost` follows."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Run this transaction. `committed`, `refused` or `lost` follows.

    `offset_topic`: partition 0 of this topic has the number. `is_trial`: its topics failed before. `hurries`:
    they did, and others wait, so the thread waits less for Kafka.
    """

    number: int
    messages: list[Message]
    intent: Intent
    offset_topic: str
    is_trial: bool
    hurries: bool


@dataclass(frozen=True, slots=True)
class Settle:
    """Have the disk take the verdict. `settled` follows."""

    is_committed: bool


Command = Open | Run | Settle


@dataclass(slots=True)
class Handed:
    """What the machine hands back: `failed` with None, where another message of the topic has failed."""

    delivered: list[Message] = field(default_factory=list)
    failed: list[tuple[Message, tuple[int, str] | None]] = field(default_factory=list)


class Transactions:
    """`due`: when `next` has something to do although nothing has happened, in monotonic seconds.

    `verdict`: the last one about an unknown outcome. `is_fenced`: another producer has taken the id, and this
    one has not taken it back.
    """

    def __init__(self, run: str, rows_of: Callable[[Iterable[Message]], Rows]) -> None:
        """`run`: the name of this run. `rows_of` names the rows on disk of messages."""
        self.state = State.UNKNOWN
        self.memory = Memory()
        self.verdict: IntentVerdict | None = None
        self.queue: deque[Message] = deque()
        self.doubtful: Run | None = None  # nobody knows whether it has committed
        self.running: Run | None = None
        self.handed = Handed()
        self.due = _NEVER
        self.committed_count = self.failed_count = self.fenced_count = 0
        self.is_fenced = False
        self._is_first = True  # no number was read in this run
        self._run = run
        self._rows_of = rows_of
        self._highest = 0  # number that was ever used
        self._offset_topic = ""  # the last one
        self._first_at = 0.0  # when the first message came into the empty queue
        self._delay = _FIRST_DELAY
        self._lost_runs = 0  # transactions in a row that were lost with their producer
        self._fenced_delay, self._fenced_at = _FENCED_DELAY, -_CALM
        self._trial: set[str] = set()
        self._last_was_special = False
        self._unexplained = 0  # transactions in a row that failed so
        self._replaces = False
        self._suspects: set[str] = set()  # topics of which one may be at fault
        self._committed_at = self._began = 0.0
        self._quick = 0  # transactions in a row that took less than _QUICK
        self._halved = 0  # so often the size of a transaction was halved

    @property
    def is_empty(self) -> bool:
        return not (self.queue or self.doubtful or self.running)

    @property
    def has_open(self) -> bool:
        """Whether the number that `opened` gets decides about a transaction."""
        return self.doubtful is not None or (self._is_first and self.memory.is_open)

    def __repr__(self) -> str:
        counts = f"{len(self.queue)} queued, {self.committed_count} committed, {self.failed_count} failed"
        return f"<Transactions {self.state.name} {self.memory} {counts} {self.verdict} due={self.due:.1f}>"

    # -- messages ------------------------------------------------------------------------------------

    def produce(self, messages: Iterable[Message], now: float) -> None:
        """Take messages that are on disk. They are handed back later."""
        was_empty = not self.queue
        self.queue.extend(messages)
        if was_empty and self.queue:
            self._first_at = now
            if self.state is State.READY:
                self.due = now + GATHER

    def probe(self, message: Message, now: float) -> None:
        """As `produce`, for a message that Kafka may refuse: its topic is on trial."""
        self._trial.add(message.plan.kafka_topic)
        self.produce((message,), now)

    def replace_producer(self, now: float) -> None:
        """Have the next transaction run by a new producer."""
        self._replaces = True
        if self.state is State.READY:
            self._ready(now)

    def take_handed(self) -> Handed:
        handed, self.handed = self.handed, Handed()
        return handed

    # -- what is to be done ----------------------------------------------------------------------------

    def next(self, now: float) -> Command | None:
        """What is to be done now. Call it again after each event, and when it is `due`."""
        if self.state is State.CLOSED and now >= self.due:
            self._be(State.OPENING)
            self._replaces = False
            return Open()
        if self.state is not State.READY:
            return None
        if self.queue:
            if now < self._first_at + GATHER and len(self.queue) < MOST_MESSAGES:
                self.due = self._first_at + GATHER
                return None
            return self._begin(self._pick(), now)
        has_number = self.memory.confirmed and self._offset_topic
        self.due = self._committed_at + CONFIRM_EVERY if has_number else _NEVER
        if now >= self.due:
            return self._begin([], now)  # only the number, so that Kafka does not forget it
        return None

    def _pick(self) -> list[Message]:
        """Take the next transaction's messages off the queue, in order."""
        topics = self._topics_of_next()
        picked: list[Message] = []
        left: deque[Message] = deque()
        size = 0
        is_full = False
        most_messages, most_size = MOST_MESSAGES >> self._halved, MOST_BYTES >> self._halved
        for message in self.queue:
            if not is_full and message.plan.kafka_topic in topics:
                size += len(message.payload)
                is_full = bool(picked) and (len(picked) >= most_messages or size > most_size)
                if not is_full:
                    picked.append(message)
                    continue
            left.append(message)
        self.queue = left
        return picked

    def _topics_of_next(self) -> Collection[str]:
        """Topics that had no failure; in turn those that had one, or half of those that may be at fault."""
        topics = {message.plan.kafka_topic for message in self.queue}
        doubtful = sorted(self._suspects & topics)
        special = set(doubtful[: (len(doubtful) + 1) // 2]) or self._trial & topics
        others = topics - self._suspects - self._trial
        self._last_was_special = bool(special) and not (others and self._last_was_special)
        return special if self._last_was_special else others

    def _begin(self, messages: list[Message], now: float) -> Run:
        topics = {message.plan.kafka_topic for message in messages}
        if topics:
            self._offset_topic = min(topics)
        self._highest += 1
        rows = self._rows_of(messages)
        intent = Intent(self._highest, self._run, rows, self.memory.confirmed, self._offset_topic)
        is_trial = not topics.isdisjoint(self._trial)
        hurries = is_trial and bool(self.queue)
        self.running = Run(self._highest, messages, intent, self._offset_topic, is_trial, hurries)
        self._began = now
        self._first_at = now  # what is left waits no longer than a message that comes now
        self._be(State.RUNNING)
        return self.running

    # -- the disk --------------------------------------------------------------------------------------

    def remember(self, memory: Memory) -> None:
        """The disk was opened. At the start this says what the last run has left."""
        if self.state is State.UNKNOWN:
            self.memory = memory
            self._highest = memory.number
            self._be(State.CLOSED, 0.0)

    def settled(self, now: float) -> None:
        """The disk has taken the verdict."""
        self._ready(now)

    def intended(self, run: Run, spool: str) -> None:
        """The intent is synced, in the spool of this name. A spool that was begun anew has another name."""
        confirmed = run.intent.confirmed if spool == self.memory.spool else 0
        self.memory = Memory(
            spool, run.number, run.intent.run, confirmed, offset_topic=run.intent.offset_topic
        )

    # -- the thread ------------------------------------------------------------------------------------

    def opened(
        self, numbers: Mapping[str, Number], offset_topic: str, now: float, *, hides: bool = False
    ) -> Settle | None:
        """The producer is ready, every earlier one is fenced, and then these numbers were read.

        `offset_topic`: the topic whose offset has this spool's number; empty: there is none. `hides`: the
        last transaction's number can't be seen.
        """
        memory = self.memory
        self.is_fenced = False
        self.verdict = judge(memory, numbers)
        if hides and self.verdict is IntentVerdict.NOT_COMMITTED and (memory.is_open or self.doubtful):
            self.verdict = IntentVerdict.GONE
        is_first, self._is_first = self._is_first, False
        if is_first:
            self._offset_topic, self._committed_at = offset_topic, now - CONFIRM_EVERY + _CONFIRM_FIRST
        if found := numbers.get(memory.spool):
            self._highest = max(self._highest, found.number)
        is_committed = self.verdict is IntentVerdict.COMMITTED
        if is_committed:
            self.memory = replace(memory, confirmed=memory.number)
        if doubtful := self.doubtful:
            self.doubtful = None
            if is_committed and memory.number == doubtful.number:
                self._deliver(doubtful, now)
            else:
                self._put_back(doubtful.messages)
        # Not always at once: where the disk takes no intent, each attempt leaves records in Kafka.
        self._delay = min(_FIRST_DELAY * 2 ** min(self._lost_runs, 8), _LAST_DELAY)
        if is_first and memory.is_open:
            self._be(State.SETTLING)
            return Settle(is_committed)
        self._ready(now)
        return None

    def committed(self, now: float, *, may_be_sent_twice: bool) -> None:
        """The commit has returned. `may_be_sent_twice`: it took so long that librdkafka may have resent."""
        run = self._ended()
        self._deliver(run, now)
        if may_be_sent_twice:
            self._be(State.CLOSED, now)
        else:
            self._ready(now)

    def refused(self, failures: Mapping[Message, tuple[int, str]], now: float) -> None:
        """Kafka can't take these messages, each with the error's code and text. Nothing was committed."""
        self._refuse(self._ended(), failures, now)

    def _refuse(self, run: Run, failures: Mapping[Message, tuple[int, str]], now: float) -> None:
        self.failed_count += 1
        self._unexplained = 0
        if all(code == _NOT_CONFIRMED for code, _ in failures.values()):
            self._halve(run)
        topics = {message.plan.kafka_topic for message in failures}
        self._trial |= topics
        self._suspects -= topics
        self._put_back(run.messages)
        left: deque[Message] = deque()
        for message in self.queue:
            if message.plan.kafka_topic in topics:
                self.handed.failed.append((message, failures.get(message)))
            else:
                left.append(message)
        self.queue = left
        self._be(State.CLOSED, now)

    def lost(
        self,
        now: float,
        reason: str = "",
        *,
        may_have_committed: bool = False,
        is_fenced: bool = False,
        may_be_late: bool = False,
        is_slow: bool = False,
    ) -> None:
        """The producer is gone, or none could be opened. `is_slow`: Kafka confirmed, but not all in time.

        `may_have_committed`: the commit was tried, and nobody knows the outcome. `may_be_late`: a fenced
        producer may have been ended by Kafka itself, which is no rival; but not twice in a row.
        """
        if is_fenced and may_be_late and now >= self._fenced_at + _CALM:
            self._fenced_at, is_fenced = now, False
        if self.state is State.RUNNING:
            run = self._ended()
            if self._is_suspected(run) and not (may_have_committed or is_fenced or is_slow):
                self._refuse(run, dict.fromkeys(run.messages, (_NOT_CONFIRMED, reason)), now)
                return
            self.failed_count += 1
            self._lost_runs += not is_fenced
            if may_have_committed:
                self.doubtful = run
            else:
                self._put_back(run.messages)
                if is_slow:
                    self._halve(run)
                elif not is_fenced:
                    self._unexplained += 1
                    topics = {message.plan.kafka_topic for message in run.messages}
                    is_new = self._unexplained >= _UNEXPLAINED and not self._suspects
                    if is_new or topics <= self._suspects:
                        self._suspects = topics
                if not run.messages:
                    self._offset_topic = ""  # perhaps it is gone: wait for another one
        delay, self._delay = self._delay, min(2 * self._delay, _LAST_DELAY)
        if is_fenced:
            self.fenced_count += 1
            self.is_fenced = True
            is_calm = now >= self._fenced_at + _CALM
            self._fenced_delay = _FENCED_DELAY if is_calm else min(2 * self._fenced_delay, _LAST_FENCED_DELAY)
            self._fenced_at = now
            delay = self._fenced_delay
        self._be(State.CLOSED, now + delay)

    # ------------------------------------------------------------------------------------------------

    def _halve(self, run: Run) -> None:
        """The next transaction has at most half as many messages, or half as many bytes, as this one."""
        messages, size = len(run.messages), sum(len(message.payload) for message in run.messages)
        self._halved, self._quick = min(self._halved + 1, _MOST_HALVED), 0
        while (
            self._halved < _MOST_HALVED
            and 2 * (MOST_MESSAGES >> self._halved) > messages
            and 2 * (MOST_BYTES >> self._halved) > size
        ):
            self._halved += 1

    def _is_suspected(self, run: Run) -> bool:
        """Whether all topics of the transaction failed before, or it has one topic, the last suspect."""
        if not run.messages:
            return False
        topics = {message.plan.kafka_topic for message in run.messages}
        return run.is_trial or (len(topics) == 1 and topics <= self._suspects)

    def _ended(self) -> Run:
        run, self.running = self.running, None
        if run is None:
            raise RuntimeError("no transaction is under way")
        return run

    def _deliver(self, run: Run, now: float) -> None:
        self.memory = replace(self.memory, confirmed=run.number)
        self._committed_at = now
        self._quick = self._quick + 1 if now < self._began + _QUICK else 0
        if self._quick >= _QUICK_IN_A_ROW:
            self._quick, self._halved = 0, max(0, self._halved - 1)
        self.committed_count += 1
        self._lost_runs, self._delay = 0, _FIRST_DELAY
        self.handed.delivered += run.messages
        topics = {message.plan.kafka_topic for message in run.messages}
        self._trial -= topics
        self._suspects -= topics
        self._unexplained = 0

    def _put_back(self, messages: Iterable[Message]) -> None:
        """They are older than all of their topics in the queue."""
        self.queue.extendleft(reversed(list(messages)))

    def _ready(self, now: float) -> None:
        if self._replaces:
            self._be(State.CLOSED, now)
            return
        self._be(State.READY, self._first_at + GATHER if self.queue else now)

    def _be(self, state: State, due: float = _NEVER) -> None:
        self.state, self.due = state, due
