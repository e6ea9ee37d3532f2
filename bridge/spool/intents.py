"""What the database remembers of Kafka transactions: delivery/intent.py's `Ledger`, in the table `facts`."""

import json
import sqlite3
from collections.abc import Callable, Iterable
from uuid import uuid4

from bridge.delivery.intent import Intent, Ledger, Memory, Row, Rows, from_json, to_json
from bridge.spool.schema import WITH_INTENTS

_LAST, _INTENDED, _DELIVERED = "transaction", "intent", "delivered"
_NOTHING = "{}"


class Intents:
    """The ledger of one database. Every method that changes it must be called in a transaction.

    Call `load` first, and again after a transaction that was rolled back.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._ledger = Ledger()
        self._is_marked = False  # the file's version says that it knows of transactions

    @property
    def memory(self) -> Memory:
        return self._ledger.memory

    def load(self) -> None:
        ledger = self._ledger = Ledger()
        self._is_marked = False
        if last := self._fact(_LAST):
            ledger.spool, ledger.number, ledger.run, ledger.confirmed, ledger.offset_topic = json.loads(last)
            ledger.intended = from_json(self._fact(_INTENDED) or _NOTHING)
            ledger.delivered = from_json(self._fact(_DELIVERED) or _NOTHING)

    def write(self, intent: Intent, count: Callable[[Row], int]) -> list[Row]:
        """Replace the intent by the next one. Returns the rows to delete in the same transaction."""
        ledger = self._ledger
        if not ledger.spool:
            ledger.spool = uuid4().hex
        if not self._is_marked:
            self._is_marked = True
            self._database.execute(f"PRAGMA user_version = {WITH_INTENTS}")
        before = ledger.delivered
        complete = ledger.write(intent, count)
        self._save(_INTENDED, ledger.intended)
        if ledger.delivered != before:
            self._save(_DELIVERED, ledger.delivered)
        self._save_last()
        return complete

    def confirm(self, number: int, count: Callable[[Row], int]) -> list[Row]:
        """The transaction has committed. Returns the rows to delete in the same transaction."""
        complete = self._ledger.confirm(number, count)
        if self._ledger.confirmed == number:
            self._save_all()
        return complete

    def settle(self, is_committed: bool) -> Rows:
        """Take the verdict about the intent. Returns the messages to delete in the same transaction."""
        found = self._ledger.settle(is_committed)
        self._save_all()
        return found

    def keep(self, number: int) -> None:
        """The transaction has committed. Its rows are deleted in later commits: see `complete`."""
        if self._ledger.keep(number):
            self._save_all()

    def complete(self, count: Callable[[Row], int]) -> list[Row]:
        """The rows of which Kafka has all messages, and those that are gone."""
        return self._ledger.complete(count)

    def judged(self, is_committed: bool) -> Rows:
        """As `settle`, but what is to be deleted stays named until `forget`."""
        found = self._ledger.judged(is_committed)
        self._save_all()
        return found

    def forget(self, rows: Iterable[Row]) -> None:
        """These rows were deleted, or replaced."""
        if sum(map(self._ledger.forget, rows)):
            self._save(_DELIVERED, self._ledger.delivered)

    def deleted(self, row: Row) -> None:
        """A row was deleted."""
        if self._ledger.delivered:
            self.forget([row])

    def prune(self, count: Callable[[Row], int]) -> None:
        """Forget the names of rows that are not on disk. Call it before anything is written."""
        if self._ledger.prune(count):
            self._save_all()

    def _save_all(self) -> None:
        self._save(_INTENDED, self._ledger.intended)
        self._save(_DELIVERED, self._ledger.delivered)
        if self._ledger.spool:
            self._save_last()

    def _save_last(self) -> None:
        ledger = self._ledger
        last = [ledger.spool, ledger.number, ledger.run, ledger.confirmed, ledger.offset_topic]
        self._set(_LAST, json.dumps(last))

    def _save(self, name: str, rows: Rows) -> None:
        self._set(name, to_json(rows))

    def _set(self, name: str, value: str) -> None:
        self._database.execute("REPLACE INTO facts VALUES (?, ?)", (name, value))

    def _fact(self, name: str) -> str | None:
        row = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None
