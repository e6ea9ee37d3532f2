"""The database of the spool and of the dead letters. Blocking; one thread at a time.

SQLite in WAL mode with synchronous=FULL: a commit is on disk when it returns, so what it holds may be
acknowledged.

A reader beside the service (`bridge spool status`, `bridge dead-letters`) opens the same file.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.results import Removed
from bridge.delivery.segment import Segment, Wanted, cut, pack, properties_to_json, unpack
from bridge.errors import CorruptSegment, SpoolUnusable
from bridge.message import Message, OpenIdentifier
from bridge.spool.dead_letter_limits import DeadLetterLimits
from bridge.spool.schema import create, require_known, used_bytes

SEQUENCE_BITS = 44  # of a position; leaves 19 for the lane
_SEQUENCES = (1 << SEQUENCE_BITS) - 1
_VACUUM_AT_ONCE = 2000  # pages
_REASSIGN_AT_ONCE, _REASSIGN_BYTES = 50, 2_000_000  # segments, of one step; one at least
_WORTH_A_VACUUM = 1024  # pages that hold nothing; what comes next fills them
_WORTH_EMPTYING = 262_144  # bytes; a row now and then never takes as much

LaneOf = Callable[[bytes], tuple[str, str]]
"""Where messages of an MQTT topic go now: a Kafka topic, or an empty one and the reason."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is on disk for one Kafka topic. `last`: no sequence number there is higher."""

    topic: str
    messages: int
    size: int  # bytes
    last: int


class CorruptStore(SpoolUnusable):
    """The file is no database, or a damaged one."""


class DiskFull(SpoolUnusable):
    """The file system has no room for this commit; the database is as it was."""


_KINDS = {
    sqlite3.SQLITE_CORRUPT: CorruptStore,
    sqlite3.SQLITE_NOTADB: CorruptStore,
    sqlite3.SQLITE_FULL: DiskFull,
}


