"""Look into the database beside the service, or while it is stopped, without changing anything.

Each look opens the file anew and asks little, so that no snapshot keeps the service's log from being taken
up into the file.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from bridge.delivery.segment import BEGINNING, MOST_BYTES, received_first
from bridge.errors import SpoolUnusable
from bridge.settings import SpoolSettings
from bridge.spool import disk
from bridge.spool.on_disk import OnDisk, Waiting
from bridge.spool.schema import require_known, used_bytes
from bridge.spool.store import SEQUENCE_BITS, Store

_TRIES, _PAUSE = 5, 0.1  # seconds; the service may be starting or stopping meanwhile
_TIMEOUT = 5.0  # seconds for a lock; readers wait only while a log is recovered

_Answer = TypeVar("_Answer")


def look(path: Path, question: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
    """What `question` finds in the database. Raises SpoolUnusable.

    A database without its log is at rest. SQLite would leave files beside it that belong to whoever
    looked, so it is then told that nothing will change; and asked again if something did.
    """
    for left in reversed(range(_TRIES)):
        at_rest = not _log(path).exists()
        mode = "mode=ro&immutable=1" if at_rest else "mode=ro"
        try:
            with closing(connect(path, mode)) as database:
                answer = question(database)
        except sqlite3.Error as error:
            if not left:
                raise unreadable(path, error) from error
            time.sleep(_PAUSE)
            continue
        if not (at_rest and _log(path).exists()):
            return answer
    raise SpoolUnusable(f"{path}: it is opened and closed all the time", "see what the service's log says")


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection to a database that is there. `mode`: parameters of SQLite's URI.

    Raises SpoolUnusable, sqlite3.Error.
    """
    try:
        with path.open("rb"):  # for a reason that SQLite does not tell
            pass
    except OSError as error:
        raise denied(error, path) from None
    uri = f"{path.absolute().as_uri()}?{mode}"
    database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_TIMEOUT)
    try:
        require_known(database, path)
    except BaseException:
        database.close()
        raise
    return database


def denied(error: OSError, path: Path) -> SpoolUnusable:
    return SpoolUnusable(
        f"cannot read {error.filename or path}: {(error.strerror or str(error)).lower()}",
        "run this as the service's user, as a member of its group, or as root",
    )


def unreadable(path: Path, error: sqlite3.Error) -> SpoolUnusable:
    return SpoolUnusable(f"{path}: {error}", "try again, and see what the service's log says of it")


def on_disk(directory: Path, limits: SpoolSettings) -> OnDisk:
    """How the spool in this directory stands. Raises SpoolUnusable."""
    path = directory / Store.FILE
    try:
        if not path.exists():
            return OnDisk(str(path), exists=False, max_bytes=limits.max_bytes, keep_free=limits.keep_free)
        topics, letters, letters_size, used = look(path, _contents)
        room, limit = disk.room(directory, used, limits.max_bytes, limits.keep_free)
        return OnDisk(
            path=str(path),
            exists=True,
            topics=topics,
            dead_letters=letters,
            dead_letters_size=letters_size,
            used=used,
            file_size=path.stat().st_size + _size(_log(path)),
            free=disk.free_bytes(directory),
            max_bytes=limits.max_bytes,
            keep_free=limits.keep_free,
            why_full="" if room >= MOST_BYTES else limit,  # a little may still fit, a segment need not
            set_aside=tuple(sorted(map(str, directory.glob(f"{Store.FILE}.damaged-*[0-9]")))),
        )
    except OSError as error:
        raise denied(error, path) from None


def _contents(database: sqlite3.Connection) -> tuple[tuple[Waiting, ...], int, int, int]:
    database.execute("BEGIN")  # all of it as of one moment
    lanes = database.execute(
        "SELECT id, topic, messages, bytes FROM lanes WHERE messages > 0 ORDER BY topic"
    ).fetchall()
    topics = [
        Waiting(topic, messages, size, _oldest(database, lane)) for lane, topic, messages, size in lanes
    ]
    letters, size = database.execute("SELECT count(*), ifnull(sum(size), 0) FROM dead_letters").fetchone()
    return tuple(topics), letters, size, used_bytes(database)


def _oldest(database: sqlite3.Connection, lane: int) -> int:
    row = database.execute(
        "SELECT substr(body, 1, ?) FROM segments WHERE position >= ? ORDER BY position LIMIT 1",
        (BEGINNING, lane << SEQUENCE_BITS),
    ).fetchone()
    return received_first(row[0]) if row else -1


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
