"""How much of the disk the spool may use, and whether another bridge uses the same directory."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from bridge.errors import SpoolUnusable

_LOCK = "spool.lock"


def room(directory: Path, used: int, max_bytes: int, keep_free: int) -> tuple[int, str]:
    """How many more bytes may be written beside the `used` ones, and which limit it is that allows no more.

    Raises OSError.
    """
    allowed = max_bytes - used
    free = free_bytes(directory)
    # A commit stands in the log, and then in the file besides. A disk without room for the second could never
    # empty the log, and so not even delete.
    fits = (free - keep_free) // 2
    if fits < allowed:
        return fits, f"{directory} has {free} bytes left, of which spool.keep_free = {keep_free} stay free"
    return allowed, f"it holds {used} bytes of spool.max_bytes = {max_bytes}"


def free_bytes(directory: Path) -> int:
    """What the service's user may still write there. Raises OSError."""
    state = os.statvfs(directory)
    return state.f_bavail * state.f_frsize


def lock(directory: Path) -> int:
    """Keep other bridges out of the directory as long as the returned descriptor is open.

    Raises SpoolUnusable when one is in there, OSError when the directory can't be written.
    """
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SpoolUnusable(
            f"{directory}: another bridge uses this spool", "give each bridge a spool.directory of its own"
        ) from None
    return descriptor


def set_aside(path: Path) -> Path:
    """Rename a damaged database and what belongs to it. Returns the new name. Raises OSError."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{kept}{suffix}")
    return kept
