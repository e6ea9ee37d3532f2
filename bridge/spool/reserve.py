"""Keeps bytes of the disk back, so that a full one can be emptied. Blocking; one thread at a time.

With delivery exactly-once, Kafka takes a message from the disk only after the disk has taken the intent of
the transaction. So a disk without room for an intent would stay full for ever.

This rule always holds: a message is written only while the reserve is held, a file of its own. What empties
the disk may spend it: an intent, a deletion, a verdict, a standing. Each of these commits gives the room in
SQLite's log back before the next one, so the reserve is enough for any number of them.
"""

import os
from contextlib import suppress
from pathlib import Path

_FILE = "spool.reserve"
_SIZE, _SHARE = 2_000_000, 8  # bytes, and the part of a small file system


class Reserve:
    """`size`: bytes, once `hold` was called."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._is_held = False
        self.size = _SIZE

    @property
    def is_held(self) -> bool:
        return self._is_held

    def hold(self) -> bool:
        """Take the bytes, unless they are held. False: the disk has not so many."""
        if self._is_held:
            return True
        try:
            state = os.statvfs(self._path.parent)
            self.size = min(_SIZE, state.f_blocks * state.f_frsize // _SHARE)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            try:
                os.posix_fallocate(descriptor, 0, self.size)
            finally:
                os.close(descriptor)
        except OSError:
            self.spend()
            return False
        self._is_held = True
        return True

    def spend(self) -> None:
        """Give the bytes back to the file system, also those of the last run."""
        self._is_held = False
        with suppress(OSError):
            self._path.unlink()
