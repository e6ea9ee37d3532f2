"""The room: how much memory the messages of all lanes that are not LIVE may take together. Pure.

All lanes share one `Room`. A lane counts its messages in flight and waiting there, and the rows that it has
asked the disk for. LIVE lanes count nothing, because the MQTT window limits their small messages. Of large
ones all LIVE lanes together have the room's size in flight; the others wait.

How much one lane may have follows from what the others leave free: four fifths of it. So a lane that spools
alone may have `messages` and `size`, and a lane that begins later still finds a fifth free, the next one a
fifth of that. Where that is nothing, a lane that has no message in memory may still have one segment, so that
each topic makes progress although Kafka confirms nothing of others; until twice the room is taken.

What librdkafka has can't be taken back. So topics whose partitions have no leader keep their part of the room
for as long as that lasts, and enough of them keep all of it. Then one lane after another is a guest: it may
have one segment beyond the room, and the next guest follows once Kafka has confirmed that, or after a while.
A topic that Kafka takes gives it back at once, and comes again; one that Kafka does not take keeps one
segment at most. Beyond four times the room there are no guests.

These rules always hold:

* What is taken is the sum of what the lanes have taken, and never negative.
* A lane asks for more only while less than twice the room is taken; as a guest, less than four times. So at
  most that, and what one lane asks for at once, is in memory.
* `freed` is set when room was given back. Lanes that were refused are asked again only then.
"""

from typing import Any


class Room:
    """`messages`, `size` (bytes of payload): what a lane may have in memory while no other one has anything.

    `freed`: room was given back since somebody set this to False. `stored`: how many messages of all lanes
    are on disk that Kafka has not confirmed. `large`: LIVE lanes that may have large messages in flight.
    """

    __slots__ = ("freed", "large", "messages", "size", "stored", "taken_messages", "taken_size")

    def __init__(self, messages: int, size: int) -> None:
        self.messages = messages
        self.size = size
        self.taken_messages = self.taken_size = 0
        self.freed = False
        self.stored = 0
        self.large: set[Any] = set()

    def take(self, messages: int, size: int) -> None:
        self.taken_messages += messages
        self.taken_size += size

    def give_back(self, messages: int, size: int) -> None:
        self.taken_messages -= messages
        self.taken_size -= size
        self.freed = True

    def share(self, messages: int, size: int) -> tuple[int, int]:
        """How many messages and bytes a lane may have that has taken so much; at least 0."""
        others_messages, others_size = self.taken_messages - messages, self.taken_size - size
        return (
            max(0, self.messages + (self.messages // 4) - others_messages) * 4 // 5,
            max(0, self.size + (self.size // 4) - others_size) * 4 // 5,
        )

    @property
    def is_exhausted(self) -> bool:
        """No lane may have more, not even one segment, but a guest."""
        return self._holds(2)

    @property
    def takes_guests(self) -> bool:
        return self.is_exhausted and not self._holds(4)

    def _holds(self, times: int) -> bool:
        return self.taken_messages >= times * self.messages or self.taken_size >= times * self.size
