"""Routes change at a start: rows on disk move to their new topics, step by step, while the bridge works."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.delivery.pipeline import Pipeline
from bridge.delivery.results import Moved, Refused, TopicAnswer, Written
from bridge.delivery.segment import cut, pack
from bridge.errors import SpoolUnusable
from bridge.loop import Loop
from bridge.message import Message
from bridge.routing.router import Router
from bridge.settings import RouteSettings, Settings, SpoolSettings
from bridge.spool import disk_thread as disk_thread_module
from bridge.spool import store as store_module
from bridge.spool.spool import Spool
from bridge.spool.store import DiskFull, LaneOf, Store
from tests.harness.conditions import wait_until
from tests.unit.delivery.world import Kafka, Session
from tests.unit.spool.test_spool import World, message

OLD, NEW = ("sensors", ""), ("new", "")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step moves one row; all but the first happen after the start."""
    monkeypatch.setattr(store_module, "_REASSIGN_AT_ONCE", 1)
    monkeypatch.setattr(disk_thread_module, "_MOVE_BEFORE", 0.0)
    monkeypatch.setattr(disk_thread_module, "_TRY_AGAIN", 0.01)


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """After the start no step happens until this event is set."""
    goes_on = threading.Event()
    reassign = Store.reassign

    def waits(*arguments: object) -> int | None:
        if threading.current_thread() is not threading.main_thread():
            assert goes_on.wait(10)
        return reassign(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "reassign", waits)
    yield goes_on
    goes_on.set()


def three_rows(directory: Path) -> None:
    world = World(directory)
    for number in (1, 2, 3):
        world.write(message(number))
    world.result()
    world.close()


def moved(world: World) -> dict[str, int]:
    result = world.result()
    assert isinstance(result, Moved)
    return {each.topic: each.messages for each in result.found}


def test_changed_routes_move_what_is_on_disk_and_bury_what_no_route_takes(tmp_path: Path) -> None:
    first = World(tmp_path)
    first.write(
        message(1, topic=b"a"), message(2, topic=b"b"), message(3, topic=b"c"), message(4, topic=b"a")
    )
    first.result()
    first.close()
    now = {b"a": ("new", ""), b"b": ("sensors", ""), b"c": ("", "no route has a filter that matches")}
    second = World(tmp_path, "other routes", lambda topic: now[topic])
    assert not second.spool.moves
    assert {each.topic: each.messages for each in second.spool.backlogs} == {"new": 2, "sensors": 1}
    assert [each.sequence for each in second.rows("new")] == [1, 4]
    second.close()
    with sqlite3.connect(tmp_path / Store.FILE) as database:
        assert database.execute("SELECT mqtt_topic, reason FROM dead_letters").fetchall() == [
            (b"c", "no route has a filter that matches")
        ]
    database.close()


@pytest.mark.usefixtures("steps")
def test_the_start_does_not_wait_for_a_long_move(tmp_path: Path, paused: threading.Event) -> None:
    three_rows(tmp_path)
    lanes = {b"s/1": NEW, b"a": ("another", "")}
    world = World(tmp_path, "other routes", lanes.__getitem__)
    assert world.spool.moves
    assert [each.last for each in world.spool.backlogs] == [3], "new messages must be numbered after it"
    world.write(message(4), topic="new")
    world.write(message(5, topic=b"a"), topic="another")
    paused.set()
    assert isinstance(world.result(), Written)
    assert moved(world) == {"new": 3}, "without the messages received since the start"
    assert [each.sequence for each in world.rows("new")] == [1, 2, 3, 4]
    world.close()


@pytest.mark.usefixtures("steps")
def test_what_comes_does_not_wait_for_more_than_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_rows(tmp_path)
    one_step = threading.Semaphore(0)
    reassign = Store.reassign

    def waits(*arguments: object) -> int | None:
        if threading.current_thread() is not threading.main_thread():
            assert one_step.acquire(timeout=10)
        return reassign(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "reassign", waits)
    world = World(tmp_path, "other routes", lambda _: NEW)
    world.write(message(4), topic="new")
    world.spool.turn(0.0)
    one_step.release()
    assert isinstance(world.result(), Written)
    one_step.release(10)
    assert moved(world) == {"new": 3}
    world.close()


