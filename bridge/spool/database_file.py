"""Opens and reopens the database file; sets a damaged file aside. Blocking; one thread at a time."""

import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from bridge.errors import SpoolUnusable
from bridge.observe.events import Event, log
from bridge.spool import disk_space
from bridge.spool.reserve import Reserve
from bridge.spool.store import CorruptStore, LaneOf, Store

_TOPICS = 20_000  # MQTT topics whose Kafka topic is cached


class DatabaseFile:
    """`store`: None while the file can't be used. `last`: the last sequence number from before the start.

    `reserve`: not held when the file was opened. At the end, with delivery exactly-once, it is left behind:
    the next start needs room for SQLite's files.
    """

    def __init__(self, directory: Path, routes: str, lane_of: LaneOf, journal_of: str | None = None) -> None:
        """`journal_of`: the session of the journal, with delivery exactly-once."""
        self.path = directory / Store.FILE
        self.store: Store | None = None
        self.last = 0
        self._directory = directory
        self._routes = routes
        self._lane_of = lru_cache(_TOPICS)(lane_of)
        self._journal_of = journal_of
        self.reserve = Reserve(directory)
        self._moved = 0
        self._routes_changed = False
        self._lock: int | None = None

    def start(self) -> Store:
        """Open the file at the start, whether messages are in it or not. Raises SpoolUnusable."""
        self.store = self._opened()
        return self.store

    def open(self) -> Store:
        """Open the file again, if it is not open.

        Raises SpoolUnusable, also if the start could not use the file and messages are in it.
        """
        if self.store:
            return self.store
        store = self.store = self._opened()
        if store.memory.is_open:  # its rows are known by their names; the next start moves them
            return store
        with suppress(SpoolUnusable):  # writing may still work; the next start moves the messages then
            self._moved += self._reassign(store) or 0
        return store

    def _reassign(self, store: Store) -> int | None:
        return store.reassign(self._routes, self._lane_of, self.last)

    def has_moved(self, seconds: float) -> bool:
        """Move messages to the Kafka topics of the current routes, for so long, but at least one step.

        Returns True when all messages are in the right place. Raises SpoolUnusable.
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

    def note_changed_routes(self) -> None:
        """The service has other routes than at the start: rows may follow either, until the next start."""
        self._routes_changed = True
        if self.store:
            self.store.routes_changed = True

    def abandon(self) -> None:
        """Close the file. It can't be used for now."""
        if self.store:
            self.store.close()
            self.store = None

    def give_up(self, error: SpoolUnusable) -> None:
        """The file can't be used for now: close it. A damaged file is set aside, if that is possible."""
        self.abandon()
        if isinstance(error, CorruptStore):
            with suppress(SpoolUnusable):
                self._set_aside(error.reason)

    def begin_anew(self, error: CorruptStore) -> None:
        """Set a damaged file aside, and begin a new one. Raises SpoolUnusable if that is impossible."""
        self.abandon()
        self._set_aside(error.reason)
        self.open()

    def close(self) -> None:
        self.abandon()
        if self._lock is not None:
            if self._journal_of is not None:
                self.reserve.hold()
            os.close(self._lock)

    def _opened(self) -> Store:
        try:
            self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            if self._lock is None:
                self._lock = disk_space.lock(self._directory)
        except OSError as error:
            raise disk_space.not_made(error, self._directory) from error
        self.reserve.spend()  # after the lock: it may be another bridge's
        try:
            store = Store(self._directory)
        except CorruptStore as error:
            self._set_aside(error.reason)
            store = Store(self._directory)
        store.routes_changed = self._routes_changed
        try:
            if self._journal_of is not None:
                store.keep_journal(self._journal_of)
        except SpoolUnusable:
            store.close()
            raise
        return store

    def _set_aside(self, reason: str) -> None:
        """Rename a damaged file, so that the bridge can begin an empty one.

        Raises SpoolUnusable if the file can't be renamed.
        """
        try:
            kept = disk_space.set_aside(self.path)
        except OSError as error:
            raise SpoolUnusable(f"{error.filename or self._directory}: {error.strerror}") from error
        log(
            Event.SPOOL_SET_ASIDE,
            path=str(kept),
            reason=reason,
            way_out=f'sqlite3 {kept} ".recover" | sqlite3 recovered.db (not with the sqlite3 of Debian 12);'
            f" stop the bridge when its spool is empty, move recovered.db to {self.path}, and start it",
        )
