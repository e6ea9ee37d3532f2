"""The spool's use of the disk: it writes messages that fit, and returns space that it no longer needs."""

import time
from pathlib import Path

import pytest

from bridge.delivery.dead_letter import DeadLetter, Selection
from bridge.delivery.results import Refused, Removed, Written
from bridge.delivery.segment import cut, pack
from bridge.spool import disk_space as disk_module
from bridge.spool import disk_thread as disk_thread_module
from bridge.spool.dead_letters import StoredLetters
from bridge.spool.store import Store
from tests.harness.conditions import wait_until
from tests.unit.spool.test_spool import World, message


def test_of_what_does_not_fit_as_a_whole_the_first_part_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, max_bytes=1_000_000)
    first, second, third = world.write(*(message(number, b"x" * 400_000) for number in (1, 2, 3)))
    last = world.write(message(4, b"small"), topic="other")
    written, refused = world.result(), world.result()
    assert isinstance(written, Written)
    assert written.segments == [("sensors", first), ("sensors", second)]
    assert isinstance(refused, Refused)
    assert refused.segments == [("sensors", third), ("other", *last)], (
        "nothing may overtake the message that waits"
    )
    assert refused.is_full
    assert "spool.usable" not in capsys.readouterr().out
    world.spool.delete("sensors", [first])
    world.write(message(3, b"x" * 400_000))
    world.result()
    world.write(message(3, b"x" * 400_000))
    assert isinstance(world.result(), Written)
    assert "spool.usable" in capsys.readouterr().out
    assert [each.sequence for each in world.rows()] == [2, 3]
    world.close()


def test_a_dead_letter_that_does_not_fit_keeps_nothing_else_from_the_disk(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=1_000_000)
    letters = [DeadLetter(message(number, b"x" * size), "why") for number, size in ((1, 9), (2, 2_000_000))]
    world.spool.write_letters(letters)
    segments = world.write(message(3))
    assert world.result() == Written([("sensors", *segments)], letters[:1])
    refused = world.result()
    assert isinstance(refused, Refused)
    assert refused.letters == letters[1:]
    world.close()


def test_the_oldest_dead_letters_make_room_before_messages_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, max_bytes=1_000_000)
    world.spool.write_letters([DeadLetter(message(number, b"x" * 200_000), "why") for number in range(1, 5)])
    assert isinstance(world.result(), Written)
    segments = world.write(message(5, b"y" * 250_000))
    removed, written = world.result(), world.result()
    assert isinstance(removed, Removed)
    assert (removed.bound, removed.letters) == ("spool.max_bytes", 2)
    assert written == Written([("sensors", *segments)], [])
    said = capsys.readouterr().out
    assert "deadletter.removed" in said
    assert "spool.max_bytes" in said
    assert [each.number for page in StoredLetters(tmp_path).pages(Selection()) for each in page] == [3, 4]
    world.close()


def test_no_dead_letter_is_removed_where_that_makes_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program has filled the disk."""
    world = World(tmp_path)
    world.spool.write_letters([DeadLetter(message(number), "why") for number in range(1, 100)])
    assert isinstance(world.result(), Written)
    monkeypatch.setattr(disk_module, "free_bytes", lambda _: -1_000_000_000)
    world.write(message(100))
    assert isinstance(world.result(), Refused)
    assert sum(map(len, StoredLetters(tmp_path).pages(Selection()))) == 99
    world.close()


def test_what_is_written_leaves_the_disk_room_to_take_it_out_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full log that cannot be emptied could not even hold the deletes."""
    world = World(tmp_path)
    monkeypatch.setattr(disk_module, "free_bytes", lambda _: 1_000_000)
    first, second = world.write(message(1, b"x" * 200_000), message(2, b"x" * 200_000))
    assert world.result() == Written([("sensors", first)], [])
    refused = world.result()
    assert isinstance(refused, Refused)
    assert refused.segments == [("sensors", second)]
    assert "spool.keep_free" in refused.reason
    world.close()


def test_space_goes_back_to_the_file_system(tmp_path: Path) -> None:
    world = World(tmp_path)
    segments = []
    for number in range(20):
        segments += world.write(message(number + 1, b"x" * 1_000_000))
        world.result()
    full = (tmp_path / Store.FILE).stat().st_size
    assert full > 15_000_000
    world.spool.delete("sensors", segments)
    world.write(message(100))
    world.result()
    wait_until(lambda: (tmp_path / Store.FILE).stat().st_size < 5_000_000, 10, "space is given back")
    world.close()


def test_an_empty_spool_gives_back_all_its_space_and_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_thread_module, "_QUIET_AFTER", 0.05)
    world = World(tmp_path)
    segments = world.write(*(message(number, b"x" * 100_000) for number in range(1, 31)))
    world.result()
    world.spool.delete("sensors", segments)
    log = tmp_path / f"{Store.FILE}-wal"

    def taken() -> int:
        world.spool.turn(time.monotonic())
        world.loop.wait(0.01)
        return (tmp_path / Store.FILE).stat().st_size + log.stat().st_size

    wait_until(lambda: taken() <= 65_536, 10, lambda: f"{taken()} bytes are still taken")
    world.close()


def test_a_row_now_and_then_is_not_worth_emptying_the_log(tmp_path: Path) -> None:
    """Each emptying would sync the file twice more."""
    store = Store(tmp_path)
    log = tmp_path / f"{Store.FILE}-wal"
    (segment,) = cut([message(1, b"x" * 5000)])
    written = [("sensors", segment, pack(segment.messages))]
    emptied = 0
    for _ in range(20):
        store.write(written)
        store.write((), (), [("sensors", segment)])
        assert not store.give_all_back(), "a small amount is returned in one step"
        emptied += not log.stat().st_size
    assert 0 < emptied < 5
    store.close()


def test_what_waits_keeps_the_space_it_will_need_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    segments = list(cut([message(number, b"x" * 200_000) for number in range(1, 11)]))
    store.write(("sensors", segment, pack(segment.messages)) for segment in segments)
    store.write((), (), [("sensors", segment) for segment in segments[1:]])
    store.give_all_back()
    assert (tmp_path / f"{Store.FILE}-wal").stat().st_size > 2_000_000
    store.write((), (), [("sensors", segments[0])])
    store.give_all_back()
    assert (tmp_path / f"{Store.FILE}-wal").stat().st_size == 0
    store.close()
