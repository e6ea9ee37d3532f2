"""What can never be delivered as it is, with the reason. Pure."""

from dataclasses import dataclass

from bridge.message import Message
from bridge.routing.topics import matches


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetter:
    """`route` and `kafka_topic` are empty where no route took the message."""

    message: Message
    reason: str
    route: str = ""
    kafka_topic: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class StoredLetter:
    """A dead letter on disk. Where nobody asked for payloads, that of its message is empty."""

    number: int
    at: int  # when it became one: ms since 1970, by this machine's clock
    payload_size: int
    letter: DeadLetter


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: all that is given must hold. `before` and `after` are in ms since 1970, both of
    the moment at which it was buried; `up_to` is the number of the last one that may be taken.
    """

    numbers: tuple[int, ...] = ()
    route: str | None = None
    reason: str | None = None  # a part of it, upper or lower case
    topic: str | None = None  # an MQTT filter, such as sensors/+/temp
    before: int | None = None
    after: int | None = None
    up_to: int | None = None

    def takes_topic(self, topic: bytes) -> bool:
        return self.topic is None or matches(self.topic, topic.decode("utf-8", "backslashreplace"))
