"""What Kafka answers, in the words in which the pipeline decides. Pure: codes are kafka/faults.py's."""

from dataclasses import dataclass
from enum import Enum, auto

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
class Answer:
    """What Kafka says of a topic.

    `limit`: bytes of key, headers and value that fit into a record for certain; None: it would not say.
    `way_out`: the command that creates a topic that does not exist.
    """

    topic: str
    exists: bool
    limit: int | None = None
    way_out: str = ""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Kafka could not be asked about a topic."""

    topic: str
    reason: str
