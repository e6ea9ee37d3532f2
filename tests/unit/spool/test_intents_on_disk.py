"""Kafka transactions in the spool's database: intents, confirmations, and the verdict at a start."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.delivery.intent import Intent, Memory, Rows
from bridge.delivery.results import Moved, ReadBack, Written
from bridge.delivery.segment import Segment, Wanted, cut, pack
from bridge.errors import SpoolUnusable
from bridge.loop import Loop
from bridge.message import Message
from bridge.settings import SpoolSettings
from bridge.spool import schema
from bridge.spool import store as store_module
from bridge.spool.spool import Spool
from bridge.spool.store import DiskFull, Store
from tests.harness.conditions import wait_until

ALL = Wanted(0, 2**44 - 1, 10**6, 10**9)


def rows(store: Store, topic: str = "t") -> list[list[int]]:
    """The sequence numbers of each row's messages."""
    return [[each.sequence for each in segment.messages] for segment in store.read(topic, ALL)[0]]


def segment(*sequences: int) -> Segment:
    messages = []
    for sequence in sequences:
        message = Message.of(b"mqtt", 2, 1, None, b"x")
        message.sequence, message.timestamp = sequence, -1
        messages.append(message)
    (made,) = cut(messages)
    return made


def put(store: Store, *segments: Segment, topic: str = "t") -> None:
    store.write([(topic, each, pack(each.messages)) for each in segments])


def intent(number: int, rows: Rows, confirmed: int = 0) -> Intent:
    return Intent(number, "run", rows, confirmed, "where")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    put(made, segment(1, 2, 3), segment(4, 5))
    return made


def test_a_file_without_transactions_knows_of_none_and_may_be_opened_by_older_packages(store: Store) -> None:
    assert store.memory == Memory()
    assert version(store) == schema.VERSION
    store.write((), intent=intent(1, {("t", 1): ()}))
    assert len(store.memory.spool) == 32
    assert version(store) == schema.WITH_INTENTS


def version(store: Store) -> int:
    with sqlite3.connect(store.path) as database:
        (found,) = database.execute("PRAGMA user_version").fetchone()
    database.close()
    return int(found)


def test_an_intent_outlives_a_crash_and_names_its_rows(store: Store, tmp_path: Path) -> None:
    store.write((), intent=intent(1, {("t", 1): (1, 2)}))
    before = store.memory
    store.close()
    again = Store(tmp_path)
    assert again.memory == before == Memory(before.spool, 1, "run", 0, True, "where")
    again.settle(True)
    assert rows(again) == [[3], [4, 5]]
    assert again.memory == Memory(before.spool, 1, "run", 1, False, "where")
    (backlog,) = again.backlogs()
    assert backlog.messages == 3


def test_without_a_commit_in_kafka_all_stays(store: Store) -> None:
    store.write((), intent=intent(1, {("t", 1): (1, 2), ("t", 4): ()}))
    store.settle(False)
    assert rows(store) == [[1, 2, 3], [4, 5]]
    assert store.memory.confirmed == 0


def test_the_next_intent_deletes_what_the_last_one_has_delivered_in_the_same_commit(store: Store) -> None:
    store.write((), intent=intent(1, {("t", 1): ()}))
    store.write((), intent=intent(2, {("t", 4): (4,)}, confirmed=1))
    assert rows(store) == [[4, 5]]


def test_parts_of_rows_are_remembered_until_the_row_is_deleted(store: Store, tmp_path: Path) -> None:
    store.write((), intent=intent(1, {("t", 1): (1,)}))
    store.write((), intent=intent(2, {("t", 1): (2,)}, confirmed=1))
    store.write((), intent=intent(3, {("t", 1): (3,)}, confirmed=2))
    store.close()
    again = Store(tmp_path)
    again.settle(False)
    assert rows(again) == [[3], [4, 5]]


