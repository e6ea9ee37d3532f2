"""Gives what the database does not use back to the file system: unused pages, and SQLite's log.

Every method raises sqlite3.Error. None may be called in a transaction.
"""

import sqlite3
from pathlib import Path

_VACUUM_AT_ONCE = 2000  # pages
_WORTH_A_VACUUM = 1024  # unused pages; fewer are not given back, because new rows fill them
_WORTH_SQUEEZING = 65_536  # unused bytes, where the disk is full
_VACUUM_LITTLE = 64  # pages; so many take at most 263,680 bytes of the log
_WORTH_EMPTYING = 262_144  # unused bytes; a row now and then never leaves so many


def error_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_full(error: sqlite3.Error) -> bool:
    return error_code(error) == sqlite3.SQLITE_FULL


class UnusedSpace:
    """Of one database, whose file is `path`."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database = database
        self._log = Path(f"{path}-wal")

    def give_back(self) -> bool:
        """Give some unused pages back. True: there may be more."""
        free, pages = self._free_pages()
        if free < _WORTH_A_VACUUM or 2 * free < pages:
            return False
        self.shrink()
        return True

    def give_all_back(self) -> bool:
        """Give unused pages and the log back, if no message is left. True: there is more."""
        if self._bytes < _WORTH_EMPTYING or self._has_messages():
            return False
        free, _ = self._free_pages()
        self.shrink()
        return free > _VACUUM_AT_ONCE

    def squeeze(self) -> bool:
        """Give back what is unused although it is little. False: it is hardly anything.

        For a disk that is full: SQLite's log, and pages that rows have left, may be all that fills it.
        """
        if self._bytes < _WORTH_SQUEEZING:
            return False
        self.empty_log()  # first: the rest takes room there
        try:
            self.shrink()
        except sqlite3.Error as error:
            if not is_full(error):
                raise
            self._shrink_little()
        return True

    def shrink(self) -> None:
        # Not execute(): it steps a statement without columns only once, which frees a single page.
        self._database.executescript(f"PRAGMA incremental_vacuum({_VACUUM_AT_ONCE})")
        self.empty_log()

    def empty_log(self) -> None:
        """Copy SQLite's log into the file, and give its space back."""
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def empty_large_log(self) -> None:
        """As `empty_log`, if that is worth it."""
        if self._log.stat().st_size >= _WORTH_SQUEEZING:
            self.empty_log()

    def try_to_empty_log(self) -> None:
        """The file may have no room for what is in the log. The next commit may fit nevertheless."""
        try:
            self.empty_log()
        except sqlite3.Error as error:
            if not is_full(error):
                raise

    def _shrink_little(self) -> None:
        """Give pages back in steps that a nearly full disk takes, as long as it does."""
        self.empty_log()
        for _ in range(_VACUUM_AT_ONCE // _VACUUM_LITTLE):
            if not self._free_pages()[0]:
                return
            try:
                self._database.executescript(f"PRAGMA incremental_vacuum({_VACUUM_LITTLE})")
            except sqlite3.Error as error:
                if not is_full(error):
                    raise
                return
            self.empty_log()

    @property
    def _bytes(self) -> int:
        """Of unused pages, and of the log."""
        (page,) = self._database.execute("PRAGMA page_size").fetchone()
        free, _ = self._free_pages()
        return int(free * page) + self._log.stat().st_size

    def _free_pages(self) -> tuple[int, int]:
        """The number of unused pages, and of all pages."""
        (free,) = self._database.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        return free, pages

    def _has_messages(self) -> bool:
        return self._database.execute("SELECT 1 FROM segments LIMIT 1").fetchone() is not None
