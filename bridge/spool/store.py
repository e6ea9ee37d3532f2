"""The database of the spool and of the dead letters. All calls block; one thread at a time may call.

SQLite runs in WAL mode with synchronous=FULL: when a commit returns, its messages are on disk, synced, and
the bridge may acknowledge them.

Commands beside the service (`bridge spool status`, `bridge dead-letters`) open the same file.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.intent import Intent, Memory, Row, Rows
from bridge.delivery.journal import JournalRow, Recalled, Standing
from bridge.delivery.results import Removed
from bridge.delivery.segment import (
    BEGINNING,
    Segment,
    Wanted,
    cut,
    pack,
    properties_to_json,
    received_first,
    unpack,
)
from bridge.errors import CorruptSegment, SpoolUnusable
from bridge.message import NO_TIMESTAMP, Message, OpenIdentifier
from bridge.spool.dead_letter_limits import DeadLetterLimits
from bridge.spool.intents import Intents
from bridge.spool.journal_table import JournalTable
from bridge.spool.schema import VERSION, create, fact, letter_bytes, require_known, set_fact, used_bytes
from bridge.spool.unused_space import UnusedSpace, error_code, is_full

SEQUENCE_BITS = 44  # of a row's position; 19 bits remain for the lane
_SEQUENCES = (1 << SEQUENCE_BITS) - 1
_LAST_LANE = (1 << (63 - SEQUENCE_BITS)) - 1  # a position is a signed number of 64 bits
_REASSIGN_AT_ONCE, _REASSIGN_BYTES = 50, 2_000_000  # segments, bytes of one step; at least one segment
_WORTH_REMOVING = 2000  # lanes; with fewer, those without messages stay for the next message
_REMOVE_EVERY = 60.0  # seconds
_DELETE_AT_ONCE = 64  # rows of the first commit on a full disk; each has twice as many, if they fit
_FEWER = 4  # by so much fewer, if they don't

_NOT_ALONE = " and others"  # behind the routes of a start, where the service has taken others since

LaneOf = Callable[[bytes], tuple[str, str]]
"""Returns the Kafka topic for an MQTT topic by the current routes; or an empty one, and the reason."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The messages on disk for one Kafka topic. `last`: no message there has a higher sequence number."""

    topic: str
    messages: int
    size: int  # bytes
    last: int


class CorruptStore(SpoolUnusable):
    """The file is not a database, or is a damaged one."""


class DiskFull(SpoolUnusable):
    """The file system has no room for this commit. The database is unchanged."""


_KINDS = {
    sqlite3.SQLITE_CORRUPT: CorruptStore,
    sqlite3.SQLITE_NOTADB: CorruptStore,
    sqlite3.SQLITE_FULL: DiskFull,
}


