"""The intent of a Kafka transaction on disk, and what the number in Kafka says about it. Pure.

In the mode exactly-once a transaction has a number that is used once: 1, 2, ... in each spool. Kafka has it
as the offset of a consumer group without members, committed in the same transaction as the records: Kafka has
both or neither. Before a transaction may commit, its *intent* is on disk, synced: the number, and which
messages on disk are in it. So after a crash the number in Kafka tells whether Kafka has them.

    on disk                            in Kafka
    ---------------------------------  ---------------------------------------------------------
    the spool's name, made by chance   records
    intent N: rows, or parts of rows   offset N; metadata: the spool's name, N, and the run's name
    delivered: parts of rows that      the numbers of other spools, as they were found (`Number`)
      transactions before N delivered

Each run of the bridge has a name, made by chance, that is in its intents and in Kafka. So the number of a
copy of this spool, which another bridge uses, is never taken for this one's.

These rules always hold:

* A row is deleted only after the commit of its last message returned, or its number was read in Kafka.
* Whatever Kafka may have of a row on disk, is named on disk: in the intent, or in `delivered`.
* A name of a row is on disk only while the row is. So a later row never has the name.
* A number that is not found, is another spool's, or does not fit, never deletes a row: loss is worse than
  duplication.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple, Protocol

from bridge.delivery.segment import Segment
from bridge.message import Message

VERSION = 1  # of the metadata in Kafka
_MOST_SPOOLS = 16  # in the metadata, whose size Kafka limits: offset.metadata.max.bytes, 4096 by default

Row = tuple[str, int]  # a Kafka topic, and the sequence number of the row's first message
Rows = Mapping[Row, tuple[int, ...]]  # sequence numbers of messages of each row; (): all of them


class Number(NamedTuple):
    """The number of a spool's last transaction, and the run that it was of."""

    number: int
    run: str


@dataclass(frozen=True, slots=True)
class Intent:
    """What transaction `number` delivers, if it commits. `confirmed`: the last one that did commit."""

    number: int
    run: str
    rows: Rows
    confirmed: int
    offset_topic: str = ""  # whose offset is to have the number


@dataclass(frozen=True, slots=True)
class Memory:
    """What the disk knows. `spool` is empty in a file in which no intent was ever written.

    `is_open`: rows on disk wait for the verdict about the intent `number`, or parts of them were delivered.
    """

    spool: str = ""
    number: int = 0
    run: str = ""
    confirmed: int = 0
    is_open: bool = False
    offset_topic: str = ""


class IntentVerdict(Enum):
    """What the number in Kafka says about the last intent. Only COMMITTED deletes rows."""

    COMMITTED = auto()
    NOT_COMMITTED = auto()
    GONE = auto()  # this spool has committed, and Kafka knows no number of it: expired, deleted
    BEHIND = auto()  # Kafka's number is lower than one that Kafka has confirmed: another cluster?
    AHEAD = auto()  # Kafka's number is one that this disk does not know: a copy, or restored from a backup
    OTHER = auto()  # the spool is new, and Kafka knows numbers of other spools

    @property
    def is_loud(self) -> bool:
        """A person must know: messages on disk may be in Kafka, and are produced again."""
        return self not in (IntentVerdict.COMMITTED, IntentVerdict.NOT_COMMITTED)


def judge(memory: Memory, numbers: Mapping[str, Number]) -> IntentVerdict:
    """`numbers`: what Kafka has, by spool. They were read after the last producer had been fenced."""
    found = numbers.get(memory.spool) if memory.spool else None
    if found is None:
        if memory.confirmed:
            return IntentVerdict.GONE
        return IntentVerdict.OTHER if numbers else IntentVerdict.NOT_COMMITTED
    if found == (memory.number, memory.run):
        return IntentVerdict.COMMITTED
    if found.number > memory.confirmed:
        return IntentVerdict.AHEAD
    return IntentVerdict.BEHIND if found.number < memory.confirmed else IntentVerdict.NOT_COMMITTED


# -- rows ----------------------------------------------------------------------------------------------


def rows_of(messages: Iterable[Message], row_of: Callable[[Message], Segment | None]) -> Rows:
    """The rows of these messages. A message that is in no row is not named."""
    found: dict[Segment, list[Message]] = {}
    for message in messages:
        if segment := row_of(message):
            found.setdefault(segment, []).append(message)
    return {
        (its[0].plan.kafka_topic, segment.first): (
            () if len(its) == segment.count else tuple(sorted(message.sequence for message in its))
        )
        for segment, its in found.items()
    }


def merged(delivered: Rows, more: Rows) -> dict[Row, tuple[int, ...]]:
    """What both name."""
    found = dict(delivered)
    for row, sequences in more.items():
        before = found.get(row)
        if before is None or not sequences:
            found[row] = sequences
        elif before:
            found[row] = tuple(sorted({*before, *sequences}))
    return found


def to_json(rows: Rows) -> str:
    topics: dict[str, list[list[int]]] = {}
    for (topic, first), sequences in rows.items():
        topics.setdefault(topic, []).append([first, *(sequence - first for sequence in sequences)])
    return json.dumps(topics, separators=(",", ":"))