def test_a_row_that_was_deleted_leaves_no_name_for_a_later_row(store: Store, tmp_path: Path) -> None:
    store.write((), intent=intent(1, {("t", 1): (), ("t", 4): ()}))
    store.write((), done=[("t", segment(1, 2, 3)), ("t", segment(4, 5))])
    store.close()
    again = Store(tmp_path)
    assert not again.memory.is_open
    put(again, segment(1, 2))
    again.settle(True)
    assert rows(again) == [[1, 2]]


def test_a_commit_that_fails_changes_neither_rows_nor_intents(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write((), intent=intent(1, {("t", 1): ()}))
    monkeypatch.setattr(store, "_insert", _raise)
    with pytest.raises(SpoolUnusable):
        store.write([("t", segment(6), b"")], intent=intent(2, {("t", 4): ()}, confirmed=1), confirmed=1)
    monkeypatch.undo()
    assert store.memory.number == 1
    store.settle(True)
    assert rows(store) == [[4, 5]]


def _raise(*_: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


def test_the_mode_is_left_without_what_kafka_has_confirmed(store: Store) -> None:
    store.write((), intent=intent(1, {("t", 1): (1,)}))
    store.write((), intent=intent(2, {("t", 4): ()}, confirmed=1))
    store.leave_transactions()
    assert rows(store) == [[2, 3], [4, 5]]
    assert not store.memory.is_open
    assert version(store) == schema.VERSION


def test_the_mode_that_was_left_may_come_back(store: Store) -> None:
    store.write((), intent=intent(1, {("t", 1): ()}))
    store.leave_transactions()
    store.write((), intent=intent(2, {("t", 4): ()}))
    assert version(store) == schema.WITH_INTENTS


def test_a_deletion_in_pieces_leaves_each_name_until_its_row_is_gone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_DELETE_AT_ONCE", 1)
    put(store, segment(6), segment(7), segment(8))
    store.write((), intent=intent(1, {("t", 1): (1,), ("t", 4): (), ("t", 6): (), ("t", 7): ()}))
    left = iter((2, 1, 0))
    delete = store._delete

    def fails_later(position: int) -> None:
        if not next(left):
            raise sqlite3.OperationalError("the power fails")
        delete(position)

    monkeypatch.setattr(store, "_delete", fails_later)
    with pytest.raises(SpoolUnusable):
        store.delete_in_pieces([("t", segment(8))], confirmed=1)
    store.close()
    again = Store(tmp_path)
    assert rows(again) == [[1, 2, 3], [4, 5], [6], [7]]  # the second commit is of two rows
    assert again.memory.is_open
    assert again.memory.confirmed == 1
    again.settle(False)
    assert rows(again) == [[2, 3]]


def test_a_deletion_in_pieces_goes_on_with_the_next_intent(store: Store, tmp_path: Path) -> None:
    store.write((), intent=intent(1, {("t", 1): (1, 2), ("t", 4): ()}))
    store.delete_in_pieces([], confirmed=1)
    assert rows(store) == [[1, 2, 3]]
    store.write((), intent=intent(2, {("t", 1): (3,)}, confirmed=1), confirmed=1)
    store.delete_in_pieces([], confirmed=2)
    assert rows(store) == []
    assert not store.memory.is_open


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_verdict_that_finds_no_room_is_taken_in_pieces(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    monkeypatch.setattr(store_module, "_DELETE_AT_ONCE", 4)
    put(store, segment(6), segment(7))
    store.write((), intent=intent(1, {("t", 1): (1,), ("t", 6): ()}))
    store.write((), intent=intent(2, {("t", 1): (2,), ("t", 4): (), ("t", 7): ()}, confirmed=1))
    take_out, calls = store._take_out_all, []

    def full(found: Rows) -> None:
        calls.append(found)
        if len(found) > 1 or len(calls) == 1:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        take_out(found)

    monkeypatch.setattr(store, "_take_out_all", full)
    store.settle(is_committed)
    left = [[3]] if is_committed else [[2, 3], [4, 5], [7]]
    assert rows(store) == left
    assert not store.memory.is_open
    store.close()
    assert rows(Store(tmp_path)) == left


# -- through the disk thread ---------------------------------------------------------------------------


class Disk:
    def __init__(self, directory: Path, keeps_journal: bool = True) -> None:
        self.loop = Loop()
        self.spool = Spool(
            SpoolSettings(keep_free=0),
            directory,
            self.loop,
            "routes",
            lambda _: ("t", ""),
            "me",
            keeps_journal=keeps_journal,
        )

    def until(self, condition: Callable[[], object]) -> None:
        def goes_on() -> object:
            self.spool.turn(10.0**9)
            self.loop.wait(0.01)
            return condition()

        wait_until(goes_on, 10.0, "the disk has answered")

    def write(self, *segments: Segment) -> None:
        self.spool.write("t", segments)
        self.until(lambda: any(isinstance(each, Written) for each in self.spool.results))
        self.spool.results.clear()

    def intend(self, wanted: Intent) -> str:
        told: list[str] = []
        self.spool.intend(wanted, told.append)
        self.until(lambda: told)
        return told[0]

    def close(self) -> None:
        self.spool.close([])
        self.loop.close()


def test_the_spools_name_is_told_once_the_intent_is_synced(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.write(segment(1, 2))
    name = disk.intend(intent(1, {("t", 1): ()}))
    disk.close()
    assert Store(tmp_path).memory == Memory(name, 1, "run", 0, True, "where")


def test_an_intent_that_finds_no_room_is_told_and_messages_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path)
    disk.write(segment(1, 2))
    write = Store.write

    def full(store: Store, *arguments: Any, **named: Any) -> None:
        if named.get("intent"):
            raise DiskFull("no room")
        write(store, *arguments, **named)

    monkeypatch.setattr(store_module.Store, "write", full)
    assert disk.intend(intent(1, {("t", 1): ()})) == ""
    monkeypatch.undo()
    assert disk.intend(intent(2, {("t", 1): ()})) != ""
    disk.close()


@pytest.mark.parametrize(("is_committed", "left"), [(True, [[3]]), (False, [[1, 2, 3]])])
def test_a_start_waits_for_the_verdict_and_then_tells_what_is_left(
    tmp_path: Path, is_committed: bool, left: list[list[int]]
) -> None:
    disk = Disk(tmp_path)
    disk.write(segment(1, 2, 3))
    name = disk.intend(intent(1, {("t", 1): (1, 2)}))
    disk.close()
    disk = Disk(tmp_path)
    assert disk.spool.moves
    remembered: list[Memory] = []
    disk.spool.recall(remembered.append)
    assert remembered == [Memory(name, 1, "run", 0, True, "where")]
    disk.write(segment(4))  # what comes meanwhile is written
    assert not disk.spool.results
    told: list[bool] = []
    disk.spool.settle(is_committed, lambda: told.append(True))
    disk.until(lambda: any(isinstance(each, Moved) for each in disk.spool.results))
    assert told
    (moved,) = disk.spool.results
    assert isinstance(moved, Moved)
    (found,) = moved.found
    assert found.messages == len(left[0])
    disk.spool.results.clear()
    disk.spool.read("t", Wanted(0, found.last, 10**6, 10**9))
    disk.until(lambda: disk.spool.results)
    (read,) = disk.spool.results
    assert isinstance(read, ReadBack)
    assert [[each.sequence for each in one.messages] for one in read.segments] == left
    disk.close()


def test_a_start_without_the_mode_waits_for_no_verdict(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.write(segment(1, 2, 3))
    disk.intend(intent(1, {("t", 1): (1, 2)}))
    disk.close()
    disk = Disk(tmp_path, keeps_journal=False)
    assert not disk.spool.moves
    assert sum(each.messages for each in disk.spool.backlogs) == 3
    disk.close()
    assert version(Store(tmp_path)) == schema.VERSION


def test_a_confirmation_goes_to_disk_with_the_deletions(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.write(segment(1, 2))
    disk.intend(intent(1, {("t", 1): ()}))
    disk.spool.confirm(1)
    disk.spool.delete("t", [segment(1, 2)])
    disk.close()
    memory = Store(tmp_path).memory
    assert (memory.confirmed, memory.is_open) == (1, False)
