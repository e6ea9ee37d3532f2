"""The spool as the pipeline sees it: collects what to write, read and delete, for the disk thread.

The loop collects this work. When the disk thread has finished a job, the loop gives it all collected work as
the next job. So on a slow disk commits become larger, not more numerous, and only the messages that need a
commit wait for it.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.intent import Intent, Memory
from bridge.delivery.journal import Journal, Standing
from bridge.delivery.results import FromDisk, Opened
from bridge.delivery.segment import MOST_AT_ONCE, Segment, Wanted, pack
from bridge.loop import Loop
from bridge.message import OpenIdentifier
from bridge.settings import DeadLetterSettings, SpoolSettings
from bridge.spool.disk_thread import DiskThread
from bridge.spool.job import Job
from bridge.spool.store import LaneOf

_DELETE_EVERY = 0.1  # seconds; after a crash, messages that Kafka confirmed in this time are produced again
LAST_COMMITS_TIMEOUT = 10.0  # seconds for the last commits, at a stop


class Spool:
    """`results`: the disk thread's results, appended between two turns of the loop.

    `backlogs`: the messages on disk from before the start. `identifiers`: the open identifiers that the last
    clean stop saved. `recalled`: what the journal had. `moves`: the routes have changed, and not all of the
    backlog has been moved to the new Kafka topics yet; the result `Moved` follows.
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
        keeps_journal: bool = False,
    ) -> None:
        """`session` names the MQTT session whose open Packet Identifiers are saved. The disk thread calls
        `letters_written` with dead letters that are on disk, synced. `keeps_journal`: with delivery
        exactly-once; then set `journal` before the first `turn`.
        """
        self._loop = loop
        self.results: deque[FromDisk] = deque()
        self._next = Job()
        self._filled = 0  # bytes of the segments in the next job
        self._busy = True  # the disk thread has a job, or does not run yet
        self._numbering = 0  # how often messages in memory were numbered anew
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
            self._take,
            self._is_idle,
            keeps_journal,
        )
        self.journal: Journal | None = None
        self.backlogs = self._disk.backlogs
        self.identifiers = self._disk.identifiers
        self.recalled = self._disk.recalled
        self.moves = self._disk.moves
        self._disk.begin(time.monotonic())

    def _take(self, result: FromDisk) -> None:
        if isinstance(result, Opened):
            self._numbering += 1
        self.results.append(result)

    def _is_idle(self) -> None:
        self._busy = False

    @property
    def disk(self) -> DiskThread:
        """The disk thread: its public numbers and states may be read at any time."""
        return self._disk

    # -- what the pipeline hands over ------------------------------------------------------------------

    @property
    def accepts(self) -> bool:
        """Whether `write` may be called now. If not, the messages stay with their lanes.

        False while the disk thread has a job: if the disk refused that job and then took later messages, the
        order would be wrong, and a lane relies on the order. False also from a refusal until `again_at`.
        """
        return not self._busy and time.monotonic() >= self._disk.again_at

    @property
    def accepts_more(self) -> bool:
        """Like `accepts`, for segments: False also when the next job is full."""
        return self.accepts and self._filled < MOST_AT_ONCE

    def write(self, topic: str, segments: Sequence[Segment]) -> None:
        """Have segments written. Packs their bodies at once: the ledger may shrink payloads later."""
        for segment in segments:
            body = pack(segment.messages)
            self._next.segments.append((topic, segment, body))
            self._filled += len(body)
            if self.journal:
                self.journal.add(segment, segment.messages)

    def write_letters(self, letters: Sequence[DeadLetter]) -> None:
        self._next.letters += letters
        if self.journal:
            for letter in letters:
                self.journal.add(letter, [letter.message])

    def read(self, topic: str, wanted: Wanted) -> None:
        self._next.reads.append((topic, wanted))

    def delete(self, topic: str, segments: Sequence[Segment]) -> None:
        """Have segments deleted that Kafka holds completely. The deletion may wait a little."""
        self._next.done += [(topic, segment) for segment in segments]

    def replace(self, topic: str, old: Segment, rest: Sequence[Segment]) -> None:
        """Replace `old` by the segments of `rest` on disk, in one commit."""
        self._next.replaces = True
        self.write(topic, rest)
        if rest[0].first != old.first:  # otherwise the first row of `rest` overwrites `old`
            self.delete(topic, [old])

    def stand(self, standing: Standing, forgets: bool) -> None:
        """Have the disk say how far the journal's bridge came. Blocks until that is synced; SpoolUnusable."""
        self._disk.stand(standing, forgets)

    # -- what the transactional cluster hands over: delivery/intent.py, IntentLog ----------------------

    def recall(self, told: Callable[[Memory], None]) -> None:
        """`told` gets what the disk knows of Kafka transactions, once the file could be opened."""
        self._disk.recall(told)

    def settle(self, is_committed: bool, told: Callable[[], None]) -> None:
        """Take the verdict about the last run's transaction. Messages on disk wait for it."""
        self._next.verdict = is_committed
        self._disk.settled = told

    def confirm(self, number: int) -> None:
        """The Kafka transaction has committed. The disk may learn that a little later."""
        self._next.confirmed = number

    def intend(self, intent: Intent, told: Callable[[str], None]) -> None:
        """Have an intent written, in one commit with all other work. `told` gets the spool's name, or ""."""
        self._next.intent, self._next.intended = intent, told

    # ---------------------------------------------------------------------------------------------------

    def routes_changed(self) -> None:
        """The service has other routes than at the start. The next start then looks at all rows.

        The rows that are on disk already keep their Kafka topics.
        """
        self._next.routes_changed = True

    @property
    def releases(self) -> int:
        """How many PUBRELs wait to be written: see delivery/journal.py."""
        return self.journal.releases if self.journal else 0

    @property
    def _deletes(self) -> bool:
        """Whether something waits that has time. Only while the thread is idle: this reads its part."""
        return bool(self._next.done or self._disk.undeleted or self._disk.unjournaled)

    def is_due(self, now: float) -> bool:
        """Whether the next `turn` begins a job even if no message and no PUBREL waits. See `accepts`."""
        if self._next.is_urgent or (self._deletes and now >= self._disk.delete_at):
            return True
        return self.journal is not None and now >= self._disk.again_at and self.journal.wants_commit

    def turn(self, now: float, gathers: bool = False) -> float:
        """Give the collected work to an idle thread. Returns for how many seconds no turn is needed.

        `gathers`: PUBRELs wait for others.
        """
        job = self._next
        if self._busy:
            due = self._disk.begin(now)
            if self._busy:
                return due
        releases = self.releases and not gathers and now >= self._disk.again_at
        if releases or self.is_due(now):
            self._busy = True
            self._add_journal(job)
            job.numbering = self._numbering
            self._next = Job()
            self._filled = 0
            self._disk.delete_at = now + _DELETE_EVERY
            self._disk.give(job)
            return float("inf")
        due = float("inf")
        if self._deletes:
            due = self._disk.delete_at - now
        if self._disk.again_at > now:
            due = min(due, self._disk.again_at - now)
        return due

    def _add_journal(self, job: Job) -> None:
        if self.journal and (job.writes or self.releases or self.journal.wants_commit):
            job.journal = self.journal.take_row()

    def finish(self) -> None:
        """Wait until the disk thread has finished its job, for LAST_COMMITS_TIMEOUT at most.

        The job's results are in `results`.
        """
        self._stop_by = self._stop_by or time.monotonic() + LAST_COMMITS_TIMEOUT
        if self._disk.begin(self._stop_by) != float("inf"):  # whatever the time: it is the last attempt
            return
        while self._busy and (left := self._stop_by - time.monotonic()) > 0:
            self._loop.wait(left)

    def close(self, identifiers: Sequence[OpenIdentifier]) -> None:
        """Write the remaining work and the open identifiers. Waits until LAST_COMMITS_TIMEOUT has passed."""
        self.finish()
        self._next.numbering = self._numbering
        self._add_journal(self._next)
        self._disk.give(self._next)
        self._disk.end(identifiers, self._stop_by - time.monotonic())