def from_json(text: str) -> dict[Row, tuple[int, ...]]:
    return {
        (topic, first): tuple(first + each for each in differences)
        for topic, rows in json.loads(text).items()
        for first, *differences in rows
    }


# -- Kafka's side --------------------------------------------------------------------------------------


def to_metadata(spool: str, number: Number, others: Mapping[str, Number]) -> str:
    """The metadata of the offset. Numbers of other spools are carried along, because this offset may replace
    the one that had them: a bridge with another spool and the same names may come back.
    """
    latest = sorted(others.items(), key=lambda item: item[1].number)[-(_MOST_SPOOLS - 1) :]
    spools = {spool: number, **{name: each for name, each in latest if name != spool}}
    return json.dumps({"version": VERSION, "spools": spools}, separators=(",", ":"))


def from_metadata(texts: Iterable[str]) -> dict[str, Number]:
    """The highest number of each spool in the metadata of all offsets. Others' metadata is passed over."""
    found: dict[str, Number] = {}
    for text in texts:
        try:
            spools = json.loads(text)["spools"]
            read = {str(name): Number(int(number), str(run)) for name, (number, run) in spools.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        for name, number in read.items():
            if name not in found or found[name].number < number.number:
                found[name] = number
    return found


# -- the disk's side -----------------------------------------------------------------------------------


class IntentLog(Protocol):
    """The part of spool.spool.Spool that the transactional cluster uses. `told` is called in the loop."""

    def recall(self, told: Callable[[Memory], None]) -> None:
        """`told` gets what the disk knows, once the file could be opened."""

    def settle(self, is_committed: bool, told: Callable[[], None]) -> None:
        """Take the verdict about the intent: delete what Kafka has, and forget the intent, in one commit."""

    def confirm(self, number: int) -> None:
        """The transaction has committed: what it delivered may be deleted, with the next commit."""

    def intend(self, intent: Intent, told: Callable[[str], None]) -> None:
        """Have an intent written. `told` gets the spool's name once it is synced, or "" if it can't be."""


@dataclass(slots=True)
class Account:
    """What the disk holds about transactions, as one commit after another changes it.

    `count` tells how many messages a row on disk has; 0: there is no such row.
    """

    spool: str = ""
    number: int = 0
    run: str = ""
    confirmed: int = 0
    offset_topic: str = ""
    intended: Rows = field(default_factory=dict)
    delivered: dict[Row, tuple[int, ...]] = field(default_factory=dict)

    @property
    def memory(self) -> Memory:
        is_open = bool(self.intended or self.delivered)
        return Memory(self.spool, self.number, self.run, self.confirmed, is_open, self.offset_topic)

    def write(self, intent: Intent, count: Callable[[Row], int]) -> list[Row]:
        """Replace the intent by the next one. Returns the rows to delete in the same commit.

        If the last intent was not committed, it is forgotten.
        """
        complete = self.confirm(intent.confirmed, count)
        self.number, self.run, self.intended = intent.number, intent.run, intent.rows
        self.offset_topic = intent.offset_topic
        return complete

    def settle(self, is_committed: bool) -> Rows:
        """Take the verdict. Returns the messages to delete, of rows on disk. Nothing is named any more."""
        delivered = self.judged(is_committed)
        self.delivered = {}
        return delivered

    def confirm(self, number: int, count: Callable[[Row], int]) -> list[Row]:
        """Transaction `number` has committed. Returns the rows to delete in the same commit."""
        complete = self.complete(count) if self.keep(number) else []
        for row in complete:
            self.forget(row)
        return complete

    def keep(self, number: int) -> bool:
        """Transaction `number` has committed, and its rows are deleted in later commits: see `complete`."""
        if not number or number != self.number or number == self.confirmed:
            return False  # it is known, or is of another file
        self.confirmed = number
        self.delivered, self.intended = merged(self.delivered, self.intended), {}
        return True

    def complete(self, count: Callable[[Row], int]) -> list[Row]:
        """The rows of which Kafka has all messages, and those that are gone."""
        found = []
        for row, its in self.delivered.items():
            messages = count(row)
            if not messages or len(its) in (0, messages):
                found.append(row)
        return found

    def judged(self, is_committed: bool) -> Rows:
        """As `settle`, but what is to be deleted stays named until it was."""
        if is_committed:
            self.delivered = merged(self.delivered, self.intended)
            self.confirmed = self.number
        self.intended = {}
        return dict(self.delivered)

    def forget(self, row: Row) -> bool:
        """The row is deleted. Returns whether it was named in `delivered`."""
        return self.delivered.pop(row, None) is not None

    def prune(self, count: Callable[[Row], int]) -> bool:
        """Forget the names of rows that are not on disk. Returns whether anything has changed.

        Call this when the file was opened, before anything is written: new rows may get these names.
        """
        names = len(self.intended) + len(self.delivered)
        self.intended = {row: its for row, its in self.intended.items() if count(row)}
        self.delivered = {row: its for row, its in self.delivered.items() if count(row)}
        return len(self.intended) + len(self.delivered) != names