class Store:
    """The open database. Every method raises SpoolUnusable if the disk or the file fails."""

    FILE = "spool.db"

    def __init__(self, directory: Path) -> None:
        """Open the database, or create it."""
        self.path = directory / self.FILE
        self._lanes: dict[str, int] = {}
        self._topics: dict[int, str] = {}  # the same, the other way
        # The lanes that the open transaction has made (True) or removed, in order.
        self._changed_lanes: list[tuple[bool, str, int]] = []
        self._remove_lanes_at = 0.0  # monotonic seconds
        self._is_settled = False  # all messages are in the Kafka topics of this run's routes
        self.routes_changed = False  # the service has taken other routes since it started
        with self._translated():
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            # SQLite creates its log with the permissions that the database has at that time.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
            self._db = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, cached_statements=32
            )
            self._intents, self._journal = Intents(self._db), JournalTable(self._db)
            self._unused = UnusedSpace(self._db, self.path)
            try:
                self._set_up()
            except BaseException:
                self._db.close()
                raise

    def _set_up(self) -> None:
        execute = self._db.execute
        # Write nothing before it is clear that this file is the bridge's.
        is_new = not require_known(self._db, self.path)
        if is_new:
            execute("PRAGMA auto_vacuum = INCREMENTAL")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA journal_size_limit = 4194304")
        if is_new:
            with self._transaction():
                create(self._db)
        self._topics = dict(execute("SELECT id, topic FROM lanes").fetchall())
        self._lanes = {topic: number for number, topic in self._topics.items()}
        self._intents.load()
        if self._intents.memory.is_open:
            with self._transaction():
                self._intents.prune(self._count)

    # -- segments ------------------------------------------------------------------------------------

    def write(
        self,
        segments: Iterable[tuple[str, Segment, bytes]],
        letters: Iterable[DeadLetter] = (),
        done: Iterable[tuple[str, Segment]] = (),
        *,
        intent: Intent | None = None,
        confirmed: int = 0,
        journal: tuple[JournalRow, bytes] | None = None,
    ) -> None:
        """In one commit: insert segments, with their bodies, and dead letters; delete segments of `done`;
        write the next Kafka transaction's intent, and a row of the journal with its body. `confirmed`:
        the last transaction that has committed, whose rows are deleted.

        The commit is on disk, synced, when this method returns.
        """
        with self._translated(), self._transaction():
            # The rows no longer all follow the last run's routes.
            if not self._is_settled or self.routes_changed:
                self._db.execute("DELETE FROM facts WHERE name = 'routes'")
            for topic, segment, body in segments:
                self._insert(topic, segment, body)
            for letter in letters:
                self._insert_letter(letter)
            for topic, segment in done:
                self._delete_row((topic, segment.first))
            complete = self._intents.confirm(confirmed, self._count) if confirmed else []
            complete += self._intents.write(intent, self._count) if intent else []
            for row in complete:
                self._delete_row(row)
            if journal:
                self._journal.insert(*journal)
            if len(self._lanes) > _WORTH_REMOVING and time.monotonic() >= self._remove_lanes_at:
                self._remove_lanes_at = time.monotonic() + _REMOVE_EVERY
                self._remove_lanes()

    def delete_in_pieces(self, done: Iterable[tuple[str, Segment]], confirmed: int) -> None:
        """Delete what `write` deletes, in commits so small that a disk without room takes them.

        The log is emptied after each, so all of them take no more room than one.
        """
        with self._translated():
            self._unused.try_to_empty_log()  # first: the file may need room for what is in the log already
            with self._transaction():
                self._intents.keep(confirmed)
            self._unused.try_to_empty_log()
            rows = dict.fromkeys((topic, segment.first) for topic, segment in done)
            rows.update(dict.fromkeys(self._intents.complete(self._count)))

            def delete(piece: list[Row]) -> None:
                for topic, first in piece:
                    if topic in self._lanes:
                        self._delete(self._lane(topic) | first)
                self._intents.forget(piece)

            self._in_pieces(list(rows), delete)

    def _in_pieces(self, rows: list[Row], take: Callable[[list[Row]], None]) -> None:
        at_once = _DELETE_AT_ONCE
        while rows:
            try:
                with self._transaction():
                    take(rows[:at_once])
            except sqlite3.Error as error:
                if not is_full(error) or at_once == 1:
                    raise
                at_once = max(1, at_once // _FEWER)
            else:
                del rows[:at_once]
                at_once *= 2
            self._unused.try_to_empty_log()

    def read(self, topic: str, wanted: Wanted) -> tuple[list[Segment], list[str]]:
        """Read the wanted segments. Returns them, and a reason for each segment that is damaged.

        Damaged segments are left out, and stay in the file.
        """
        found: list[Segment] = []
        damaged: list[str] = []
        messages, size = wanted.messages, wanted.size
        if topic not in self._lanes:  # for example in a new file after a damaged one was set aside
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
        """A backlog for each Kafka topic that has messages on disk."""
        with self._translated():
            rows = self._db.execute("SELECT topic, messages, bytes, last FROM lanes WHERE messages > 0")
            return [Backlog(*row) for row in rows.fetchall()]

    def oldest_received(self) -> int:
        """When the oldest message on disk was received, in ms since 1970; -1: not known.

        Reads the beginning of one row of each lane.
        """
        oldest = NO_TIMESTAMP
        with self._translated():
            for (number,) in self._db.execute("SELECT id FROM lanes WHERE messages > 0").fetchall():
                row = self._db.execute(
                    "SELECT substr(body, 1, ?) FROM segments WHERE position > ? AND position < ?"
                    " ORDER BY position LIMIT 1",
                    (BEGINNING, number << SEQUENCE_BITS, (number + 1) << SEQUENCE_BITS),
                ).fetchone()
                if row and (received := received_first(row[0])) != NO_TIMESTAMP:
                    oldest = received if oldest == NO_TIMESTAMP else min(oldest, received)
        return oldest

    def backlogs_up_to(self, last: int) -> list[Backlog]:
        """Like `backlogs`, but only of rows whose sequence number is at most `last`. Looks at every row."""
        with self._translated():
            rows = self._db.execute(
                "SELECT topic, sum(segments.messages), sum(length(body)) FROM segments"
                " JOIN lanes ON lanes.id = position >> ? WHERE position & ? <= ? GROUP BY topic",
                (SEQUENCE_BITS, _SEQUENCES, last),
            )
            return [Backlog(topic, messages, size, last) for topic, messages, size in rows.fetchall()]

    def reassign(self, routes: str, lane_of: LaneOf, last: int = _SEQUENCES) -> int | None:
        """If the routes have changed, move some of the messages to the Kafka topics of the current `routes`.

        Messages with a sequence number above `last` were written by this run, and are in the right place; if
        this method looked at them too, it might never finish. Returns how many messages were moved, or None
        if all are in the right place. The database may hold gigabytes, so one call does one step, in a commit
        of its own. The next call continues after that step, even after a restart.
        """
        if self.routes_changed:  # rows of other routes may follow: no start must believe that all is moved
            routes += _NOT_ALONE
        with self._translated():
            if fact(self._db, "routes") == routes:
                self._is_settled = True
                return None
            with self._transaction():
                reached, _, of = (fact(self._db, "reassigned") or "").partition(" ")
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
                if rows:
                    set_fact(self._db, "reassigned", f"{after} {routes}")
                else:
                    set_fact(self._db, "routes", routes)
            self._is_settled = not rows
            return moved if rows else None

    def _reassign(self, position: int, lane_of: LaneOf) -> int:
        (body,) = self._db.execute("SELECT body FROM segments WHERE position = ?", (position,)).fetchone()
        topic = self._topics[position >> SEQUENCE_BITS]
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
                    self._insert_letter(DeadLetter(message, reason))
                for segment in cut(group) if now else ():
                    self._insert(now, segment, pack(segment.messages))
            return len(messages) - len(groups.get((topic, ""), ()))
        return 0

    def _insert(self, topic: str, segment: Segment, body: bytes) -> None:
        lane = self._lane(topic)
        row = (lane | segment.first, segment.count, body)
        try:
            self._db.execute("INSERT INTO segments VALUES (?, ?, ?)", row)
        except sqlite3.IntegrityError:  # a commit was reported as failed, but had succeeded
            self._delete(lane | segment.first)
            self._db.execute("INSERT INTO segments VALUES (?, ?, ?)", row)
        self._db.execute(
            "UPDATE lanes SET messages = messages + ?, bytes = bytes + ?, last = max(last, ?) WHERE id = ?",
            (segment.count, len(body), segment.last, lane >> SEQUENCE_BITS),
        )

    def _count(self, row: Row) -> int:
        """How many messages a row has; 0: there is no such row."""
        topic, first = row
        if topic not in self._lanes:
            return 0
        found = self._db.execute(
            "SELECT messages FROM segments WHERE position = ?", (self._lane(topic) | first,)
        ).fetchone()
        return int(found[0]) if found else 0

    def _delete_row(self, row: Row) -> None:
        topic, first = row
        if topic in self._lanes:  # it is not, for example in a new file after a damaged one was set aside
            self._delete(self._lane(topic) | first)
            self._intents.forget([row])

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
        """The part of a row's position that names the lane of `topic`."""
        number = self._lanes.get(topic)
        if number is None:
            number = self._free_number()
            self._db.execute(
                "INSERT INTO lanes (id, topic, messages, bytes, last) VALUES (?, ?, 0, 0, 0)", (number, topic)
            )
            self._lanes[topic], self._topics[number] = number, topic
            self._changed_lanes.append((True, topic, number))
        return number << SEQUENCE_BITS

    def _free_number(self) -> int:
        """A number for a new lane. Where none is left, lanes that have nothing on disk give theirs back."""
        (last,) = self._db.execute("SELECT ifnull(max(id), 0) FROM lanes").fetchone()
        if last < _LAST_LANE:
            return int(last) + 1
        self._remove_lanes()
        taken = self._db.execute("SELECT id FROM lanes ORDER BY id")
        number = 1
        for (one,) in taken:
            if one != number:
                break
            number += 1
        if number > _LAST_LANE:
            raise SpoolUnusable(
                f"{self.path}: messages of {_LAST_LANE:,} Kafka topics wait in it, and it can name no more",
                "let Kafka take some of them: kafka.topic_missing and kafka.lane_held name the topics",
            )
        return number

    def _remove_lanes(self) -> None:
        """Remove the lanes that have nothing on disk. A lane that is needed again is made anew."""
        idle = self._db.execute("DELETE FROM lanes WHERE messages = 0 RETURNING topic, id").fetchall()
        for topic, number in idle:
            if self._lanes.pop(topic, None):
                del self._topics[number]
                self._changed_lanes.append((False, topic, number))

    # -- dead letters --------------------------------------------------------------------------------

    def _insert_letter(self, letter: DeadLetter) -> None:
        message = letter.message
        properties = b"" if message.properties is None else properties_to_json(message.properties)
        texts = (
            message.payload,
            message.topic,
            properties,
            letter.reason.encode(),
            letter.route.encode(),
            letter.kafka_topic,
        )
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
                letter_bytes(sum(map(len, texts))),
                message.payload,
            ),
        )

    def keep_limits(self, bounds: DeadLetterLimits) -> Removed | None:
        """Remove some of the dead letters that exceed their limits. Returns None if there were none."""
        with self._translated():
            if bounds.ages_are_due(self._db):
                with self._transaction():
                    bounds.note_ages(self._db)
            bound, numbers = bounds.beyond(self._db)
            return self._remove(bounds, bound, numbers)

    def letters(self, bounds: DeadLetterLimits) -> tuple[int, int]:
        """How many dead letters there are, and the bytes that they take."""
        with self._translated():
            (count,) = self._db.execute("SELECT count(*) FROM dead_letters").fetchone()
            return count, bounds.total(self._db)

    def make_room(self, bounds: DeadLetterLimits, wanted: int, lacks: int, bound: str) -> Removed | None:
        """Remove some of the oldest dead letters, for `wanted` bytes of messages. None: there were none.

        `lacks` of these bytes are missing before any message fits; where all letters together take less, none
        is removed. `bound` is the setting that leaves no room otherwise. The freed space goes back to the
        file system.
        """
        with self._translated():
            if bounds.total(self._db) <= lacks:  # another program fills the disk: nothing is gained
                return None
            removed = self._remove(bounds, bound, bounds.oldest(self._db, wanted))
            if removed:
                self._unused.shrink()
            return removed

    def _remove(self, bounds: DeadLetterLimits, bound: str, numbers: list[int]) -> Removed | None:
        if not numbers:
            return None
        with self._transaction():
            removed = bounds.remove(self._db, bound, numbers)
        return removed if removed.letters else None  # another command has deleted them first

    # -- Kafka transactions ---------------------------------------------------------------------------

    @property
    def memory(self) -> Memory:
        """What the file remembers of the last Kafka transaction."""
        return self._intents.memory

    def settle(self, is_committed: bool) -> None:
        """Take the verdict about the last intent: delete what Kafka has, and forget the names of its rows.

        Call this before any row is moved, read or deleted. A row of which Kafka has a part is replaced.
        """
        with self._translated():
            try:
                with self._transaction():
                    self._take_out_all(self._intents.settle(is_committed))
            except sqlite3.Error as error:
                if not is_full(error):
                    raise
                self._settle_in_pieces(is_committed)

    def _settle_in_pieces(self, is_committed: bool) -> None:
        """For a disk without room. What is not deleted yet stays named: the next verdict deletes it."""
        self._unused.try_to_empty_log()
        with self._transaction():
            found = self._intents.judged(is_committed)
        self._unused.try_to_empty_log()

        def take_out(piece: list[Row]) -> None:
            self._take_out_all({row: found[row] for row in piece})
            self._intents.forget(piece)

        self._in_pieces(list(found), take_out)

    def _take_out_all(self, found: Rows) -> None:
        for (topic, first), delivered in found.items():
            if topic in self._lanes:
                self._take_out(topic, self._lane(topic) | first, frozenset(delivered))

    def leave_transactions(self) -> None:
        """The bridge delivers at least once from now on: forget the names of rows.

        What Kafka confirmed is deleted. If the last transaction's outcome is unknown, it is produced again.
        """
        with self._translated():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if not self.memory.is_open and version == VERSION:
            return
        self.settle(False)
        with self._translated(), self._transaction():
            self._db.execute(f"PRAGMA user_version = {VERSION}")
            self._intents.load()  # the next intent sets the version again

    def _take_out(self, topic: str, position: int, delivered: frozenset[int]) -> None:
        row = self._db.execute("SELECT body FROM segments WHERE position = ?", (position,)).fetchone()
        if row is None:
            return
        rest: list[Message] = []
        if delivered:
            with suppress(CorruptSegment):  # a damaged row stays for people: it is never produced
                rest = [each for each in unpack(row[0]) if each.sequence not in delivered]
                self._delete(position)
        else:
            self._delete(position)
        for segment in cut(rest):
            self._insert(topic, segment, pack(segment.messages))

    # -- the journal ---------------------------------------------------------------------------------

    def take_journal(self, session: str, keep: bool) -> Recalled:
        """Return what the journal has of this session.

        `keep`: go on with it, or begin one. Otherwise remove it: it is good for the start alone.
        """
        with self._translated():
            found = self._journal.recall(session)
            if found is None and keep:
                self.keep_journal(session, begins=True)
            if not keep and self._journal.exists:
                with self._transaction():
                    self._journal.remove()
        return found or Recalled()

    def keep_journal(self, session: str, begins: bool = False) -> None:
        """Have a journal from now on. `begins`: what it has now is worthless."""
        with self._translated():
            # Debian's SQLite writes zeros over what is deleted: in the log they take as much as the rows.
            self._db.execute("PRAGMA secure_delete = OFF").fetchall()
            if begins or not self._journal.exists:
                with self._transaction():
                    self._journal.begin(session)

    def stand(self, standing: Standing, forgets: bool) -> None:
        """Write how far the journal's bridge came; `forgets`: delete all rows of the journal."""
        with self._translated(), self._transaction():
            self._journal.stand(standing, forgets)

    # -- identifiers ---------------------------------------------------------------------------------

    def save_identifiers(self, session: str, identifiers: Iterable[OpenIdentifier]) -> None:
        """Save the identifiers of this session that are open at a clean stop."""
        with self._translated(), self._transaction():
            self._db.execute("DELETE FROM open_identifiers")
            self._db.executemany("INSERT INTO open_identifiers VALUES (?, ?, ?)", list(identifiers))
            set_fact(self._db, "session", session)

    def take_identifiers(self, session: str) -> list[OpenIdentifier]:
        """Return the identifiers that the last clean stop saved for this session, and delete them for good.

        They are valid for one start only: later the broker may give them to other messages.
        """
        with self._translated(), self._transaction():
            rows = self._db.execute("SELECT packet_id, topic, digest FROM open_identifiers").fetchall()
            if rows:  # otherwise write nothing: the disk may be full
                self._db.execute("DELETE FROM open_identifiers")
            is_ours = fact(self._db, "session") == session
            return [OpenIdentifier(*row) for row in rows] if is_ours else []

    # -- the file ------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes that are in use, in the file and in SQLite's log."""
        with self._translated():
            return used_bytes(self._db)

    def give_back(self) -> bool:
        """Give some unused space back to the file system. True: there may be more."""
        with self._translated():
            return self._unused.give_back()

    def give_all_back(self) -> bool:
        """If no message is left, give back unused space and SQLite's log. True: there is more."""
        with self._translated():
            return self._unused.give_all_back()

    def empty_log(self) -> None:
        """Give the space of SQLite's log back, if that is worth it."""
        with self._translated():
            self._unused.empty_large_log()

    def try_to_empty_log(self) -> None:
        """Give the space of SQLite's log back, unless the file has no room for what is in the log."""
        with self._translated():
            self._unused.try_to_empty_log()

    def squeeze(self) -> bool:
        """Give unused space back although little is unused, for a disk that is full. False: hardly any is."""
        with self._translated():
            return self._unused.squeeze()

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._changed_lanes.clear()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # The rollback takes back which lanes this transaction made and removed.
            for was_made, topic, number in reversed(self._changed_lanes):
                if was_made:
                    del self._lanes[topic], self._topics[number]
                else:
                    self._lanes[topic], self._topics[number] = number, topic
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            with suppress(sqlite3.Error):
                self._intents.load()
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            kind = _KINDS.get(error_code(error), SpoolUnusable)
            raise kind(f"{self.path}: {error}") from error
        except OSError as error:
            raise SpoolUnusable(f"{error.filename or self.path}: {error.strerror}") from error
        except SpoolUnusable:
            raise
        except Exception as defect:  # the disk thread must outlive a defect: it is tried again, and logged
            raise SpoolUnusable(f"{self.path}: {defect!r}", "report it, with the log") from defect