@pytest.mark.usefixtures("steps")
def test_what_is_written_meanwhile_makes_the_move_no_longer(tmp_path: Path, paused: threading.Event) -> None:
    three_rows(tmp_path)
    steps: list[bytes] = []

    def lane_of(topic: bytes) -> tuple[str, str]:
        steps.append(topic)
        return NEW if topic == b"s/1" else (topic.decode(), "")

    world = World(tmp_path, "other routes", lane_of)
    for number in range(4, 50):  # in lanes that the move reaches last
        world.write(message(number, topic=b"%d" % number), topic=str(number))
    world.spool.turn(0.0)
    paused.set()
    assert isinstance(world.result(), Written)
    assert moved(world) == {"new": 3}
    assert set(steps) == {b"s/1"}
    world.close()


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("seconds", [10.0, 0.0], ids=["before the start is done", "later"])
def test_a_row_that_can_not_be_read_keeps_nothing_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    three_rows(tmp_path)
    reassign_one, good = Store._reassign, threading.Event()

    def fails(store: Store, position: int, lane_of: LaneOf) -> int:
        if position % 2**44 == 2 and not good.is_set():
            raise SpoolUnusable("Input/output error")
        return reassign_one(store, position, lane_of)

    monkeypatch.setattr(Store, "_reassign", fails)
    monkeypatch.setattr(disk_thread_module, "_AGAIN_WHEN_UNUSABLE", 0.01)
    monkeypatch.setattr(disk_thread_module, "_MOVE_BEFORE", seconds)
    world = World(tmp_path, "other routes", lambda _: NEW)
    assert world.spool.moves
    for number in (4, 5):
        world.write(message(number), topic="new")
        assert isinstance(world.result(), Written)
    good.set()
    assert moved(world) == {"new": 3}
    world.close()


@pytest.mark.usefixtures("steps")
def test_a_move_that_was_cut_short_goes_on_at_the_next_start(tmp_path: Path) -> None:
    three_rows(tmp_path)
    store = Store(tmp_path)
    assert store.reassign("other routes", lambda _: NEW) == 1
    store.close()
    asked: list[bytes] = []

    def lane_of(topic: bytes) -> tuple[str, str]:
        asked.append(topic)
        return NEW

    second = World(tmp_path, "other routes", lane_of)
    assert moved(second) == {"new": 3}
    assert [each.sequence for each in second.rows("new")] == [1, 2, 3]
    second.close()
    asked.clear()
    third = World(tmp_path, "other routes", lane_of)
    assert not third.spool.moves
    assert not asked, "no row may be examined again"
    third.close()


@pytest.mark.usefixtures("steps")
def test_after_a_move_that_was_cut_short_the_old_routes_hold_again(tmp_path: Path) -> None:
    three_rows(tmp_path)
    store = Store(tmp_path)
    assert store.reassign("other routes", lambda _: NEW) == 1
    store.close()
    second = World(tmp_path)
    assert moved(second) == {"sensors": 3}
    assert [each.sequence for each in second.rows()] == [1, 2, 3]
    second.close()


