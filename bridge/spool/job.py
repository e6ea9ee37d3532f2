"""A job: the work that the disk thread gets at once, and the part of it that fits on the disk. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.intent import Intent
from bridge.delivery.journal import JournalRow
from bridge.delivery.segment import Segment, Wanted


def _nobody(_spool: str) -> None: ...


@dataclass(slots=True)
class Job:
    segments: list[tuple[str, Segment, bytes]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    done: list[tuple[str, Segment]] = field(default_factory=list)
    replaces: bool = False  # some `segments` hold the rest of segments in `done`
    reads: list[tuple[str, Wanted]] = field(default_factory=list)
    intent: Intent | None = None  # of the next Kafka transaction
    intended: Callable[[str], None] = _nobody  # gets the spool's name, or "" if it could not be written
    confirmed: int = 0  # the number of the last Kafka transaction that has committed
    verdict: bool | None = None  # whether Kafka has the last run's transaction; None: not known now
    routes_changed: bool = False  # segments may follow other routes than the rows from now on
    journal: JournalRow | None = None
    numbering: int = 0  # how often the messages in memory had been numbered anew when it was made

    @property
    def writes(self) -> bool:
        return bool(self.segments or self.letters)

    @property
    def is_urgent(self) -> bool:
        """Whether something waits for the job. Deletions may wait a little."""
        return bool(self.writes or self.reads or self.intent or self.verdict is not None)

    @property
    def size(self) -> int:
        """Bytes that are to be written."""
        letters = sum(len(letter.message.payload) for letter in self.letters)
        return letters + sum(len(body) for _, _, body in self.segments)

    @property
    def contents(self) -> list[object]:
        """The segments and dead letters, as the journal names them."""
        return [segment for _, segment, _ in self.segments] + [*self.letters]

    def split(self) -> tuple[list[tuple[str, Segment]], list[DeadLetter]]:
        return [(topic, segment) for topic, segment, _ in self.segments], self.letters

    def fitting(self, room: int) -> "tuple[Job, Job]":
        """Divide the job into the part that fits into `room` bytes, and the rest.

        Once a segment does not fit, no later segment is taken, because a lane relies on the order; the same
        holds for dead letters. Dead letters come first, because they are few, and later messages can't be
        acknowledged before them. A job that replaces segments is taken whole, whatever the room is: the new
        segments are smaller than the old ones, and the old ones must not be deleted without the new ones.
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
    """How many of the first items fit, and how much room is left after them."""
    count = 0
    for size in sizes:
        if size > room:
            break
        room -= size
        count += 1
    return count, room
