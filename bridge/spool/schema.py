"""The tables of the database, and the check that a file is the bridge's.

lanes             a Kafka topic, how many messages are on disk for it, the last sequence number so far
segments          position = lane << 44 | sequence of the first message; body: delivery/segment.py
dead_letters      messages that can never be delivered as they are
open_identifiers  QoS 2 identifiers that were taken when the bridge was stopped
facts             other values that the bridge remembers, by name
received          with delivery exactly-once: what a resend is recognised by; body: delivery/journal.py
"""

import sqlite3
from pathlib import Path

from bridge.errors import SpoolUnusable

VERSION = 1
# While the file knows of Kafka transactions, or has a journal. A package that knows version 1 alone would
# give the names of rows to later ones (delivery/intent.py), and acknowledge what the journal never sees.
WITH_INTENTS = 2
_APPLICATION = 0x6D716B62  # "mqkb", in the file's header

_PAGE, _USABLE = 4096, 4084  # bytes of a page, and of its cells
_LARGEST_CELL = _PAGE - 35  # what is larger has overflow pages of its own
_ROW = 50  # of a dead letter: its numbers, its header, its index entry

_SCHEMA = """
CREATE TABLE lanes (id INTEGER PRIMARY KEY, topic TEXT NOT NULL UNIQUE,
    messages INTEGER NOT NULL, bytes INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE segments (position INTEGER PRIMARY KEY, messages INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE dead_letters (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, reason TEXT NOT NULL,
    route TEXT NOT NULL, kafka_topic TEXT NOT NULL, mqtt_topic BLOB NOT NULL, flags INTEGER NOT NULL,
    received INTEGER NOT NULL, properties BLOB NOT NULL, size INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE INDEX dead_letters_by_age ON dead_letters (at, size);
CREATE TABLE open_identifiers (packet_id INTEGER PRIMARY KEY, topic BLOB NOT NULL, digest BLOB NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


def create(database: sqlite3.Connection) -> None:
    """Create the tables. Call this in a transaction."""
    for statement in _SCHEMA.split(";"):
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(f"PRAGMA user_version = {VERSION}")


def add_journal(database: sqlite3.Connection) -> None:
    """Create the table of the journal. Call this in a transaction."""
    database.execute("CREATE TABLE received (number INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    database.execute(f"PRAGMA user_version = {WITH_INTENTS}")


def has_journal(database: sqlite3.Connection) -> bool:
    return database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'received'").fetchone() is not None


def fact(database: sqlite3.Connection, name: str) -> str | None:
    row = database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else None


def set_fact(database: sqlite3.Connection, name: str, value: str) -> None:
    database.execute("REPLACE INTO facts VALUES (?, ?)", (name, value))


def require_known(database: sqlite3.Connection, path: Path) -> bool:
    """True: the database is the bridge's. False: it is empty. Raises SpoolUnusable for any other one."""
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (application,) = database.execute("PRAGMA application_id").fetchone()
    if version > WITH_INTENTS:
        raise SpoolUnusable(
            f"{path}: was made by a newer version of the bridge",
            "install that version again, and stop it when its spool is empty",
        )
    if application not in (0, _APPLICATION) or (version and not application):
        raise SpoolUnusable(
            f"{path}: is another program's database",
            "move that file away, or set state_directory (or spool.directory, where that is set) to another"
            " directory",
        )
    return bool(application)


def letter_bytes(contents: int) -> int:
    """What a dead letter takes of the file, with its row and its index entry, by the bytes of its columns.

    Rows share pages of 4,096 bytes, and of a page only whole rows count (sqlite.org/fileformat2.html, 1.6).
    """
    cell = contents + _ROW
    return _PAGE // (_USABLE // cell) if cell <= _LARGEST_CELL else cell


def used_bytes(database: sqlite3.Connection) -> int:
    """Bytes that are in use, in the file and in SQLite's log."""
    (page,) = database.execute("PRAGMA page_size").fetchone()
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    return int((pages - free) * page)