@pytest.mark.usefixtures("steps")
def test_a_stop_does_not_wait_for_the_move(
    tmp_path: Path, paused: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_rows(tmp_path)
    world = World(tmp_path, "other routes", lambda _: NEW)
    thread = world.spool._disk.thread
    join = thread.join
    monkeypatch.setattr(
        thread, "join", lambda timeout: paused.set() or join(timeout)
    )  # the last job has arrived
    world.close()
    assert not any(isinstance(result, Moved) for result in world.spool.results)
    again = World(tmp_path, "other routes", lambda _: NEW)
    assert moved(again) == {"new": 3}
    again.close()


def test_a_step_moves_no_more_than_some_megabytes_and_the_log_is_no_larger(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.reassign("routes", lambda _: OLD)
    rows = [segment for n in range(60) for segment in cut([message(n + 1, b"x" * 600_000)])]
    for segment in rows:
        store.write([("sensors", segment, pack(segment.messages))])
    while (moved := store.reassign("other routes", lambda _: NEW)) is not None:
        assert moved <= 4
        assert (tmp_path / f"{Store.FILE}-wal").stat().st_size < 12_000_000
    assert {each.topic: each.messages for each in store.backlogs()} == {"new": 60}
    store.close()


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize("error", [SpoolUnusable("Input/output error"), DiskFull("no room")])
def test_a_step_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: SpoolUnusable
) -> None:
    three_rows(tmp_path)
    reassign, left = Store.reassign, [error] * 3

    def fails_at_first(*arguments: object) -> int | None:
        if left and threading.current_thread() is not threading.main_thread():
            raise left.pop()
        return reassign(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "reassign", fails_at_first)
    world = World(tmp_path, "other routes", lambda _: NEW)
    assert moved(world) == {"new": 3}
    assert not left
    world.close()


@pytest.mark.usefixtures("steps")
def test_a_move_that_fails_while_the_disk_takes_nothing_is_left_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """New messages must still reach Kafka, because EMQ's queue is short."""
    three_rows(tmp_path)

    tried: list[object] = []

    def fails(*_: object, **__: object) -> None:
        raise DiskFull("no room")

    def does_not_move(*_: object) -> None:
        tried.append(None)
        fails()

    with monkeypatch.context() as patch:
        patch.setattr(Store, "reassign", does_not_move)
        patch.setattr(Store, "write", fails)
        world = World(tmp_path, "other routes", lambda _: NEW)
        assert world.spool.moves, "although not even the first step was done"
        # The first step fails at the start, the second in the thread. Only what is refused after that counts.
        wait_until(lambda: len(tried) > 2, 10.0, "the move has failed in the thread")
        world.write(message(4), topic="new")
        assert {type(world.result()), type(world.result())} == {Refused, Moved}
        assert "spool.unreadable" in capsys.readouterr().out
        world.close()
    again = World(tmp_path, "other routes", lambda _: NEW)
    assert moved(again) == {"new": 3}
    again.close()


def test_what_was_written_before_the_move_was_done_is_looked_at_by_the_next_start(tmp_path: Path) -> None:
    """Otherwise a return to the old routes would treat these rows as already moved."""
    store = Store(tmp_path)
    assert store.reassign("routes", lambda _: OLD) is None
    store.close()
    store = Store(tmp_path)  # a start with other routes on a full disk: no step is done
    (segment,) = cut([message(1)])
    store.write([("new", segment, pack(segment.messages))])
    store.close()
    back = World(tmp_path)
    assert {each.topic: each.messages for each in back.spool.backlogs} == {"sensors": 1}
    back.close()


def _cannot(*_: object, **__: object) -> None:
    raise SpoolUnusable("Input/output error")


def test_a_file_that_was_opened_anew_need_not_be_looked_through_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(disk_thread_module, "_AGAIN_WHEN_UNUSABLE", 0.01)
        patch.setattr(Store, "write", _cannot)
        world.write(message(1))
        assert isinstance(world.result(), Refused)
    world.write(message(1))
    assert isinstance(world.result(), Written)
    world.close()
    asked: list[bytes] = []
    again = World(tmp_path, lane_of=lambda topic: asked.append(topic) or OLD)
    assert not asked
    again.close()


def test_a_spool_that_is_opened_late_knows_its_routes(tmp_path: Path) -> None:
    World(tmp_path / "spool").close()
    (tmp_path / "spool").rename(tmp_path / "away")
    (tmp_path / "spool").touch()
    world = World(tmp_path / "spool", "other routes", lambda _: NEW)
    assert not world.spool.accepts
    (tmp_path / "spool").unlink()
    (tmp_path / "away").rename(tmp_path / "spool")
    wait_until(lambda: world.write(message(1), topic="new") and isinstance(world.result(), Written), 20, "")
    world.close()
    back = World(tmp_path / "spool")
    assert {each.topic for each in back.spool.backlogs} == {"sensors"}
    back.close()


@pytest.mark.usefixtures("steps")
def test_on_its_way_to_kafka_what_is_moved_stays_before_what_comes_meanwhile(
    tmp_path: Path, paused: threading.Event
) -> None:
    three_rows(tmp_path)
    settings = Settings(
        mqtt={"host": "h"},
        kafka={"bootstrap_servers": "k:9092"},
        routes=[RouteSettings(name="new", filter="s/#", topic="new")],
    )
    router, kafka, session, loop = Router(settings.routes), Kafka(), Session(), Loop()
    spool = Spool(SpoolSettings(keep_free=0), tmp_path, loop, "other routes", router.destination, "me")
    pipeline = Pipeline(settings, router, kafka, spool)
    pipeline.take_up(spool.backlogs, spool.identifiers)
    pipeline.session = session
    pipeline.connected(session_present=False, mqtt5=True)
    pipeline.receive([Message.of(b"s/1", 2, number, None, b"new") for number in (1, 2)])
    kafka.answers.append(TopicAnswer("new", exists=True, limit=10**6))

    def turns_until(condition: Callable[[], bool], what: str) -> None:
        wait_until(lambda: (loop.wait(pipeline.turn() and 0.01), condition())[1], 10, what)

    pipeline.turn()
    paused.set()
    turns_until(lambda: session.acknowledged == [1, 2], "what came is acknowledged")
    turns_until(lambda: len(kafka.produced) == 5, "all is produced")
    assert [message.sequence for message in kafka.produced] == [1, 2, 3, 4, 5]
    kafka.deliver()
    turns_until(lambda: pipeline.is_empty and not spool._disk.undeleted, "all is confirmed")
    counts = pipeline.counts
    assert (counts.restored, counts.received, counts.delivered, counts.spooled) == (3, 2, 5, 0)
    spool.close(pipeline.open_identifiers)
    loop.close()
    store = Store(tmp_path)
    assert store.backlogs() == []
    store.close()


# -- routes that change while the service runs ----------------------------------------------------------


def store_with(directory: Path, *topics: str) -> Store:
    store = Store(directory)
    for number, topic in enumerate(topics, start=1):
        for segment in cut([message(number)]):
            store.write([(topic, segment, pack(segment.messages))])
    return store


def all_moved(store: Store, routes: str, now: tuple[str, str]) -> int:
    found = 0
    while (step := store.reassign(routes, lambda _: now)) is not None:
        found += step
    return found


def test_after_a_reload_no_start_believes_that_all_rows_follow_its_routes(tmp_path: Path) -> None:
    """A start with the first routes must also move what was written under those of the reload."""
    store = Store(tmp_path)
    assert all_moved(store, "first", OLD) == 0
    store.routes_changed = True
    for segment in cut([message(1)]):
        store.write([("new", segment, pack(segment.messages))])
    store.close()
    again = Store(tmp_path)
    assert all_moved(again, "first", OLD) == 1
    assert [each.topic for each in again.backlogs()] == ["sensors"]
    again.close()


@pytest.mark.usefixtures("steps")
def test_a_reload_while_rows_move_leaves_no_false_record_of_the_move(tmp_path: Path) -> None:
    store_with(tmp_path, "a", "b").close()
    store = Store(tmp_path)
    assert store.reassign("first", lambda _: OLD, 2) == 1  # the first of two steps
    store.routes_changed = True
    for segment in cut([message(3)]):
        store.write([("new", segment, pack(segment.messages))])
    while store.reassign("first", lambda _: OLD, 2) is not None:
        pass
    store.close()
    again = Store(tmp_path)
    assert all_moved(again, "first", OLD) == 1
    assert [(each.topic, each.messages) for each in again.backlogs()] == [("sensors", 3)]
    again.close()
