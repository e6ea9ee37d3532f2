"""The disk thread: in the service, only this thread writes and reads the spool's database.

The loop gives the thread one job at a time (job.py). Between jobs the thread moves messages to the Kafka
topics of changed routes, retries failed reads, removes dead letters that exceed their limits, and gives
unused space back to the file system.

When the disk can't be used, the thread refuses the messages of the job. They stay in memory, the bridge
continues with Kafka alone (with delivery exactly-once nothing goes on), and the loop hands the messages over
again later.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event as Signal
from threading import Thread

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.intent import Memory
from bridge.delivery.journal import Journaled, JournalRow, Recalled, Standing
from bridge.delivery.results import FromDisk, Moved, Opened, ReadBack, Refused, Removed, Written
from bridge.delivery.segment import Segment, Wanted
from bridge.errors import NoThread, SpoolUnusable
from bridge.loop import Loop, start_thread
from bridge.message import OpenIdentifier
from bridge.observe.events import Event, log
from bridge.observe.observations import SHORT, Observations
from bridge.settings import DeadLetterSettings, SpoolSettings
from bridge.spool import disk_space
from bridge.spool.database_file import DatabaseFile
from bridge.spool.dead_letter_limits import DeadLetterLimits
from bridge.spool.job import Job
from bridge.spool.store import Backlog, CorruptStore, DiskFull, LaneOf, Store

_AGAIN_WHEN_FULL, _AGAIN_WHEN_UNUSABLE = 1.0, 5.0  # seconds
_SLOW = 1.0  # seconds for one commit
_SAY_SLOW_AFTER = 60.0  # seconds between two log lines about a slow disk
_LOOK_AT_LIMITS_EVERY = 60.0  # seconds
_MEASURE_EVERY = 10.0  # seconds between two looks at the disk's free space
_QUIET_AFTER = 2.0  # seconds without a job; a spool in frequent use soon needs the unused space again
# Seconds of a move before the bridge connects. A longer move goes on afterwards: EMQ's queue is short.
_MOVE_BEFORE = 1.0
_TRY_AGAIN, _TIMEOUT = 2.0, 60.0  # seconds; for reads and moves that failed
_NEARLY_FULL = 16_000_000  # bytes that are free; SQLite's log may take 4,000,000 of them
_STAND_TIMEOUT = 10.0  # seconds that the loop waits for one commit
_MAKE_ROOM = (
    "let Kafka take the messages that wait, free space on this disk, or raise spool.max_bytes;"
    " `bridge spool status` shows what takes the space"
)


class _Stand:
    """How far the journal's bridge came: the disk must say so before the loop goes on."""

    def __init__(self, standing: Standing, forgets: bool) -> None:
        self.standing, self.forgets = standing, forgets
        self.is_over = Signal()
        self.error: SpoolUnusable | None = SpoolUnusable(
            f"the disk did not answer for {_STAND_TIMEOUT:.0f} s", "see whether this machine's disk works"
        )


