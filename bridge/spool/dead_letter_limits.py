"""Limits how many bytes of dead letters are kept, and for how long. The oldest are removed first."""

import sqlite3
from collections.abc import Sequence

from bridge.delivery.results import Removed
from bridge.settings import DeadLetterSettings
from bridge.spool.dead_letter_ages import DeadLetterAges

_AT_ONCE, _AT_ONCE_BYTES = 1000, 16_000_000  # of one transaction; at least one letter

_SUM = "SELECT ifnull(sum(size), 0) FROM dead_letters"
_DELETE = "DELETE FROM dead_letters WHERE id = ? RETURNING size"


class DeadLetterLimits:
    """Finds the dead letters to remove. Cheap enough to run after each written dead letter."""

    def __init__(self, limits: DeadLetterSettings) -> None:
        self._limits = limits
        self._of: sqlite3.Connection | None = None
        self._ages: DeadLetterAges | None = None
        self._seen = -1  # SQLite's data_version, which a commit of another process changes
        self._size = self._last = 0  # bytes of the letters with numbers up to `_last`

    def beyond(self, database: sqlite3.Connection) -> tuple[str, list[int]]:
        """The limit's setting, and the numbers of the dead letters to remove now."""
        self._measure(database)
        if self._size > self._limits.max_bytes:
            too_much = self._size - self._limits.max_bytes
            return "dead_letters.max_bytes", self.oldest(database, too_much)
        return "dead_letters.max_age", self._too_old(database)

    def ages_are_due(self, database: sqlite3.Connection) -> bool:
        """Whether `note_ages` has something to write."""
        return self._ages_of(database).is_due(_numbers(database)[1])

    def note_ages(self, database: sqlite3.Connection) -> None:
        """Write down which letters exist now. Call it in a transaction."""
        self._ages_of(database).mark(*_numbers(database))

    def _ages_of(self, database: sqlite3.Connection) -> DeadLetterAges:
        if self._ages is None or database is not self._of:
            self._ages = DeadLetterAges(database, self._limits.max_age)
            self._of, self._seen = database, -1
        return self._ages

    def remove(self, database: sqlite3.Connection, bound: str, numbers: Sequence[int]) -> Removed:
        """Remove these dead letters. Call this in a transaction."""
        count = size = 0
        for number in numbers:
            for (of_this,) in database.execute(_DELETE, (number,)).fetchall():
                count += 1
                size += of_this
        self._size -= size
        return Removed(bound, count, size)

    def _measure(self, database: sqlite3.Connection) -> None:
        (seen,) = database.execute("PRAGMA data_version").fetchone()
        if database is self._of and seen == self._seen:
            (more,) = database.execute(f"{_SUM} WHERE id > ?", (self._last,)).fetchone()
            self._size += more
        else:
            (self._size,) = database.execute(_SUM).fetchone()
            self._of, self._seen = database, seen
        (self._last,) = database.execute("SELECT ifnull(max(id), 0) FROM dead_letters").fetchone()

    def total(self, database: sqlite3.Connection) -> int:
        """Bytes that all dead letters take."""
        self._measure(database)
        return self._size

    def oldest(self, database: sqlite3.Connection, wanted: int) -> list[int]:
        """The oldest letters that together take about `wanted` bytes; some of them, where they are many."""
        numbers: list[int] = []
        size = 0
        for number, of_this in database.execute("SELECT id, size FROM dead_letters ORDER BY id"):
            if numbers and (len(numbers) == _AT_ONCE or size + of_this > _AT_ONCE_BYTES):
                break
            numbers.append(number)
            size += of_this
            if size >= wanted:
                break
        return numbers

    def _too_old(self, database: sqlite3.Connection) -> list[int]:
        """Dead letters that are too old for certain, whatever this machine's clock shows."""
        up_to = self._ages_of(database).too_old()
        rows = database.execute(
            "SELECT id FROM dead_letters WHERE id <= ? ORDER BY id LIMIT ?", (up_to, _AT_ONCE)
        )
        return [number for (number,) in rows] if up_to else []


def _numbers(database: sqlite3.Connection) -> tuple[int, int]:
    """Of the first letter and of the last one; 0: there are none."""
    first, last = database.execute("SELECT min(id), max(id) FROM dead_letters").fetchone()
    return first or 0, last or 0
