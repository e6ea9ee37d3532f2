"""The database's file: opened, opened anew, set aside where it is damaged. Blocking; one thread at a time."""

import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from bridge.errors import SpoolUnusable
from bridge.observe.events import Event, log
from bridge.spool import disk
from bridge.spool.store import CorruptStore, LaneOf, Store

_TOPICS = 20_000  # MQTT topics of which is kept where they lead


class DatabaseFile:
    """`store` is None while the file can't be used, `last` the last sequence number from before the start."""

    def __init__(self, directory: Path, routes: str, lane_of: LaneOf) -> None:
        self.path = directory / Store.FILE
        self.store: Store | None = None
        self.last = 0
        self._directory = directory
        self._routes = routes
        self._lane_of = lru_cache(_TOPICS)(lane_of)
        self._moved = 0
        self._lock: int | None = None
        self._was_usable = False

    def start(self) -> Store:
        """Open it, whatever waits in it. Raises SpoolUnusable."""
        store = self.store = self._opened()
        self._was_usable = True
        return store

    def open(self) -> Store:
        """Open it anew, if it is not open. Raises SpoolUnusable."""
        if self.store:
            return self.store
        store = self._opened()
        if not self._was_usable and (waiting := sum(each.messages for each in store.backlogs())):
            store.close()
            # Their numbers and those of this run would be mixed up.
            raise SpoolUnusable(f"{store.path}: {waiting} messages wait in it", "restart the bridge")
        self.store = store
        self._was_usable = True
        with suppress(SpoolUnusable):  # it may still be written to; the next start has to look through it
            self._moved += self._reassign(store) or 0
        return store

    def _reassign(self, store: Store) -> int | None:
        return store.reassign(self._routes, self._lane_of, self.last)

    def has_moved(self, seconds: float) -> bool:
        """Put what is on disk where the routes lead now, for so long, or one step. True: all of it is there.

        Raises SpoolUnusable.
        """
        store = self.open()
        until = time.monotonic() + seconds
        while (moved := self._reassign(store)) is not None:
            self._moved += moved
            if time.monotonic() >= until:
                return False
        if self._moved:
            log(Event.SPOOL_REASSIGNED, messages=self._moved)
            self._moved = 0
        return True

    def abandon(self) -> None:
        """It can't be used since the start: only what is empty is opened anew."""
        self._was_usable = False
        self._shut()

    def give_up(self, error: SpoolUnusable) -> None:
        """It can't be used for now. One that is damaged is set aside, if that can be done."""
        self._shut()
        if isinstance(error, CorruptStore):
            with suppress(SpoolUnusable):
                self._set_aside(error.reason)

    def begin_anew(self, error: CorruptStore) -> None:
        """Raises SpoolUnusable where the damaged one can't be set aside."""
        self.abandon()
        self._set_aside(error.reason)
        self.open()

    def close(self) -> None:
        self._shut()
        if self._lock is not None:
            os.close(self._lock)

    def _shut(self) -> None:
        if self.store:
            self.store.close()
            self.store = None

    def _opened(self) -> Store:
        try:
            self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            if self._lock is None:
                self._lock = disk.lock(self._directory)
        except OSError as error:
            raise SpoolUnusable(f"{error.filename or self._directory}: {error.strerror}") from error
        try:
            return Store(self._directory)
        except CorruptStore as error:
            self._set_aside(error.reason)
            return Store(self._directory)

    def _set_aside(self, reason: str) -> None:
        """Keep a damaged file under another name, so that the next one begins empty.

        Raises SpoolUnusable when even that can't be done.
        """
        try:
            kept = disk.set_aside(self.path)
        except OSError as error:
            raise SpoolUnusable(f"{error.filename or self._directory}: {error.strerror}") from error
        log(
            Event.SPOOL_SET_ASIDE,
            path=str(kept),
            reason=reason,
            way_out=f'sqlite3 {kept} ".recover" | sqlite3 recovered.db (not with the sqlite3 of Debian 12);'
            f" stop the bridge when its spool is empty, move recovered.db to {self.path}, and start it",
        )
