"""The journal of delivery/journal.py on disk: its rows, whose session it is of, how far the bridge came."""

import sqlite3

from bridge.delivery.journal import JournalRow, Recalled, Standing, recalled
from bridge.spool.schema import add_journal, fact, has_journal, set_fact

_SESSION, _STANDING = "journal_of", "standing"


class JournalTable:
    """The journal of one database. Every method that changes it must be called in a transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @property
    def exists(self) -> bool:
        return has_journal(self._database)

    def recall(self, session: str) -> Recalled | None:
        """What the journal has of this session; None: it is of another one, worthless, or there is none."""
        standing = Standing(fact(self._database, _STANDING) or Standing.KNOWN)
        if not self.exists or fact(self._database, _SESSION) != session or standing is Standing.DOUBTED:
            return None
        rows = self._database.execute("SELECT number, body FROM received ORDER BY number").fetchall()
        return recalled(rows, standing)

    def begin(self, session: str) -> None:
        """Begin a journal of this session, without any row."""
        if not self.exists:
            add_journal(self._database)
        self.stand(Standing.KNOWN, forgets=True)
        set_fact(self._database, _SESSION, session)

    def remove(self) -> None:
        self._database.execute("DROP TABLE received")
        self._database.execute("DELETE FROM facts WHERE name IN (?, ?)", (_STANDING, _SESSION))

    def stand(self, standing: Standing, forgets: bool) -> None:
        """Write how far the journal's bridge came; `forgets`: delete all rows."""
        set_fact(self._database, _STANDING, standing)
        if forgets:
            self._database.execute("DELETE FROM received")

    def insert(self, row: JournalRow, body: bytes) -> None:
        if row.settles:
            self.stand(Standing.KNOWN, row.forgets)
        elif row.forgets:
            self._database.execute("DELETE FROM received")
        if row.obsolete:
            self._database.execute("DELETE FROM received WHERE number <= ?", (row.obsolete,))
        if body:
            # If the row is there, the commit that wrote it was reported as failed. It has more then: the
            # entries of messages that are written again later, in other rows.
            self._database.execute("INSERT OR IGNORE INTO received VALUES (?, ?)", (row.number, body))
