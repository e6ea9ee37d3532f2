"""Reads the database without changing it, while the service runs or is stopped.

Each call of `look` opens the file again and reads little: a long read would hold a snapshot, and while a
snapshot is held SQLite can't copy the service's log into the file.
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
from bridge.spool import disk_space
from bridge.spool.contents import OnDisk, Waiting
from bridge.spool.schema import require_known, used_bytes
from bridge.spool.store import SEQUENCE_BITS, Store

_TRIES, _PAUSE = 5, 0.1  # pause in seconds; the service may be starting or stopping meanwhile
_TIMEOUT = 5.0  # seconds to wait for a lock; readers wait only while SQLite recovers a log

_Answer = TypeVar("_Answer")


def look(path: Path, question: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
    """Run `question` on the database and return its answer. Raises SpoolUnusable.

    A database without a log file is not in use. SQLite would create files beside it that belong to the user
    of this command. So this function tells SQLite that the database does not change (immutable=1), and asks
    again if the service has opened the database meanwhile.
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
    raise SpoolUnusable(f"{path}: the service opens and closes it all the time", "see the service's log")


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to an existing database. `mode`: parameters of SQLite's URI.

    Raises SpoolUnusable, sqlite3.Error.
    """
    try:
        with path.open("rb"):  # raises OSError with the reason, which SQLite does not report
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
    return SpoolUnusable(f"{path}: {error}", "try again, and see the service's log")


def on_disk(directory: Path, limits: SpoolSettings) -> OnDisk:
    """The state of the spool in this directory. Raises SpoolUnusable."""
    path = directory / Store.FILE
    try:
        if not path.exists():
            return OnDisk(str(path), exists=False, max_bytes=limits.max_bytes, keep_free=limits.keep_free)
        topics, letters, letters_size, used = look(path, _contents)
        room, _, limit = disk_space.room(directory, used, limits.max_bytes, limits.keep_free)
        return OnDisk(
            path=str(path),
            exists=True,
            topics=topics,
            dead_letters=letters,
            dead_letters_size=letters_size,
            used=used,
            file_size=path.stat().st_size + _size(_log(path)),
            free=disk_space.free_bytes(directory),
            max_bytes=limits.max_bytes,
            keep_free=limits.keep_free,
            why_full="" if room >= MOST_BYTES else limit,  # room for a whole segment
            set_aside=tuple(sorted(map(str, directory.glob(f"{Store.FILE}.damaged-*[0-9]")))),
        )
    except OSError as error:
        raise denied(error, path) from None


def _contents(database: sqlite3.Connection) -> tuple[tuple[Waiting, ...], int, int, int]:
    database.execute("BEGIN")  # all answers are of the same moment
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
