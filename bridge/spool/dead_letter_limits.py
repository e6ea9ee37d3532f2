"""Limits how many bytes of dead letters are kept, and for how long. The oldest are removed first."""

import sqlite3
import time
from collections.abc import Sequence

from bridge import RELEASED
from bridge.delivery.clock import is_believable
from bridge.delivery.results import Removed
from bridge.settings import DeadLetterSettings

_AT_ONCE, _AT_ONCE_BYTES = 1000, 16_000_000  # of one transaction; at least one letter

_SUM = "SELECT ifnull(sum(size), 0) FROM dead_letters"
_DELETE = "DELETE FROM dead_letters WHERE id = ? RETURNING size"


class DeadLetterLimits:
    """Finds the dead letters to remove. Cheap enough to run after each written dead letter."""

    def __init__(self, limits: DeadLetterSettings) -> None:
        self._limits = limits
        self._of: sqlite3.Connection | None = None
        self._seen = -1  # SQLite's data_version, which a commit of another process changes
        self._size = self._last = 0  # bytes of the letters with numbers up to `_last`

    def beyond(self, database: sqlite3.Connection) -> tuple[str, list[int]]:
        """The limit's setting, and the numbers of the dead letters to remove now."""
        self._measure(database)
        if self._size > self._limits.max_bytes:
            return "dead_letters.max_bytes", self._oldest(database)
        return "dead_letters.max_age", self._too_old(database)

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

    def _oldest(self, database: sqlite3.Connection) -> list[int]:
        numbers: list[int] = []
        size = 0
        too_much = self._size - self._limits.max_bytes
        for number, of_this in database.execute("SELECT id, size FROM dead_letters ORDER BY id"):
            if numbers and (len(numbers) == _AT_ONCE or size + of_this > _AT_ONCE_BYTES):
                break
            numbers.append(number)
            size += of_this
            if size >= too_much:
                break
        return numbers

    def _too_old(self, database: sqlite3.Connection) -> list[int]:
        """Dead letters that are too old, if the clock is right now, and was right when they were written."""
        if not is_believable():
            return []
        rows = database.execute(
            "SELECT id FROM dead_letters WHERE at >= ? AND at < ? ORDER BY at LIMIT ?",
            (RELEASED.timestamp() * 1000, (time.time() - self._limits.max_age) * 1000, _AT_ONCE),
        )
        return [number for (number,) in rows]
