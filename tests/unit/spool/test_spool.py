"""The spool on a real disk: commits persist; jobs that the disk refuses are logged and kept."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.results import ReadBack, Refused, Written
from bridge.delivery.segment import Segment, Wanted, cut, pack
from bridge.loop import Loop
from bridge.message import Message, OpenIdentifier, Properties
from bridge.settings import SpoolSettings
from bridge.spool import disk_space
from bridge.spool import disk_thread as disk_thread_module
from bridge.spool import spool as spool_module
from bridge.spool import store as store_module
from bridge.spool.spool import Spool
from bridge.spool.store import DiskFull, Store
from tests.harness.conditions import wait_until

ALL = 2**44 - 1


def message(sequence: int, payload: bytes = b"21.5", topic: bytes = b"s/1") -> Message:
    made = Message.of(topic, 2, sequence, None, payload)
    made.sequence, made.timestamp = sequence, 1_700_000_000_000
    return made


def destination(topic: bytes) -> tuple[str, str]:
    return "sensors", ""


class World:
    """A spool with its loop."""

    def __init__(
        self,
        directory: Path,
        routes: str = "routes",
        lane_of=destination,
        session: str = "me",
        **settings: object,
    ) -> None:
        self.loop = Loop()
        self.directory = directory
        self.spool = Spool(
            SpoolSettings(keep_free=0, **settings), directory, self.loop, routes, lane_of, session
        )

    def write(self, *messages: Message, topic: str = "sensors") -> list[Segment]:
        segments = list(cut(messages))
        self.spool.write(topic, segments)
        return segments

    def result(self, deadline: float = 10.0) -> Written | Refused | ReadBack:
        end = time.monotonic() + deadline
        while not self.spool.results:
            assert time.monotonic() < end, "no result"
            self.spool.turn(time.monotonic())
            self.loop.wait(0.05)
        return self.spool.results.popleft()

    def rows(self, topic: str = "sensors", after: int = 0) -> list[Message]:
        self.spool.read(topic, Wanted(after, ALL, 10_000, 10_000_000))
        result = self.result()
        assert isinstance(result, ReadBack)
        return [each for segment in result.segments for each in segment.messages]

    def close(self, identifiers: Sequence[OpenIdentifier] = ()) -> None:
        self.spool.close(identifiers)
        self.loop.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_what_was_written_is_read_back_as_it_was(world: World) -> None:
    properties = Properties(1, 60, "text/plain", "answer/here", b"\x00\xff", (3,), (("a", "1"), ("a", "ü")))
    sent = Message.of("s/ü".encode(), 0x05, 7, properties, b"\x00" * 3000)
    sent.sequence, sent.timestamp = 5, -1
    world.write(sent)
    assert isinstance(world.result(), Written)
    (back,) = world.rows()
    assert (back.topic, back.flags, back.payload, back.properties) == (
        sent.topic,
        sent.flags,
        sent.payload,
        properties,
    )
    assert (back.sequence, back.timestamp, back.packet_id) == (5, -1, 0)


def test_a_start_finds_what_the_last_run_has_left(tmp_path: Path) -> None:
    first = World(tmp_path)
    first.write(*(message(number) for number in range(1, 1201)))
    first.write(message(1201), topic="other")
    first.result()
    first.close([OpenIdentifier(7, b"s/1", b"d" * 32)])
    second = World(tmp_path)
    found = {each.topic: (each.messages, each.last) for each in second.spool.backlogs}
    assert found == {"sensors": (1200, 1200), "other": (1, 1201)}
    assert second.spool.identifiers == [OpenIdentifier(7, b"s/1", b"d" * 32)]
    assert [each.sequence for each in second.rows()] == list(range(1, 1201))
    second.close()
    third = World(tmp_path)
    assert third.spool.identifiers == [], "an identifier is used for one start only"
    third.close()


def test_identifiers_of_another_session_are_not_restored(tmp_path: Path) -> None:
    World(tmp_path).close([OpenIdentifier(7, b"s/1", b"d" * 32)])
    other = World(tmp_path, session="another client id")
    assert other.spool.identifiers == []
    other.close()


def test_what_kafka_holds_is_deleted(world: World) -> None:
    (segment,) = world.write(message(1), message(2))
    world.result()
    world.spool.delete("sensors", [segment])
    world.write(message(3))
    world.result()
    assert [each.sequence for each in world.rows()] == [3]


def test_reading_writes_nothing(world: World, tmp_path: Path) -> None:
    """A disk that cannot be written must not end the disk thread, which also reads."""
    assert world.rows("nothing was written for this topic") == []
    with sqlite3.connect(tmp_path / Store.FILE) as database:
        assert database.execute("SELECT topic FROM lanes").fetchall() == []
    database.close()


def test_a_delete_alone_waits_a_moment_for_company(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_DELETE_EVERY", 60.0)  # a busy machine is slow
    (segment,) = world.write(message(1))
    world.result()
    wait_until(lambda: (world.loop.wait(0.01), world.spool.accepts)[1], 10, "the disk is idle")
    world.spool.delete("sensors", [segment])
    assert 0 < world.spool.turn(time.monotonic()) <= 60


def test_a_defect_in_the_thread_of_the_disk_ends_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nothing would be written any more, while the watchdog would still be notified."""

    def defect(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Store, "write", defect)
    world.write(message(1))
    with pytest.raises(ZeroDivisionError):
        world.result()
    world.spool._busy = False


