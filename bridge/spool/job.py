"""What the spool's thread is given at once, and how much of that the disk has room for. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.segment import Segment, Wanted


@dataclass(slots=True)
class Job:
    segments: list[tuple[str, Segment, bytes]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    done: list[tuple[str, Segment]] = field(default_factory=list)
    replaces: bool = False  # some of what is done stands anew among what is to be written
    reads: list[tuple[str, Wanted]] = field(default_factory=list)

    @property
    def writes(self) -> bool:
        return bool(self.segments or self.letters)

    def split(self) -> tuple[list[tuple[str, Segment]], list[DeadLetter]]:
        return [(topic, segment) for topic, segment, _ in self.segments], self.letters

    def fitting(self, room: int) -> "tuple[Job, Job]":
        """What of it may be written into so many bytes, and the rest.

        Nothing is taken from behind what does not fit: a lane relies on the order. Letters come first, since
        they are few and keep back the acknowledgements behind them. What replaces something is taken whole,
        whatever the room: it is smaller than that, and without it that must not be deleted.
        """
        if self.replaces:
            return self, Job()
        letters, room = _fitting((len(letter.message.payload) for letter in self.letters), room)
        segments, _ = _fitting((len(body) for _, _, body in self.segments), room)
        return (
            Job(self.segments[:segments], self.letters[:letters]),
            Job(self.segments[segments:], self.letters[letters:]),
        )


def _fitting(sizes: Iterable[int], room: int) -> tuple[int, int]:
    """How many of the first ones fit, and how much room is left then."""
    count = 0
    for size in sizes:
        if size > room:
            break
        room -= size
        count += 1
    return count, room
