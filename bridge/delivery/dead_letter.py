"""Dead letters: messages that can never be delivered as they are, each with the reason. Pure."""

from dataclasses import dataclass

from bridge.message import Message
from bridge.routing.topics import matches


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetter:
    """A message that became a dead letter. `route`, `kafka_topic`: empty if no route took the message."""

    message: Message
    reason: str
    route: str = ""
    kafka_topic: str = ""
    kind: str = "unroutable"  # of counts.DEAD_LETTERED


@dataclass(frozen=True, slots=True, eq=False)
class StoredLetter:
    """A dead letter on disk. Its message's payload is empty if the caller asked for no payloads."""

    number: int
    at: int  # when the message became a dead letter: ms since 1970, by this machine's clock
    payload_size: int
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects dead letters: a letter must meet every condition that is given.

    `before` and `after` limit the time at which the message became a dead letter, in ms since 1970. `up_to`
    is the highest number that may be selected.
    """

    numbers: tuple[int, ...] = ()
    route: str | None = None
    reason: str | None = None  # a part of the reason; upper and lower case are the same
    topic: str | None = None  # an MQTT filter, such as sensors/+/temp
    before: int | None = None
    after: int | None = None
    up_to: int | None = None

    def takes_topic(self, topic: bytes) -> bool:
        return self.topic is None or matches(self.topic, topic.decode("utf-8", "backslashreplace"))
