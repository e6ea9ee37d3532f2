"""Finds how much of the disk the spool may use, and whether another bridge uses the same directory."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from bridge.errors import SpoolUnusable

_LOCK = "spool.lock"
_NO_DIRECTORY = (errno.EEXIST, errno.ENOTDIR, errno.ENOENT)  # of mkdir: a file is there, or /proc
_ELSEWHERE = "set state_directory (or spool.directory, where that is set) to another path"


def room(directory: Path, used: int, max_bytes: int, keep_free: int) -> tuple[int, str, str]:
    """How many bytes may be written in addition to the `used` ones, and which setting allows no more: its
    name, and a sentence about it.

    Raises OSError.
    """
    allowed = max_bytes - used
    free = free_bytes(directory)
    # SQLite writes a commit into its log, and later copies the commit into the file. On a disk without room
    # for the copy, SQLite could never empty the log, so the bridge could not even delete. It writes whole
    # pages, of which a row may leave nearly half empty.
    fits = (free - keep_free) // 4
    if fits < allowed:
        return (
            fits,
            "spool.keep_free",
            f"{directory} has {free} bytes left, of which spool.keep_free = {keep_free} stay free",
        )
    return allowed, "spool.max_bytes", f"it holds {used} bytes of spool.max_bytes = {max_bytes}"


def not_made(error: OSError, directory: Path) -> SpoolUnusable:
    """Why the spool's directory could not be made or locked, for people."""
    reason = f"{error.filename or directory}: {error.strerror or error}"
    if error.errno in _NO_DIRECTORY:
        # A mistake in the settings far more often than a defect of the disk.
        return SpoolUnusable(reason, f"no directory can be there; {_ELSEWHERE}")
    return SpoolUnusable(reason)


def free_bytes(directory: Path) -> int:
    """How many bytes the service's user may still write there. Raises OSError."""
    state = os.statvfs(directory)
    return state.f_bavail * state.f_frsize


def lock(directory: Path) -> int:
    """Keep other bridges out of the directory as long as the returned descriptor is open.

    Raises SpoolUnusable if another bridge has locked it, OSError if the directory can't be written.
    """
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SpoolUnusable(
            f"{directory}: another bridge uses this spool",
            "stop the other one, or give each bridge a state_directory of its own (and a spool.directory,"
            " where that is set)",
        ) from None
    return descriptor


def set_aside(path: Path) -> Path:
    """Rename a damaged database and SQLite's files beside it. Returns the new name. Raises OSError."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{kept}{suffix}")
    return kept
