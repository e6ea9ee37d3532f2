"""What the database remembers of Kafka transactions: delivery/intent.py's `Account`, in the table `facts`."""

import json
import sqlite3
from collections.abc import Callable, Iterable
from uuid import uuid4

from bridge.delivery.intent import Account, Intent, Memory, Row, Rows, from_json, to_json
from bridge.spool.schema import WITH_INTENTS, fact, set_fact

_LAST, _INTENDED, _DELIVERED = "transaction", "intent", "delivered"
_NOTHING = "{}"


class Intents:
    """The account of one database. Every method that changes it must be called in a transaction.

    Call `load` first, and again after a transaction that was rolled back.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._account = Account()
        self._is_marked = False  # the file's version says that it knows of transactions

    @property
    def memory(self) -> Memory:
        return self._account.memory

    def load(self) -> None:
        self._account = Account()
        self._is_marked = False
        if last := fact(self._database, _LAST):
            spool, number, run, confirmed, offset_topic = json.loads(last)
            intended = from_json(fact(self._database, _INTENDED) or _NOTHING)
            delivered = from_json(fact(self._database, _DELIVERED) or _NOTHING)
            self._account = Account(spool, number, run, confirmed, offset_topic, intended, delivered)

    def write(self, intent: Intent, count: Callable[[Row], int]) -> list[Row]:
        """Replace the intent by the next one. Returns the rows to delete in the same transaction."""
        account = self._account
        if not account.spool:
            account.spool = uuid4().hex
        if not self._is_marked:
            self._is_marked = True
            self._database.execute(f"PRAGMA user_version = {WITH_INTENTS}")
        before = account.delivered
        complete = account.write(intent, count)
        self._save(_INTENDED, account.intended)
        if account.delivered != before:
            self._save(_DELIVERED, account.delivered)
        self._save_last()
        return complete

    def confirm(self, number: int, count: Callable[[Row], int]) -> list[Row]:
        """The transaction has committed. Returns the rows to delete in the same transaction."""
        complete = self._account.confirm(number, count)
        if self._account.confirmed == number:
            self._save_all()
        return complete

    def settle(self, is_committed: bool) -> Rows:
        """Take the verdict about the intent. Returns the messages to delete in the same transaction."""
        found = self._account.settle(is_committed)
        self._save_all()
        return found

    def keep(self, number: int) -> None:
        """The transaction has committed. Its rows are deleted in later commits: see `complete`."""
        if self._account.keep(number):
            self._save_all()

    def complete(self, count: Callable[[Row], int]) -> list[Row]:
        """The rows of which Kafka has all messages, and those that are gone."""
        return self._account.complete(count)

    def judged(self, is_committed: bool) -> Rows:
        """As `settle`, but what is to be deleted stays named until `forget`."""
        found = self._account.judged(is_committed)
        self._save_all()
        return found

    def forget(self, rows: Iterable[Row]) -> None:
        """These rows were deleted, or replaced."""
        if sum(map(self._account.forget, rows)):
            self._save(_DELIVERED, self._account.delivered)

    def prune(self, count: Callable[[Row], int]) -> None:
        """Forget the names of rows that are not on disk. Call it before anything is written."""
        if self._account.prune(count):
            self._save_all()

    def _save_all(self) -> None:
        self._save(_INTENDED, self._account.intended)
        self._save(_DELIVERED, self._account.delivered)
        if self._account.spool:
            self._save_last()

    def _save_last(self) -> None:
        account = self._account
        last = [account.spool, account.number, account.run, account.confirmed, account.offset_topic]
        set_fact(self._database, _LAST, json.dumps(last))

    def _save(self, name: str, rows: Rows) -> None:
        set_fact(self._database, name, to_json(rows))