def test_a_delete_that_failed_is_tried_again_without_other_work(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (segment,) = world.write(message(1))
    world.result()
    write, failed = Store.write, []

    def fails_once(*arguments: object, **more: object) -> None:
        if not failed:
            failed.append(arguments)
            raise DiskFull("no room")
        write(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "write", fails_once)
    world.spool.delete("sensors", [segment])
    end = time.monotonic() + 10
    with sqlite3.connect(world.directory / Store.FILE) as database:
        while database.execute("SELECT count(*) FROM segments").fetchone() != (0,):
            assert time.monotonic() < end, "it is still there"
            world.spool.turn(time.monotonic())
            world.loop.wait(0.05)
    database.close()
    assert failed


def test_a_dead_letter_is_kept_with_its_reason(world: World, tmp_path: Path) -> None:
    world.spool.write_letters([DeadLetter(message(1), "too large", "sensors", "iot")])
    assert isinstance(world.result(), Written)
    with sqlite3.connect(tmp_path / Store.FILE) as database:
        row = database.execute("SELECT reason, route, kafka_topic, payload FROM dead_letters").fetchone()
    database.close()
    assert row == ("too large", "sensors", "iot", b"21.5")


def test_a_spool_that_is_full_refuses_and_takes_again_once_there_is_room(tmp_path: Path) -> None:
    world = World(tmp_path, max_bytes=1_000_000)
    (segment,) = world.write(message(1, b"x" * 600_000))
    assert isinstance(world.result(), Written)
    world.write(message(2, b"x" * 600_000))
    refused = world.result()
    assert isinstance(refused, Refused)
    assert refused.is_full
    assert "spool.max_bytes" in refused.reason
    assert not world.spool.accepts
    world.spool.delete("sensors", [segment])
    world.write(message(2, b"x" * 600_000))
    assert isinstance(world.result(), Refused), "there is room once the delete is committed"
    world.write(message(2, b"x" * 600_000))
    assert isinstance(world.result(), Written)
    world.close()


def test_a_directory_that_cannot_be_made_is_refused_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    world = World(tmp_path / "file")
    assert not world.spool.accepts
    world.write(message(1))
    refused = world.result()
    assert isinstance(refused, Refused)
    assert not refused.is_full
    (tmp_path / "file").unlink()
    world.write(message(1))
    assert isinstance(world.result(), Written)
    world.close()


@pytest.mark.parametrize(
    ("place", "way_out"),
    [
        ("file", "no directory can be there; set state_directory (or spool.directory, where that is set)"),
        ("file/below", "no directory can be there; set state_directory"),
        ("/proc/spool", "no directory can be there; set state_directory"),
        ("file" + "x" * 300, "repair the disk, or the file's permissions"),
    ],
)
def test_a_place_where_no_directory_can_be_is_told_apart_from_a_bad_disk(
    tmp_path: Path, place: str, way_out: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"File exists|Not a directory|No such file|too long") as caught:
        (tmp_path / place).mkdir(parents=True)
    assert disk_space.not_made(caught.value, tmp_path).way_out.startswith(way_out)


def test_two_bridges_do_not_share_a_spool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = World(tmp_path)
    second = World(tmp_path)
    assert not second.spool.accepts
    said = " ".join(capsys.readouterr().out.split())
    assert "another bridge uses this spool" in said
    assert "stop the other one, or give each bridge a state_directory of its own" in said
    second.close()
    first.close()


def test_topics_that_came_and_went_leave_their_numbers_to_others(tmp_path: Path) -> None:
    """A lane's number is 19 bits of a row's position."""
    store = Store(tmp_path)
    (segment,) = cut([message(1)])
    body = pack(segment.messages)
    store.write([("first", segment, body)])
    store._db.execute("INSERT INTO lanes VALUES (?, 'last', 0, 0, 0)", (2**19 - 1,))
    for topic in ("another", "one more"):
        store.write([(topic, segment, body)])
    store.close()
    again = Store(tmp_path)
    assert {each.topic: each.messages for each in again.backlogs()} == {
        "first": 1,
        "another": 1,
        "one more": 1,
    }
    found, damaged = again.read("one more", Wanted(0, ALL, 10, 10_000))
    assert (len(found), damaged) == (1, [])
    again.close()


def test_when_all_numbers_are_taken_the_spool_refuses_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_LAST_LANE", 1)
    world = World(tmp_path)
    world.write(message(1))
    assert isinstance(world.result(), Written)
    world.write(message(2), topic="other")
    refused = world.result()
    assert isinstance(refused, Refused)
    assert "messages of 1 Kafka topics wait in it" in refused.reason
    world.close()


def test_a_defect_in_the_disk_thread_is_tried_again_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(disk_thread_module, "_AGAIN_WHEN_UNUSABLE", 0.01)
    world = World(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_insert", lambda *_: 1 << "no number")
        world.write(message(1))
        refused = world.result()
        assert isinstance(refused, Refused)
        assert "TypeError" in refused.reason
    world.write(message(1))
    assert isinstance(world.result(), Written)
    assert "spool.unusable" in capsys.readouterr().out
    world.close()


def test_a_slow_commit_is_said_and_keeps_nobody_waiting_but_what_is_in_it(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    goes_on = threading.Event()
    write = Store.write

    def slow(*arguments: object, **more: object) -> None:
        assert goes_on.wait(10)
        write(*arguments, **more)

    monkeypatch.setattr(Store, "write", slow)
    monkeypatch.setattr(disk_thread_module, "_SLOW", 0.0)
    world.write(message(1))
    for _ in range(3):
        world.spool.turn(time.monotonic())
        world.loop.wait(0.01)
    assert not world.spool.results
    assert not world.spool.accepts
    goes_on.set()
    assert isinstance(world.result(), Written)
    assert "spool.slow" in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage", [b"no database at all, but long enough to look at" * 30, b"SQLite format 3\0" * 99]
)
def test_a_damaged_file_is_kept_aside_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes
) -> None:
    (tmp_path / Store.FILE).write_bytes(damage)
    world = World(tmp_path)
    assert (tmp_path / f"{Store.FILE}.damaged-1").read_bytes() == damage
    assert ".recover" in capsys.readouterr().out
    world.write(message(1))
    assert isinstance(world.result(), Written)
    world.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [("user_version = 99", "newer version"), ("application_id = 99", "another program's database")],
)
def test_a_file_that_is_not_ours_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, said: str
) -> None:
    World(tmp_path).close()
    with sqlite3.connect(tmp_path / Store.FILE) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute(f"PRAGMA {change}")
    database.close()
    before = (tmp_path / Store.FILE).read_bytes()
    world = World(tmp_path)
    assert not world.spool.accepts
    assert said in capsys.readouterr().out
    world.close()
    assert (tmp_path / Store.FILE).read_bytes() == before


