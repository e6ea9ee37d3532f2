"""Reads and deletes dead letters on disk, for commands that run beside the service.

The service waits at most 5 s for the database. So transactions here are short, and after each transaction the
command leaves the database to the service for as long as the transaction took.
"""

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bridge.delivery.dead_letter import DeadLetter, Selection, StoredLetter
from bridge.delivery.segment import properties_from_json
from bridge.errors import SpoolUnusable
from bridge.message import Message
from bridge.spool.read_only import connect, denied, look, unreadable
from bridge.spool.store import Store

_PAGE, _PAGE_BYTES = 500, 4_000_000  # of one page; at least one letter
_AT_ONCE, _AT_ONCE_BYTES = 500, 4_000_000  # of one transaction that deletes; at least one letter
_TIMEOUT = 10.0  # seconds; while the disk is slow the service's own commits take that long
_LEAST_PAUSE = 0.02  # seconds

_LAST = "SELECT ifnull(max(id), 0) FROM dead_letters"
_NO_PAYLOAD = "x''"
_COLUMNS = "id, at, length(payload), reason, route, kafka_topic, mqtt_topic, flags, received, properties"

_Answer = TypeVar("_Answer")


class StoredLetters:
    """The dead letters in one spool directory. Every method raises SpoolUnusable if the file fails."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / Store.FILE

    def pages(self, selection: Selection, payloads: bool = False) -> Iterator[list[StoredLetter]]:
        """Yield the selected dead letters, page by page, in the order in which they were written."""
        last = 0
        while page := self._look(partial(_page, selection, last, payloads)):
            found, last = page
            if found:
                yield found

    def last(self) -> int:
        """The number of the last dead letter; 0: there is none."""
        return self._look(lambda database: database.execute(_LAST).fetchone()[0]) or 0

    def delete(self, letters: Sequence[StoredLetter]) -> int:
        """Delete these dead letters. Returns how many of them were still there."""
        deleted = 0
        for numbers in _portions(letters):
            began = time.monotonic()
            deleted += self._delete(numbers)
            time.sleep(max(_LEAST_PAUSE, time.monotonic() - began))
        return deleted

    def _look(self, question: Callable[[sqlite3.Connection], _Answer]) -> _Answer | None:
        """The answer to `question`; None if there is no database."""
        try:
            if not self._path.exists():
                return None
        except OSError as error:
            raise denied(error, self._path) from None
        return look(self._path, question)

    def _delete(self, numbers: Sequence[int]) -> int:
        try:
            with closing(connect(self._path, "mode=rw")) as database:
                database.execute(f"PRAGMA busy_timeout = {_TIMEOUT * 1000:.0f}")
                database.execute("PRAGMA synchronous = FULL")
                database.execute("PRAGMA wal_autocheckpoint = 0")  # slow; the service does checkpoints
                return database.execute(
                    "DELETE FROM dead_letters WHERE id IN (SELECT value FROM json_each(?))",
                    (json.dumps(numbers),),
                ).rowcount
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
                raise SpoolUnusable(
                    f"cannot write {self._path}", "run this as the service's user, or as root"
                ) from None
            raise unreadable(self._path, error) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second replay from running at the same time. Raises SpoolUnusable if one is running."""
        try:
            descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise denied(error, self._path) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SpoolUnusable(
                    f"{self._path}: another command replays its dead letters", "wait until it has ended"
                ) from None
            yield
        finally:
            os.close(descriptor)


def _page(
    selection: Selection, after: int, payloads: bool, database: sqlite3.Connection
) -> tuple[list[StoredLetter], int] | None:
    """A page of letters with numbers above `after`, and the number after which the next page begins."""
    conditions = {"id > ?": after, **_conditions(selection)}
    rows = database.execute(
        f"SELECT {_COLUMNS}, {'payload' if payloads else _NO_PAYLOAD} FROM dead_letters"  # noqa: S608
        f" WHERE {' AND '.join(conditions)} ORDER BY id",
        list(conditions.values()),
    )
    found: list[StoredLetter] = []
    size = 0
    for count, row in enumerate(rows, 1):
        if selection.takes_topic(row[6]):
            found.append(_stored_letter(row))
            size += len(row[-1])
        if count == _PAGE or size >= _PAGE_BYTES:
            return found, row[0]
    return (found, found[-1].number) if found else None


def _conditions(selection: Selection) -> dict[str, object]:
    """The SQL conditions of a selection, each with its one value."""
    found: dict[str, object] = {}
    if selection.numbers:
        found["id IN (SELECT value FROM json_each(?))"] = json.dumps(selection.numbers)
    if selection.route is not None:
        found["route = ?"] = selection.route
    if selection.reason is not None:
        found["instr(lower(reason), lower(?))"] = selection.reason
    if selection.before is not None:
        found["at < ?"] = selection.before
    if selection.after is not None:
        found["at > ?"] = selection.after
    if selection.up_to is not None:
        found["id <= ?"] = selection.up_to
    return found


def _stored_letter(row: tuple[Any, ...]) -> StoredLetter:
    number, at, size, reason, route, kafka_topic, mqtt_topic, flags, received, properties, payload = row
    message = Message.of(
        mqtt_topic, flags, 0, properties_from_json(properties) if properties else None, payload
    )
    message.timestamp = received
    return StoredLetter(number, at, size, DeadLetter(message, reason, route, kafka_topic))


def _portions(letters: Sequence[StoredLetter]) -> Iterator[list[int]]:
    numbers: list[int] = []
    size = 0
    for each in letters:
        if numbers and (len(numbers) == _AT_ONCE or size + each.payload_size > _AT_ONCE_BYTES):
            yield numbers
            numbers, size = [], 0
        numbers.append(each.number)
        size += each.payload_size
    if numbers:
        yield numbers
