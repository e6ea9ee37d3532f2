"""The disk thread: it alone writes and reads the spool's database while the service runs.

The loop gives it one job at a time (job.py). Between jobs the thread moves what routes lead elsewhere, tries
failed reads again, keeps the limits of the dead letters, and gives unused space back to the file system.

When the disk can't be used, the thread refuses what it was given: the messages stay in memory, the bridge
goes on with Kafka alone, and the loop hands them over again later.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.results import FromDisk, Moved, ReadBack, Refused, Written
from bridge.delivery.segment import Segment, Wanted
from bridge.errors import SpoolUnusable
from bridge.loop import Loop, start_thread
from bridge.message import OpenIdentifier
from bridge.observe.events import Event, log
from bridge.settings import DeadLetterSettings, SpoolSettings
from bridge.spool import disk
from bridge.spool.database_file import DatabaseFile
from bridge.spool.dead_letter_limits import DeadLetterLimits
from bridge.spool.job import Job
from bridge.spool.store import Backlog, CorruptStore, DiskFull, LaneOf, Store

_AGAIN_WHEN_FULL, _AGAIN_WHEN_UNUSABLE = 1.0, 5.0  # seconds
_SLOW = 1.0  # seconds for one commit
_SAY_SLOW_AFTER = 60.0
_LOOK_AT_LIMITS_EVERY = 60.0
_QUIET_AFTER = 2.0  # seconds without a job; a spool that is used on and off needs its space again
# Seconds. What takes longer must not keep the bridge from connecting: EMQ's queue is short.
_MOVE_BEFORE = 1.0
_TRY_AGAIN, _TIMEOUT = 2.0, 60.0  # seconds, where the disk failed to read


class DiskThread:
    """`backlogs` is what was on disk before the start, `identifiers` what the last clean stop has saved.

    `moves`: the routes have changed, and not all of that is where they lead yet. `Moved` follows.

    While the thread has no job, the loop may read and set what is public here; while it has one, the loop may
    only read `again_at`.
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
    ) -> None:
        """`tell` and `idle` run in the loop's thread: with each result, and once a job is done.

        Raises NoThread.
        """
        self._settings = settings
        self._session = session
        self._directory = directory
        self._loop = loop
        self._idle = idle
        self._take_result = tell
        self._letters_written = letters_written
        self._file = DatabaseFile(directory, routes, lane_of)
        self._limits = DeadLetterLimits(letters)
        self._look_at_limits_at = 0.0
        self.backlogs: list[Backlog] = []
        self.identifiers: list[OpenIdentifier] = []
        self.moves = False
        self.undeleted: list[tuple[str, Segment]] = []  # what a failed commit has left
        self.again_at = 0.0  # monotonic seconds, when the disk is tried again
        self.delete_at = 0.0  # monotonic seconds, when rows are deleted next
        self._troubled = False  # what was refused last has not been written yet
        self._refused_at = 0.0
        self._said = ""
        self._say_slow_at = 0.0
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        try:
            self._start()
        except SpoolUnusable as error:
            self._say_unusable(error)
            self.again_at = time.monotonic() + _AGAIN_WHEN_UNUSABLE
        # What the thread goes on with, when, and since when that fails.
        self._moving = self.moves
        self._unread: list[tuple[str, Wanted]] = []
        self._failing: dict[str, float] = {}
        self._go_on_at = 0.0
        self.thread = start_thread(self._work, "spool")

    def give(self, job: Job) -> None:
        """The thread's next job. `idle` follows."""
        self._jobs.put(job)

    def end(self, identifiers: Sequence[OpenIdentifier], seconds: float) -> None:
        """Wait so long at most for the jobs to be done, then save the open identifiers and close the file."""
        self._jobs.put(None)
        self.thread.join(max(0.0, seconds))
        if self.thread.is_alive():
            return
        if self._file.store:
            with suppress(SpoolUnusable):
                self._file.store.save_identifiers(self._session, identifiers)
        self._file.close()

    def _tell(self, result: FromDisk) -> None:
        self._loop.post(partial(self._take_result, result))

    # -- the thread ------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (job := self._next_job()) is not None:
                for result in self._do(job):
                    self._tell(result)
                self._loop.post(self._idle)
                self._tidy()
        except BaseException as defect:
            # Without this thread nothing would be written any more, and nobody would know.
            self._loop.post(partial(_raise, defect))

    def _next_job(self) -> Job | None:
        patience = _QUIET_AFTER
        while True:
            goes_on = self._moving or self._unread
            due = max(0.0, self._go_on_at - time.monotonic()) if goes_on else patience
            with suppress(Empty):
                return self._jobs.get(timeout=due)
            if goes_on:
                self._go_on()
                continue
            self._tidy()
            self._give_back(Store.give_all_back)
            patience = _LOOK_AT_LIMITS_EVERY

    def _do(self, job: Job) -> list[FromDisk]:
        results: list[FromDisk] = []
        for topic, wanted in job.reads:
            self._read(topic, wanted)
        self.undeleted += job.done
        if not job.writes and not self.undeleted:
            return results
        try:
            store = self._file.open()
            room, limit = self._room(store) if job.writes else (0, "")
            taken, left = job.fitting(room)
            if taken.writes or self.undeleted:
                self._commit(store, taken)
            if taken.writes:
                results.append(Written(*taken.split()))
            if left.writes:
                results.append(self._refuse(left, limit, is_full=True))
            elif taken.writes:
                self._say_usable(store)
        except DiskFull as error:  # not the half of it: what the log has got is left to what deletes
            self.delete_at = time.monotonic() + _AGAIN_WHEN_FULL
            if job.writes:
                results.append(self._refuse(job, error.reason, is_full=True))
        except SpoolUnusable as error:
            self._file.give_up(error)
            self.delete_at = time.monotonic() + _AGAIN_WHEN_UNUSABLE
            if job.writes:
                self._say_unusable(error)
                results.append(self._refuse(job, error.reason, is_full=False))
        return results

    def _commit(self, store: Store, job: Job) -> None:
        began = time.monotonic()
        store.write(job.segments, job.letters, self.undeleted)
        self.undeleted = []
        if job.letters:
            self._letters_written(job.letters)
            self._look_at_limits_at = 0.0
        now = time.monotonic()
        if now - began > _SLOW and now >= self._say_slow_at:
            self._say_slow_at = now + _SAY_SLOW_AFTER
            log(Event.SPOOL_SLOW, seconds=round(now - began, 1), path=str(store.path))

    def _room(self, store: Store) -> tuple[int, str]:
        limits = self._settings
        try:
            return disk.room(self._directory, store.size, limits.max_bytes, limits.keep_free)
        except OSError as error:
            raise SpoolUnusable(f"{self._directory}: {error.strerror}") from error

    def _refuse(self, job: Job, reason: str, *, is_full: bool) -> Refused:
        self.again_at = time.monotonic() + (_AGAIN_WHEN_FULL if is_full else _AGAIN_WHEN_UNUSABLE)
        self._troubled, self._refused_at = True, time.monotonic()
        return Refused(*job.split(), is_full, reason)

    def _read(self, topic: str, wanted: Wanted) -> None:
        """Its result does not wait for the job's commit."""
        segments: list[Segment] = []
        for _ in range(2):  # once more with the file opened anew
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
                    reason=f"{self._file.path}: they are no longer in there",
                )
            break
        else:
            if self._may_pass(topic):
                self._unread.append((topic, wanted))
                return
            log(Event.SPOOL_UNREADABLE, topic=topic, reason=reason)
        self._tell(ReadBack(topic, segments))

    def _tidy(self) -> None:
        """Keep the bounds of the dead letters, and give space back while there is nothing else to do."""
        with suppress(SpoolUnusable):
            if time.monotonic() >= self._look_at_limits_at:
                self._look_at_limits_at = time.monotonic() + _LOOK_AT_LIMITS_EVERY
                while self._file.store and (removed := self._file.store.keep_limits(self._limits)):
                    log(
                        Event.DEADLETTER_REMOVED,
                        bound=removed.bound,
                        letters=removed.letters,
                        bytes=removed.size,
                    )
                    self._tell(removed)
        self._give_back(Store.give_back)

    def _give_back(self, some: Callable[[Store], bool]) -> None:
        """Piece by piece, as long as there is nothing else to do."""
        with suppress(SpoolUnusable):
            while self._file.store and self._jobs.empty() and some(self._file.store):
                pass

    # -- what the thread has to do besides ---------------------------------------------------------------

    def _go_on(self) -> None:
        """With what takes longer than a job, or failed and may be better by now."""
        if self._moving:
            self._move()
        unread, self._unread = self._unread, []
        for topic, wanted in unread:
            self._read(topic, wanted)

    def _move(self) -> None:
        """A step of it."""
        moved: list[Backlog] = []
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

    def _may_pass(self, topic: str) -> bool:
        """What has just failed is worth another try, soon.

        Who waits for it has what comes written to disk. Where the disk does not take that either, EMQ's queue
        would overflow meanwhile, and order is given up before messages are.
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
        """Raises SpoolUnusable."""
        try:
            store = self._file.start()
            self.backlogs = store.backlogs()
            self._file.last = max((each.last for each in self.backlogs), default=0)
            try:
                self.moves = not self._file.has_moved(_MOVE_BEFORE)
            except CorruptStore:
                raise
            except SpoolUnusable:  # a full disk, a row that can't be read: it is tried again
                self.moves = True
            if self.moves:
                log(Event.SPOOL_MOVING, messages=sum(each.messages for each in self.backlogs))
            else:
                self.backlogs = store.backlogs()
            with suppress(DiskFull):  # what can't be taken away must not be used: it would be used again
                self.identifiers = store.take_identifiers(self._session)
        except CorruptStore as error:
            self.backlogs, self.moves = [], False
            self._file.begin_anew(error)
        except SpoolUnusable:
            self.backlogs, self.moves = [], False
            self._file.abandon()
            raise

    def _say_usable(self, store: Store) -> None:
        if self._troubled:
            self._troubled, self._said = False, ""
            log(Event.SPOOL_USABLE, path=str(store.path))

    def _say_unusable(self, error: SpoolUnusable) -> None:
        """Once for each reason: it is tried again every few seconds."""
        self._troubled = True
        if error.reason != self._said:
            self._said = error.reason
            log(Event.SPOOL_UNUSABLE, reason=error.reason, way_out=error.way_out)


def _raise(defect: BaseException) -> None:
    raise defect