def test_nobody_else_can_read_the_messages(world: World, tmp_path: Path) -> None:
    world.write(message(1))
    world.result()
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob(f"{Store.FILE}*")}
    assert modes == {"spool.db": 0o640, "spool.db-wal": 0o640, "spool.db-shm": 0o640}


def test_a_segment_whose_bytes_have_changed_is_left_out_and_left_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = World(tmp_path)
    first.write(message(1))
    first.result()
    first.write(message(2))
    first.result()
    first.close()
    with sqlite3.connect(tmp_path / Store.FILE) as database:
        database.execute("UPDATE segments SET body = zeroblob(length(body)) WHERE position & 0xffff = 1")
    database.close()
    second = World(tmp_path)
    assert [each.sequence for each in second.rows()] == [2]
    assert "spool.damaged" in capsys.readouterr().out
    second.close()


@pytest.mark.parametrize("together", [1, 8, 16, 32, 500])
def test_a_message_takes_its_bytes_and_at_most_as_much_again(tmp_path: Path, together: int) -> None:
    """docs/how-to/prepare-kafka.md derives from this how long an outage may last."""
    store = Store(tmp_path)
    empty = store.size
    segments = []
    for first in range(1, 4001, together):
        segments += cut([message(number, b"x" * 100) for number in range(first, first + together)])
    store.write(("sensors", segment, pack(segment.messages)) for segment in segments)
    each = (store.size - empty) / sum(segment.count for segment in segments)
    bare = len("s/1") + 100 + 27
    assert bare <= each <= 2 * bare
    store.close()