class DiskThread:
    """The thread and its state.

    `backlogs`: the messages on disk from before the start. `identifiers`: the open identifiers that the last
    clean stop saved. `recalled`: what the journal had. `moves`: the routes have changed, and not all of the
    backlog has been moved to the new Kafka topics yet; the result `Moved` follows. It is True, too, while
    nobody knows whether Kafka has messages on disk: a transaction of the last run may have committed.

    `settled`: the loop calls this once the verdict about that transaction was taken.

    While the thread has no job, the loop may read and set the public attributes. While the thread has a job,
    the loop may only read `again_at`.
    """

    def __init__(
        self,
        settings: SpoolSettings,
        directory: Path,
        loop: Loop,
        routes: str,
        lane_of: LaneOf,
        session: str,
        letters: DeadLetterSettings,
        letters_written: Callable[[Sequence[DeadLetter]], None],
        tell: Callable[[FromDisk], None],
        idle: Callable[[], None],
        keeps_journal: bool = False,
    ) -> None:
        """Call `begin` before the first job. `keeps_journal`: with delivery exactly-once.

        The loop's thread calls `tell` with each result, and `idle` when a job is done or the thread begins.
        """
        self._settings = settings
        self._session = session
        self._directory = directory
        self._loop = loop
        self._idle = idle
        self._take_result = tell
        self._letters_written = letters_written
        self._keeps_journal = keeps_journal
        self._file = DatabaseFile(directory, routes, lane_of, session if keeps_journal else None)
        self._limits = DeadLetterLimits(letters)
        self._look_at_limits_at = 0.0
        self.backlogs: list[Backlog] = []
        self.identifiers: list[OpenIdentifier] = []
        self.recalled = Recalled()
        self.moves = False
        self.settled: Callable[[], None] = _do_nothing
        self._is_unsettled = False  # until the verdict about the last run's transaction was taken
        self._verdict: bool | None = None  # whether it has committed; None: not known yet
        self._remembers: Callable[[Memory], None] | None = None  # waits for the file
        self.undeleted: list[tuple[str, Segment]] = []  # segments that a failed commit has not deleted
        self.unjournaled: JournalRow | None = None  # of the journal, which a failed commit has not written
        self.again_at = 0.0  # monotonic seconds: when the disk is tried again
        self.delete_at = 0.0  # monotonic seconds: when rows are deleted next
        self.state, self.state_since = "usable", time.monotonic()  # or "full", or "unusable"
        self.why, self.way_out = "", ""  # it is full or unusable
        self.commits = Observations(SHORT)
        self.used = self.free = self.letters = self.letter_bytes = 0  # the newest numbers
        self.oldest = -1  # time of receipt of the oldest message from before the start; ms since 1970, or -1
        self._measure_at = 0.0
        self._troubled = False  # since the last refusal, nothing has been written
        self._refused_at = 0.0
        self._said = ""
        self._say_slow_at = self._say_stalled_at = 0.0
        self._jobs: SimpleQueue[Job | _Stand | None] = SimpleQueue()
        self._was_opened = True  # False: what waits in the file is not known yet
        self._numbering = 0  # as jobs must have it: see Opened
        try:
            self._start()
        except SpoolUnusable as error:
            self._say_unusable(error)
            self._was_opened = False
            self.again_at = time.monotonic() + _AGAIN_WHEN_UNUSABLE
        # Work that the thread continues between jobs, the time of the next step, and since when it fails.
        self._go_on_at = self.again_at
        self._moving = self.moves
        self._unread: list[tuple[str, Wanted]] = []
        self._failing: dict[str, float] = {}
        self.thread: Thread | None = None
        self._begin_at = 0.0

    def begin(self, now: float) -> float:
        """Start the thread if it does not run yet. Returns for how many seconds no call is needed.

        Where the kernel allows no further thread, this machine's disk can't be used for now.
        """
        if self.thread:
            return float("inf")
        if now >= self._begin_at:
            try:
                self.thread = start_thread(self._work, "spool")
            except NoThread as error:
                self._begin_at = now + _AGAIN_WHEN_UNUSABLE
                self._say_unusable(SpoolUnusable(error.reason, error.way_out))
            else:
                if self._was_opened and self._file.store:
                    self._say_usable(self._file.store)
                self._idle()
                return float("inf")
        return self._begin_at - now

    def recall(self, told: Callable[[Memory], None]) -> None:
        """`told` gets what the file knows of Kafka transactions, once it could be opened. Before `begin`."""
        if self._was_opened and self._file.store:
            told(self._file.store.memory)
        else:
            self._remembers = told

    def give(self, job: Job) -> None:
        """Give the thread its next job. The call of `idle` follows."""
        self._jobs.put(job)

    def stand(self, standing: Standing, forgets: bool) -> None:
        """Have the disk say how far the journal's bridge came; `forgets`: delete the rows of the journal.

        Blocks until that is synced, after all jobs before. Raises SpoolUnusable.
        """
        if not self.thread:
            raise SpoolUnusable(self.why, self.way_out)
        wanted = _Stand(standing, forgets)
        self._jobs.put(wanted)
        if not wanted.is_over.wait(_STAND_TIMEOUT) and time.monotonic() >= self._say_stalled_at:
            self._say_stalled_at = time.monotonic() + _SAY_SLOW_AFTER  # the thread itself hangs, and can't
            log(Event.SPOOL_SLOW, seconds=_STAND_TIMEOUT, path=str(self._file.path))
        if wanted.error:
            raise wanted.error

    def end(self, identifiers: Sequence[OpenIdentifier], seconds: float) -> None:
        """Wait at most `seconds` for the thread to finish. Then save the identifiers, and close the file.

        If the thread has not finished in time, nothing is saved.
        """
        self._jobs.put(None)
        if self.thread:
            self.thread.join(max(0.0, seconds))
            if self.thread.is_alive():
                return
        if self._file.store:
            self._file.reserve.spend()
            with suppress(SpoolUnusable):
                self._file.store.save_identifiers(self._session, identifiers)
        self._file.close()

    def _done(self, results: Iterable[FromDisk]) -> None:
        """Tell the results of a job. All at once, so that the loop wakes once."""
        for result in results:
            self._take_result(result)
        self._idle()

    def _tell(self, result: FromDisk) -> None:
        self._loop.post(partial(self._take_result, result))

    # -- the thread ------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (job := self._next_job()) is not None:
                if isinstance(job, _Stand):
                    self._stand(job)
                    continue
                self._loop.post(partial(self._done, self._do(job)))
                self._measure()
                self._tidy()
        except BaseException as defect:
            # Without this thread nothing would be written, and nobody would notice: let the loop fail.
            self._loop.post(partial(_raise, defect))

    def _next_job(self) -> Job | _Stand | None:
        wait_for_job = _QUIET_AFTER
        while True:
            goes_on = self._moving or self._unread or not self._was_opened
            due = max(0.0, self._go_on_at - time.monotonic()) if goes_on else wait_for_job
            if not goes_on:  # the move comes first
                self._measure()
            with suppress(Empty):
                return self._jobs.get(timeout=due)
            if goes_on:
                self._go_on()
                self._measure()
                continue
            self._tidy()
            self._give_back(Store.give_all_back)
            wait_for_job = _MEASURE_EVERY

    def _do(self, job: Job) -> list[FromDisk]:
        results: list[FromDisk] = []
        if job.journal:
            self.unjournaled = job.journal.after(self.unjournaled) if self.unjournaled else job.journal
        if job.routes_changed:
            self._file.note_changed_routes()
        if job.verdict is not None:
            self._verdict, self._go_on_at = job.verdict, 0.0
        if not self._was_opened:
            self._open_late()
        if not self._was_opened or job.numbering != self._numbering:
            self._tell_intended(job, "")
            return (
                [self._refuse(job, "it could not be opened at the start", is_full=False)]
                if job.writes
                else []
            )
        for topic, wanted in job.reads:
            self._read(topic, wanted)
        self.undeleted += job.done
        has_more = bool(self.unjournaled or job.intent or job.confirmed)
        if not (job.writes or self.undeleted or has_more):
            return results
        intended_in = ""
        try:
            store = self._file.open()
            room, bound, limit = self._room(store) if job.writes else (0, "", "")
            taken, left = job.fitting(room)
            # With delivery exactly-once nothing goes on while the disk takes nothing.
            if left.writes and self._keeps_journal and store.squeeze():
                room, bound, limit = self._room(store)
                taken, left = job.fitting(room)
            while left.writes and self._has_made_room(store, left.size, room, bound):
                room, bound, limit = self._room(store)
                taken, left = job.fitting(room)
            if taken.writes or self.undeleted or has_more:
                results += self._commit(store, taken, job)
                intended_in = store.memory.spool
            if taken.writes:
                results.append(Written(*taken.split()))
            if left.writes:
                results.append(self._refuse(left, limit, is_full=True))
            elif taken.writes:
                self._say_usable(store)
        except DiskFull as error:  # don't retry with half of the job: deletions need the log's space
            self.delete_at = time.monotonic() + _AGAIN_WHEN_FULL
            if job.writes:
                results.append(self._refuse(job, error.reason, is_full=True))
            if self._keeps_journal:
                intended_in = self._empty_a_full_disk(job, results)
        except SpoolUnusable as error:
            self._file.give_up(error)
            self.delete_at = time.monotonic() + _AGAIN_WHEN_UNUSABLE
            if job.writes:
                self._say_unusable(error)
                results.append(self._refuse(job, error.reason, is_full=False))
        self._tell_intended(job, intended_in)
        return results

    def _empty_a_full_disk(self, job: Job, results: list[FromDisk]) -> str:
        """Write what the disk needs to become empty: deletions, and the intent of the next transaction.

        Returns the name of the spool that has the intent; empty: the disk has no room for that either. The
        next transaction is then smaller.
        """
        try:
            store = self._file.open()
            self._file.reserve.spend()
            confirmed = job.confirmed or (job.intent.confirmed if job.intent else 0)
            store.delete_in_pieces(self.undeleted, confirmed)
            self.undeleted = []
            results += self._commit(store, Job(), job)
            with suppress(DiskFull):  # then less is unused than the next messages need
                store.squeeze()
        except DiskFull:
            return ""
        except SpoolUnusable as error:
            self._file.give_up(error)
            self._say_unusable(error)
            return ""
        return store.memory.spool

    def _tell_intended(self, job: Job, spool: str) -> None:
        if job.intent:
            self._loop.post(partial(job.intended, spool))

    def _commit(self, store: Store, job: Job, whole: Job) -> list[Journaled]:
        """Write the job, which is the part of the `whole` one that fits. Returns the journal's rows."""
        began = time.monotonic()
        if self._keeps_journal and not self._file.reserve.is_held:
            # A commit that finds no room leaves a log that fills the disk. If the file had to grow for what
            # was in the log before, the log could never be emptied.
            store.try_to_empty_log()
        row = self.unjournaled
        body, messages = row.packed(job.contents) if row else (b"", 0)
        store.write(
            job.segments,
            job.letters,
            self.undeleted,
            intent=whole.intent,
            confirmed=whole.confirmed,
            journal=(row, body) if row else None,
        )
        self.undeleted = []
        self.unjournaled = None
        if job.letters:
            self._letters_written(job.letters)
            self._look_at_limits_at = 0.0
        now = time.monotonic()
        self.commits.observe(now - began)
        if now - began > _SLOW and now >= self._say_slow_at:
            self._say_slow_at = now + _SAY_SLOW_AFTER
            log(Event.SPOOL_SLOW, seconds=round(now - began, 1), path=str(store.path))
        if self._keeps_journal and self.free < _NEARLY_FULL:
            with suppress(SpoolUnusable):  # the commit has succeeded
                store.empty_log()  # so that keep_free is left for what empties the disk
        return [Journaled(row.number, messages)] if row else []

    def _usable_file(self) -> Store:
        """Raises SpoolUnusable, also where the file still can't be opened that could not be at the start."""
        if not self._was_opened:
            self._open_late()
        if not self._was_opened:
            raise SpoolUnusable(self.why, self.way_out)
        return self._file.open()

    def _even_if_full(self, write: Callable[[], None]) -> None:
        """Have this written, if necessary in the room that is kept back for it."""
        try:
            write()
        except DiskFull:
            self._file.reserve.spend()
            self._file.open().try_to_empty_log()  # what was written before in that room may fill it
            write()

    def _stand(self, wanted: _Stand) -> None:
        try:
            if self.unjournaled:  # what would settle the standing is older than this one
                self.unjournaled.settles = False
            store = self._usable_file()
            self._even_if_full(partial(store.stand, wanted.standing, wanted.forgets))
            if wanted.forgets:
                self.unjournaled = None
            wanted.error = None
        except SpoolUnusable as error:
            if not isinstance(error, DiskFull):
                self._file.give_up(error)
            self._say_unusable(error)
            wanted.error = error
        wanted.is_over.set()

    def _has_made_room(self, store: Store, wanted: int, room: int, bound: str) -> bool:
        """Remove the oldest dead letters before messages stop being acknowledged.

        False: there are none, or all of them together would not make room.
        """
        lacks = max(0, -room)
        if removed := store.make_room(self._limits, wanted + lacks, lacks, bound):
            self._log_removed(removed)
        return removed is not None

    def _log_removed(self, removed: Removed) -> None:
        log(Event.DEADLETTER_REMOVED, bound=removed.bound, letters=removed.letters, bytes=removed.size)
        self._tell(removed)

    def _room(self, store: Store) -> tuple[int, str, str]:
        """Bytes that may be written, and the setting that allows no more: its name, and in a sentence."""
        limits = self._settings
        if self._keeps_journal and not self._file.reserve.hold():
            size = self._file.reserve.size
            why = f"{self._directory} has no room for the {size} bytes that empty a full disk"
            return 0, "spool.keep_free", why
        try:
            return disk_space.room(self._directory, store.size, limits.max_bytes, limits.keep_free)
        except OSError as error:
            raise SpoolUnusable(f"{self._directory}: {error.strerror}") from error

    def _refuse(self, job: Job, reason: str, *, is_full: bool) -> Refused:
        self.again_at = time.monotonic() + (_AGAIN_WHEN_FULL if is_full else _AGAIN_WHEN_UNUSABLE)
        self._troubled, self._refused_at = True, time.monotonic()
        if is_full:
            self._is("full", reason, _MAKE_ROOM)
        return Refused(*job.split(), is_full, reason)

    def _read(self, topic: str, wanted: Wanted) -> None:
        """Read rows and post the result at once, before the job's commit. A failed read is retried later."""
        segments: list[Segment] = []
        for _ in range(2):  # the second time with a reopened file
            try:
                segments, damaged = self._file.open().read(topic, wanted)
            except SpoolUnusable as error:
                self._file.give_up(error)
                reason = error.reason
                continue
            self._failing.pop(topic, None)
            for why in damaged:
                log(Event.SPOOL_DAMAGED, reason=why)
            if not segments and not damaged:
                log(
                    Event.SPOOL_UNREADABLE,
                    topic=topic,
                    reason=f"{self._file.path}: these messages are no longer in the database",
                )
            break
        else:
            if self._may_pass(topic):
                self._unread.append((topic, wanted))
                return
            log(Event.SPOOL_UNREADABLE, topic=topic, reason=reason)
        self._tell(ReadBack(topic, segments))

    def _measure(self) -> None:
        """Look how much is used and free. At most once in _MEASURE_EVERY, for the numbers are for people."""
        now = time.monotonic()
        if now < self._measure_at:
            return
        self._measure_at = now + _MEASURE_EVERY
        with suppress(OSError):
            self.free = disk_space.free_bytes(self._directory)
        with suppress(SpoolUnusable):
            if self._file.store:
                self.used = self._file.store.size
                self.letters, self.letter_bytes = self._file.store.letters(self._limits)

    def _is(self, state: str, why: str = "", way_out: str = "") -> None:
        if state != self.state:
            self.state_since = time.monotonic()
        self.state, self.why, self.way_out = state, why, way_out

    def _tidy(self) -> None:
        """Remove dead letters that exceed their limits. Give unused space back until the next job arrives."""
        with suppress(SpoolUnusable):
            if time.monotonic() >= self._look_at_limits_at:
                self._look_at_limits_at = time.monotonic() + _LOOK_AT_LIMITS_EVERY
                while self._file.store and (removed := self._file.store.keep_limits(self._limits)):
                    self._log_removed(removed)
        self._give_back(Store.give_back)

    def _give_back(self, some: Callable[[Store], bool]) -> None:
        """Give unused space back, piece by piece, until the next job arrives."""
        with suppress(SpoolUnusable):
            while self._file.store and self._jobs.empty() and some(self._file.store):
                pass

    # -- work between jobs ------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Open the file that could not be opened, continue the move of messages, and retry failed reads."""
        if not self._was_opened:
            self._open_late()
            return
        if self._moving:
            self._move()
        unread, self._unread = self._unread, []
        for topic, wanted in unread:
            self._read(topic, wanted)

    def _open_late(self) -> None:
        """Open the file that could not be opened at the start. Its messages take the numbers before ours."""
        self._go_on_at = time.monotonic() + _AGAIN_WHEN_UNUSABLE
        try:
            store = self._file.start()  # open() would move rows, and `last` is not known yet
            found = store.backlogs()
            store.take_identifiers(self._session)  # they were good for the start alone
            if self._keeps_journal:  # of what is remembered there, nothing was recalled
                store.keep_journal(self._session, begins=True)
            else:
                self._recall(store)
                found = store.backlogs()
        except SpoolUnusable as error:
            self._file.give_up(error)
            self._say_unusable(error)
            return
        self._was_opened = True
        self.again_at = 0.0
        self._say_usable(store)
        if self._remembers:
            self._loop.post(partial(self._remembers, store.memory))
        if found:
            self._is_unsettled = self._keeps_journal and store.memory.is_open
            self.backlogs = found
            self._file.last = max(each.last for each in found)
            self._numbering += 1
            self._moving = True
            self._go_on_at = 0.0
            self._tell(Opened(self._file.last))

    def _move(self) -> None:
        """Do one step of the move. Post `Moved` when the move is complete, or when it is given up.

        Before, what Kafka has of the messages on disk is deleted: its rows are known by their names.
        """
        moved: list[Backlog] = []
        if self._is_unsettled and not self._has_settled():
            return
        try:
            if not self._file.has_moved(0.0):
                self._failing.clear()
                return
            moved = self._file.open().backlogs_up_to(self._file.last)
        except SpoolUnusable as error:
            if not isinstance(error, DiskFull):
                self._file.give_up(error)
            if self._may_pass(""):
                return
            for each in self.backlogs:
                log(Event.SPOOL_UNREADABLE, topic=each.topic, reason=error.reason)
        self._moving = False
        self._tell(Moved(moved))

    def _has_settled(self) -> bool:
        """Take the verdict about the last run's transaction. False: it has not come, or the disk fails."""
        self._go_on_at = time.monotonic() + _MEASURE_EVERY  # a job comes with the verdict
        if self._verdict is None:
            return False
        try:
            self._even_if_full(partial(self._file.open().settle, self._verdict))
        except SpoolUnusable as error:
            if not isinstance(error, DiskFull):
                self._file.give_up(error)
            self._say_unusable(error)
            self._go_on_at = time.monotonic() + _TRY_AGAIN
            return False
        self._is_unsettled = False
        self._go_on_at = 0.0
        self._loop.post(self.settled)
        return True

    def _may_pass(self, topic: str) -> bool:
        """Whether to retry, in _TRY_AGAIN seconds, what has just failed: a read of `topic`, or the move ("").

        Meanwhile, the messages that arrive for the waiting lanes are written to disk. Returns False when the
        failure has lasted for _TIMEOUT, or when the disk has refused to write since the failure began: EMQ's
        queue would overflow. The bridge then gives up order rather than messages: the unread messages stay on
        disk until the next start, and later messages overtake them.
        """
        now = time.monotonic()
        since = self._failing.setdefault(topic, now)
        if now - since > _TIMEOUT or self._refused_at > since:
            del self._failing[topic]
            return False
        self._go_on_at = now + _TRY_AGAIN
        return True

    # ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Open the database, and find what is on disk. Raises SpoolUnusable."""
        try:
            store = self._file.start()
            self._recall(store)
            self.backlogs = store.backlogs()
            with suppress(SpoolUnusable):  # an age for people is no reason to do without the file
                self.oldest = store.oldest_received()
            self._file.last = max((each.last for each in self.backlogs), default=0)
            self._is_unsettled = self._keeps_journal and store.memory.is_open
            try:
                self.moves = self._is_unsettled or not self._file.has_moved(_MOVE_BEFORE)
            except CorruptStore:
                raise
            except SpoolUnusable:  # a full disk, or an unreadable row: the move is retried
                self.moves = True
            if self.moves and not self._is_unsettled:
                log(Event.SPOOL_MOVING, messages=sum(each.messages for each in self.backlogs))
            else:
                self.backlogs = store.backlogs()
            with suppress(DiskFull):  # don't use identifiers that can't be deleted: the next start would too
                self.identifiers = store.take_identifiers(self._session)
        except CorruptStore as error:
            self.backlogs, self.moves, self._is_unsettled = [], False, False
            self.recalled = Recalled()  # of messages that are in no file of this bridge now
            self._file.begin_anew(error)
        except SpoolUnusable:
            self.backlogs, self.moves, self._is_unsettled = [], False, False
            self.recalled = Recalled()
            self._file.abandon()
            raise

    def _recall(self, store: Store) -> None:
        """Take what the last run has left for this one, and leave the mode exactly-once where it is off.

        If the disk is too full for that, the file can't be used: a later run in that mode would believe what
        is not true any more. The journal goes first, for then older packages may open the file.
        """
        self.recalled = store.take_journal(self._session, self._keeps_journal)
        if not self._keeps_journal:
            store.leave_transactions()

    def _say_usable(self, store: Store) -> None:
        self._is("usable")
        if self._troubled:
            self._troubled, self._said = False, ""
            log(Event.SPOOL_USABLE, path=str(store.path))

    def _say_unusable(self, error: SpoolUnusable) -> None:
        """Log once for each reason, because the disk is tried again every few seconds."""
        self._is("unusable", error.reason, error.way_out)
        self._troubled = True
        if error.reason != self._said:
            self._said = error.reason
            log(Event.SPOOL_UNUSABLE, reason=error.reason, way_out=error.way_out)


def _do_nothing() -> None: ...


def _raise(defect: BaseException) -> None:
    raise defect
