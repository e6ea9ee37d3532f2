"""What can never be delivered as it is, with the reason. Pure."""

from dataclasses import dataclass

from bridge.message import Message


@dataclass(frozen=True, slots=True, eq=False)
class DeadLetter:
    """`route` and `kafka_topic` are empty where no route took the message."""

    message: Message
    reason: str
    route: str = ""
    kafka_topic: str = ""
