"""The database with many Kafka topics: which topics it remembers, and what a failed commit leaves."""

import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from bridge.delivery.segment import Segment, Wanted, pack
from bridge.errors import SpoolUnusable
from bridge.message import Message
from bridge.spool import store as store_module
from bridge.spool.store import Store

ALL = 2**44 - 1
MANY = 10  # topics that are worth removing
_numbers = count(1)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(store_module, "_WORTH_REMOVING", MANY)
    monkeypatch.setattr(store_module, "_REMOVE_EVERY", 0.0)
    store = Store(tmp_path)
    yield store
    store.close()


def segment() -> Segment:
    message = Message.of(b"s/1", 2, 1, None, b"v")
    message.sequence, message.timestamp = next(_numbers), 1_700_000_000_000
    return Segment([message])


def write(store: Store, *topics: str) -> dict[str, Segment]:
    segments = {topic: segment() for topic in topics}
    store.write([(topic, each, pack(each.messages)) for topic, each in segments.items()])
    return segments


def remembered(store: Store) -> dict[str, int]:
    """The topics in the file, with their numbers; what is in memory must be the same."""
    rows = sqlite3.connect(store.path).execute("SELECT topic, id FROM lanes").fetchall()
    assert store._lanes == dict(rows)
    assert store._topics == {number: topic for topic, number in rows}
    return dict(rows)


def names(numbers: range) -> list[str]:
    return [f"iot.{number}" for number in numbers]


def test_topics_that_have_nothing_on_disk_are_removed_once_they_are_many(store: Store) -> None:
    segments = write(store, *names(range(MANY)), "stays")
    store.write([], done=[each for each in segments.items() if each[0] != "stays"])
    assert remembered(store).keys() == {"stays"}
    write(store, "iot.3")
    (found,), _ = store.read("stays", Wanted(0, ALL, 10, 10_000))
    assert found.first == segments["stays"].first
    assert len(store.read("iot.3", Wanted(0, ALL, 10, 10_000))[0]) == 1


def test_a_few_topics_keep_their_numbers(store: Store) -> None:
    segments = write(store, *names(range(MANY - 1)))
    before = remembered(store)
    store.write([], done=segments.items())
    assert remembered(store) == before


def test_a_commit_that_fails_makes_and_removes_no_topic(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = write(store, *names(range(MANY)))
    before = remembered(store)
    remove = store._remove_lanes

    def fail() -> None:
        remove()
        store._lane("iot.3")  # one that was just removed
        raise sqlite3.OperationalError("the disk is gone")

    monkeypatch.setattr(store, "_remove_lanes", fail)
    new = segment()
    with pytest.raises(SpoolUnusable):
        store.write([("new", new, pack(new.messages))], done=segments.items())
    assert remembered(store) == before
    monkeypatch.undo()
    assert len(store.read("iot.3", Wanted(0, ALL, 10, 10_000))[0]) == 1
    write(store, "new", "iot.3")
    assert len(store.read("iot.3", Wanted(0, ALL, 10, 10_000))[0]) == 2


def test_rows_of_a_removed_topic_that_are_deleted_again_make_no_topic(store: Store) -> None:
    segments = write(store, *names(range(MANY + 1)))
    for _ in range(2):  # as after a commit that was reported as failed, but had succeeded
        store.write([], done=segments.items())
    assert remembered(store) == {}