class Store:
    """Raises SpoolUnusable, from every method, where the disk or the file does not let it work."""

    FILE = "spool.db"

    def __init__(self, directory: Path) -> None:
        """Open the database, or create it."""
        self.path = directory / self.FILE
        self._lanes: dict[str, int] = {}
        self._is_settled = False  # all is where the routes of this run lead
        with self._translated():
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            # SQLite gives its log the rights that the database has when the log is made.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
            self._db = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, cached_statements=32
            )
            try:
                self._set_up()
            except BaseException:
                self._db.close()
                raise

    def _set_up(self) -> None:
        execute = self._db.execute
        # Nothing is written before it is known whose file this is.
        is_new = not require_known(self._db, self.path)
        if is_new:
            execute("PRAGMA auto_vacuum = INCREMENTAL")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA journal_size_limit = 4194304")
        if is_new:
            with self._transaction():
                create(self._db)
        self._lanes = {topic: number for number, topic in execute("SELECT id, topic FROM lanes")}

    # -- segments ------------------------------------------------------------------------------------

    def write(
        self,
        segments: Iterable[tuple[str, Segment, bytes]],
        letters: Iterable[DeadLetter] = (),
        done: Iterable[tuple[str, Segment]] = (),
    ) -> None:
        """One commit: these bodies in, these dead letters in, those segments out. On disk at return."""
        with self._translated(), self._transaction():
            if not self._is_settled:  # from now on not all of it is by the routes of the last run
                self._db.execute("DELETE FROM facts WHERE name = 'routes'")
            for topic, segment, body in segments:
                self._insert(topic, segment, body)
            for letter in letters:
                self._bury(letter)
            for topic, segment in done:
                self._delete(self._lane(topic) | segment.first)

    def read(self, topic: str, wanted: Wanted) -> tuple[list[Segment], list[str]]:
        """The segments that are wanted, and the reasons of those that had to be left out.

        What is left out stays in the file.
        """
        found: list[Segment] = []
        damaged: list[str] = []
        messages, size = wanted.messages, wanted.size
        if topic not in self._lanes:  # as in a file that was begun after a damaged one
            return [], []
        lane = self._lane(topic)
        after = lane | wanted.after
        with self._translated():
            while found == [] or (messages > 0 and size > 0):
                row = self._db.execute(
                    "SELECT position, messages, body FROM segments WHERE position > ? AND position <= ?"
                    " ORDER BY position LIMIT 1",
                    (after, lane | wanted.last),
                ).fetchone()
                if row is None:
                    break
                after, count, body = row
                messages -= count
                size -= len(body)
                try:
                    found.append(Segment(unpack(body)))
                except CorruptSegment as error:
                    damaged.append(f"{self.path}: segment {after}, {count} messages: {error}")
        return found, damaged

    def backlogs(self) -> list[Backlog]:
        """What is on disk for each topic that has something there."""
        with self._translated():
            rows = self._db.execute("SELECT topic, messages, bytes, last FROM lanes WHERE messages > 0")
            return [Backlog(*row) for row in rows.fetchall()]

    def backlogs_up_to(self, last: int) -> list[Backlog]:
        """The same, without what has a later sequence number. It looks at each row."""
        with self._translated():
            rows = self._db.execute(
                "SELECT topic, sum(segments.messages), sum(length(body)) FROM segments"
                " JOIN lanes ON lanes.id = position >> ? WHERE position & ? <= ? GROUP BY topic",
                (SEQUENCE_BITS, _SEQUENCES, last),
            )
            return [Backlog(topic, messages, size, last) for topic, messages, size in rows.fetchall()]

    def reassign(self, routes: str, lane_of: LaneOf, last: int = _SEQUENCES) -> int | None:
        """Put some of the messages where they belong by now, if `routes` are not those of the last run.

        What is behind `last` was written since, and is there; to look at that too would be no end. Returns
        how many have moved, or None: all are where they belong. There may be gigabytes, so this is one step:
        a commit of its own, behind which the next one goes on, also after another start.
        """
        with self._translated():
            if self._fact("routes") == routes:
                self._is_settled = True
                return None
            with self._transaction():
                reached, _, of = (self._fact("reassigned") or "").partition(" ")
                after = int(reached) if of == routes else 0
                rows = self._db.execute(
                    "SELECT position, length(body) FROM segments WHERE position > ? AND position & ? <= ?"
                    " ORDER BY position LIMIT ?",
                    (after, _SEQUENCES, last, _REASSIGN_AT_ONCE),
                ).fetchall()
                moved = size = 0
                for after, of_this in rows:
                    moved += self._reassign(after, lane_of)
                    size += of_this
                    if size >= _REASSIGN_BYTES:
                        break
                self._db.execute("DELETE FROM facts WHERE name IN ('routes', 'reassigned')")
                fact = ("reassigned", f"{after} {routes}") if rows else ("routes", routes)
                self._db.execute("INSERT INTO facts VALUES (?, ?)", fact)
            self._is_settled = not rows
            return moved if rows else None

    def _reassign(self, position: int, lane_of: LaneOf) -> int:
        (body,) = self._db.execute("SELECT body FROM segments WHERE position = ?", (position,)).fetchone()
        topic = next(t for t, number in self._lanes.items() if number == position >> SEQUENCE_BITS)
        with suppress(CorruptSegment):
            messages = unpack(body)
            groups: dict[tuple[str, str], list[Message]] = {}
            for message in messages:
                groups.setdefault(lane_of(message.topic), []).append(message)
            if list(groups) == [(topic, "")]:
                return 0
            self._delete(position)
            for (now, reason), group in groups.items():
                for message in group if reason else ():
                    self._bury(DeadLetter(message, reason))
                for segment in cut(group) if now else ():
                    self._insert(now, segment, pack(segment.messages))
            return len(messages) - len(groups.get((topic, ""), ()))
        return 0

    def _insert(self, topic: str, segment: Segment, body: bytes) -> None:
        lane = self._lane(topic)
        row = (lane | segment.first, segment.count, body)
        try:
            self._db.execute("INSERT INTO segments VALUES (?, ?, ?)", row)
        except sqlite3.IntegrityError:  # a commit that was said to have failed has not
            self._delete(lane | segment.first)
            self._db.execute("INSERT INTO segments VALUES (?, ?, ?)", row)
        self._db.execute(
            "UPDATE lanes SET messages = messages + ?, bytes = bytes + ?, last = max(last, ?) WHERE id = ?",
            (segment.count, len(body), segment.last, lane >> SEQUENCE_BITS),
        )

    def _delete(self, position: int) -> None:
        deleted = self._db.execute(
            "DELETE FROM segments WHERE position = ? RETURNING messages, length(body)", (position,)
        ).fetchall()
        for messages, size in deleted:
            self._db.execute(
                "UPDATE lanes SET messages = messages - ?, bytes = bytes - ? WHERE id = ?",
                (messages, size, position >> SEQUENCE_BITS),
            )

    def _lane(self, topic: str) -> int:
        """The lane's part of its segments' positions."""
        number = self._lanes.get(topic)
        if number is None:
            self._db.execute(
                "INSERT OR IGNORE INTO lanes (topic, messages, bytes, last) VALUES (?, 0, 0, 0)", (topic,)
            )
            (number,) = self._db.execute("SELECT id FROM lanes WHERE topic = ?", (topic,)).fetchone()
            self._lanes[topic] = number
        return number << SEQUENCE_BITS

    # -- dead letters --------------------------------------------------------------------------------

    def _bury(self, letter: DeadLetter) -> None:
        message = letter.message
        properties = b"" if message.properties is None else properties_to_json(message.properties)
        self._db.execute(
            "INSERT INTO dead_letters (at, reason, route, kafka_topic, mqtt_topic, flags, received,"
            " properties, size, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                time.time_ns() // 1_000_000,
                letter.reason,
                letter.route,
                letter.kafka_topic,
                message.topic,
                message.flags,
                message.timestamp,
                properties,
                len(message.payload) + len(message.topic) + len(properties),
                message.payload,
            ),
        )

    def keep_limits(self, bounds: DeadLetterLimits) -> Removed | None:
        """Remove some of the dead letters that are beyond their bounds. None: there were none."""
        with self._translated():
            bound, numbers = bounds.beyond(self._db)
            if not numbers:
                return None
            with self._transaction():
                removed = bounds.remove(self._db, bound, numbers)
            return removed if removed.letters else None  # somebody else was quicker

    # -- identifiers ---------------------------------------------------------------------------------

    def save_identifiers(self, session: str, identifiers: Iterable[OpenIdentifier]) -> None:
        """What is open at a clean stop, in this session."""
        with self._translated(), self._transaction():
            self._db.execute("DELETE FROM open_identifiers")
            self._db.executemany("INSERT INTO open_identifiers VALUES (?, ?, ?)", list(identifiers))
            self._db.execute("REPLACE INTO facts VALUES ('session', ?)", (session,))

    def take_identifiers(self, session: str) -> list[OpenIdentifier]:
        """What the last clean stop has saved, if it was this session's.

        Good for one start: later they may be other messages'.
        """
        with self._translated(), self._transaction():
            rows = self._db.execute("SELECT packet_id, topic, digest FROM open_identifiers").fetchall()
            if rows:  # else nothing is written: the disk may be full
                self._db.execute("DELETE FROM open_identifiers")
            is_ours = self._fact("session") == session
            return [OpenIdentifier(*row) for row in rows] if is_ours else []

    # -- the file ------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes of the file and its log that hold something."""
        with self._translated():
            return used_bytes(self._db)

    def give_back(self) -> bool:
        """Give some of what is no longer needed back to the file system. True: there is more."""
        with self._translated():
            free, pages = self._free_pages()
            if free < _WORTH_A_VACUUM or 2 * free < pages:
                return False
            self._shrink()
            return True

    def give_all_back(self) -> bool:
        """Where no message is left, give back all that is free, and the log. True: there is more."""
        with self._translated():
            free, _ = self._free_pages()
            (page,) = self._db.execute("PRAGMA page_size").fetchone()
            log = Path(f"{self.path}-wal").stat().st_size
            if free * page + log < _WORTH_EMPTYING or self.backlogs():
                return False
            self._shrink()
            return free > _VACUUM_AT_ONCE

    def _shrink(self) -> None:
        # Not execute(): it steps a statement without columns only once, which frees a single page.
        self._db.executescript(f"PRAGMA incremental_vacuum({_VACUUM_AT_ONCE})")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _free_pages(self) -> tuple[int, int]:
        """Pages that hold nothing, and all there are."""
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        return free, pages

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._db.close()

    def _fact(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        lanes = dict(self._lanes)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._lanes = lanes  # a lane that was made in it is gone again
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            kind = _KINDS.get(code, SpoolUnusable)
            raise kind(f"{self.path}: {error}") from error
        except OSError as error:
            raise SpoolUnusable(f"{error.filename or self.path}: {error.strerror}") from error
