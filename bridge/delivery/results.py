"""The answers of Kafka and of the disk, as the types with which the pipeline decides. Pure.

kafka/error_verdicts.py translates Kafka's error codes into these types, spool/store.py the disk's errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Protocol

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.journal import Journaled
from bridge.delivery.segment import Segment
from bridge.message import Message


class Verdict(Enum):
    """Why a message was not delivered. Decides what the pipeline does with the message."""

    NOT_NOW = auto()  # time or a person can cure it: the pipeline holds the message's lane
    TOO_LARGE = auto()  # the message or its batch is too large for the topic
    BAD_TIMESTAMP = auto()  # the topic may take the message without a timestamp
    INVALID = auto()  # the topic refuses the message, or another one of its batch
    RETURNED = auto()  # its transaction was thrown away for another message of its lane: produce it again
    PRODUCER_LOST = auto()  # the producer failed; Kafka may hold the message or not: a new producer retries


class Hold(StrEnum):
    """Why a lane is HELD. Each needs another remedy."""

    MISSING = "missing"  # the topic does not exist
    FORBIDDEN = "forbidden"  # Kafka's access rules do not let the bridge write the topic
    REFUSED = "refused"  # Kafka does not take the message for another reason that time or a person can cure
    UNANSWERED = "unanswered"  # Kafka could not be asked about the topic

    @property
    def needs_a_person(self) -> bool:
        """Kafka is not late: it takes nothing until a person acts."""
        return self in (Hold.MISSING, Hold.FORBIDDEN)


@dataclass(frozen=True, slots=True)
class Failure:
    """A delivery report with an error. `reason` is for people, and names the way out if there is one.

    `hold` counts with Verdict.NOT_NOW.
    """

    message: Message
    verdict: Verdict
    reason: str
    hold: Hold = Hold.REFUSED


@dataclass(frozen=True, slots=True)
class TopicAnswer:
    """Kafka's answer about a topic.

    `limit`: bytes of key, headers and value that certainly fit into a record; None: Kafka did not tell.
    `way_out`: the command that creates the topic, if the topic does not exist.
    `timestamps`: which timestamps the topic refuses, for people; empty: only those that every topic refuses.
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
    hold: Hold = Hold.UNANSWERED


@dataclass(frozen=True, slots=True)
class Written:
    """Segments, with their Kafka topics, and dead letters that are on disk and synced.

    If only a part of a job fitted on the disk, these are the parts that fitted; `Refused` with the rest
    follows.
    """

    segments: list[tuple[str, Segment]]
    letters: list[DeadLetter]


@dataclass(frozen=True, slots=True)
class Refused:
    """Segments and dead letters that could not be written: none of them is on disk.

    `is_full`: a limit was reached. Otherwise something is wrong with the disk.
    """

    segments: list[tuple[str, Segment]]
    letters: list[DeadLetter]
    is_full: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ReadBack:
    """The segments that were read for a topic, in order. Empty: no requested segment can be read."""

    topic: str
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class Removed:
    """Dead letters that were removed from the disk. `bound`: the name of the setting that was exceeded."""

    bound: str
    letters: int
    size: int  # bytes


class Found(Protocol):
    """The part of spool.store.Backlog that the lanes need."""

    @property
    def topic(self) -> str: ...
    @property
    def messages(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def last(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Moved:
    """The messages from before the start have been moved to the Kafka topics of the current routes.

    `found` is empty if there are none, or if the move failed: then they stay where they are on disk.
    """

    found: Sequence[Found]


@dataclass(frozen=True, slots=True)
class Opened:
    """The database could be opened only now, and messages up to the sequence number `last` wait in it.

    What came in this run was numbered without knowing of them. `Moved` follows, with what waits.
    """

    last: int


FromDisk = Journaled | Opened | Written | Refused | ReadBack | Removed | Moved
