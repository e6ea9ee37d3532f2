"""The spool as the pipeline sees it: the loop hands over what is to be written, read and deleted.

The loop collects what is to be written, read and deleted; the thread gets all of it as one job when it is
done with the last one. So a slow disk makes commits larger, not more, and keeps nobody waiting but those
who wait for this commit.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.results import FromDisk
from bridge.delivery.segment import MOST_AT_ONCE, Segment, Wanted, pack
from bridge.loop import Loop
from bridge.message import OpenIdentifier
from bridge.settings import DeadLetterSettings, SpoolSettings
from bridge.spool.disk_thread import DiskThread
from bridge.spool.job import Job
from bridge.spool.store import LaneOf

_DELETE_EVERY = 0.1  # seconds; so much that Kafka has is delivered again after a crash
LAST_COMMITS_TIMEOUT = 10.0  # seconds for the last commits, at a stop


class Spool:
    """`results` fills between two turns of the loop.

    `backlogs` is what was on disk before the start, `identifiers` what the last clean stop has saved.
    `moves`: the routes have changed, and not all of that is where they lead yet. `Moved` follows.
    """

    def __init__(
        self,
        settings: SpoolSettings,
        directory: Path,
        loop: Loop,
        routes: str,
        lane_of: LaneOf,
        session: str,
        letters: DeadLetterSettings | None = None,
        letters_written: Callable[[Sequence[DeadLetter]], None] = lambda _: None,
    ) -> None:
        """`session` names the MQTT session whose open Packet Identifiers are saved. The disk thread calls
        `letters_written` with dead letters that are on disk, synced.
        """
        self._loop = loop
        self.results: deque[FromDisk] = deque()
        self._next = Job()
        self._filled = 0  # bytes of what is to be written next
        self._busy = False  # the disk thread has a job
        self._stop_by = 0.0
        self._disk = DiskThread(
            settings,
            directory,
            loop,
            routes,
            lane_of,
            session,
            letters or DeadLetterSettings(),
            letters_written,
            self.results.append,
            self._is_idle,
        )
        self.backlogs = self._disk.backlogs
        self.identifiers = self._disk.identifiers
        self.moves = self._disk.moves

    def _is_idle(self) -> None:
        self._busy = False

    # -- what the pipeline hands over ------------------------------------------------------------------

    @property
    def accepts(self) -> bool:
        """False: what is to be written stays with its lane for now.

        While the disk works, too: were that refused, what was handed over behind it might be taken, and a
        lane relies on the order.
        """
        return not self._busy and time.monotonic() >= self._disk.again_at

    @property
    def accepts_more(self) -> bool:
        """The same, of what is large: False while a job has its fill."""
        return self.accepts and self._filled < MOST_AT_ONCE

    def write(self, topic: str, segments: Sequence[Segment]) -> None:
        """Have them on disk. Their bodies are made here and now: a payload may be shrunk later."""
        for segment in segments:
            body = pack(segment.messages)
            self._next.segments.append((topic, segment, body))
            self._filled += len(body)

    def write_letters(self, letters: Sequence[DeadLetter]) -> None:
        self._next.letters += letters

    def read(self, topic: str, wanted: Wanted) -> None:
        self._next.reads.append((topic, wanted))

    def delete(self, topic: str, segments: Sequence[Segment]) -> None:
        """Kafka holds all of them. It is enough that they are gone soon."""
        self._next.done += [(topic, segment) for segment in segments]

    def replace(self, topic: str, old: Segment, rest: Sequence[Segment]) -> None:
        """Of `old` have only the `rest` on disk: both at once, or neither."""
        self._next.replaces = True
        self.write(topic, rest)
        if rest[0].first != old.first:  # else its name is taken by the first of them
            self.delete(topic, [old])

    def turn(self, now: float) -> float:
        """Give the thread what has come together. Returns for how many seconds nothing is due here."""
        job = self._next
        if self._busy:
            return float("inf")
        deletes = job.done or self._disk.undeleted  # the thread is idle: it has no hand on the latter
        if job.writes or job.reads or (deletes and now >= self._disk.delete_at):
            self._busy = True
            self._next = Job()
            self._filled = 0
            self._disk.delete_at = now + _DELETE_EVERY
            self._disk.give(job)
            return float("inf")
        due = float("inf")
        if deletes:
            due = self._disk.delete_at - now
        if self._disk.again_at > now:
            due = min(due, self._disk.again_at - now)
        return due

    def finish(self) -> None:
        """Wait until the disk has done what it is at, but not for ever. `results` has what came of it."""
        self._stop_by = self._stop_by or time.monotonic() + LAST_COMMITS_TIMEOUT
        while self._busy and (left := self._stop_by - time.monotonic()) > 0:
            self._loop.wait(left)

    def close(self, identifiers: Sequence[OpenIdentifier]) -> None:
        """Write what is left, and which identifiers are open. Waits for it, but not for ever."""
        self.finish()
        self._disk.give(self._next)
        self._disk.end(identifiers, self._stop_by - time.monotonic())
