"""What Kafka and the disk answer, in the words in which the pipeline decides. Pure.

Kafka's codes are kafka/faults.py's, the disk's errors spool/store.py's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.segment import Segment
from bridge.message import Message


class Verdict(Enum):
    """Why a message was not delivered, and so what is to be done with it."""

    NOT_NOW = auto()  # time or a person can cure it: its lane is held
    TOO_LARGE = auto()  # for the topic, it or its batch
    BAD_TIMESTAMP = auto()  # the topic may take it without one
    INVALID = auto()  # the topic refuses it, or one of its batch
    PRODUCER_LOST = auto()  # nothing is known of it: a new producer produces it again


@dataclass(frozen=True, slots=True)
class Failure:
    """A delivery report with an error. `reason` is for people, with the way out where there is one."""

    message: Message
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class TopicAnswer:
    """What Kafka says of a topic.

    `limit`: bytes of key, headers and value that fit into a record for certain; None: it would not say.
    `way_out`: the command that creates a topic that does not exist, or why Kafka would not create it.
    `timestamps`: which of them it refuses, for people; empty: only those that every topic refuses.
    """

    topic: str
    exists: bool
    limit: int | None = None
    way_out: str = ""
    timestamps: str = ""


@dataclass(frozen=True, slots=True)
class NoTopicAnswer:
    """Kafka could not be asked about a topic."""

    topic: str
    reason: str


@dataclass(frozen=True, slots=True)
class Written:
    """On disk, synced: segments with their Kafka topics, and dead letters.

    Of a job that did not fit as a whole the first part; `Refused` with the rest follows.
    """

    segments: list[tuple[str, Segment]]
    letters: list[DeadLetter]


@dataclass(frozen=True, slots=True)
class Refused:
    """None of it is on disk. `is_full`: a limit was reached; else something is wrong with the disk."""

    segments: list[tuple[str, Segment]]
    letters: list[DeadLetter]
    is_full: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What was read for a topic, in order. Nothing: there is nothing more that can be read."""

    topic: str
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class Removed:
    """Dead letters that a bound, by its setting's name, has removed from the disk."""

    bound: str
    letters: int
    size: int  # bytes


class Found(Protocol):
    """What of spool.store.Backlog the lanes need."""

    @property
    def topic(self) -> str: ...
    @property
    def messages(self) -> int: ...
    @property
    def last(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Moved:
    """What was on disk before the start, and is now where the routes lead. Nothing: it stays as it is."""

    found: Sequence[Found]


FromDisk = Written | Refused | ReadBack | Removed | Moved
