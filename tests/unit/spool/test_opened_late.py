"""A spool that can't be opened at the start is opened later, and the same run delivers what waits in it."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge import loop as loop_module
from bridge.delivery.pipeline import Pipeline
from bridge.delivery.results import TopicAnswer
from bridge.loop import Loop
from bridge.message import Message, OpenIdentifier
from bridge.routing.router import Router
from bridge.settings import RouteSettings, Settings, SpoolSettings
from bridge.spool import disk_thread as disk_thread_module
from bridge.spool.spool import Spool
from bridge.spool.store import DiskFull, Store
from tests.harness.conditions import wait_until
from tests.unit.delivery.world import Kafka, Session
from tests.unit.spool.test_spool import World, message


class Run:
    """A bridge of one route, without its MQTT side."""

    def __init__(self, directory: Path, topic: str = "sensors") -> None:
        settings = Settings(
            mqtt={"host": "h"},
            kafka={"bootstrap_servers": "k:9092"},
            routes=[RouteSettings(name="all", filter="s/#", topic=topic)],
            spool={"after": "200ms"},
        )
        router = Router(settings.routes)
        self.kafka, self.session, self.loop = Kafka(), Session(), Loop()
        self.spool = Spool(
            SpoolSettings(keep_free=0), directory, self.loop, f"to {topic}", router.destination, "me"
        )
        self.pipeline = Pipeline(settings, router, self.kafka, self.spool)
        self.pipeline.take_up(self.spool.backlogs, self.spool.identifiers)
        self.pipeline.session = self.session
        self.pipeline.connected(session_present=False, mqtt5=True)

    def receive(self, *numbers: int) -> None:
        self.pipeline.receive([Message.of(b"s/1", 2, number, None, b"new") for number in numbers])

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def met() -> bool:
            self.loop.wait(0.01 if self.pipeline.turn() else 0)
            return condition()

        wait_until(met, 20, what)

    def close(self) -> None:
        self.spool.close([])
        self.loop.close()


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A spool with three rows and an open identifier, whose directory is not there until this is called."""
    monkeypatch.setattr(disk_thread_module, "_AGAIN_WHEN_UNUSABLE", 0.05)
    spool = tmp_path / "spool"
    first = World(spool, "to sensors")
    for number in (1, 2, 3):
        first.write(message(number, b"old"))
    first.result()
    first.close([OpenIdentifier(7, b"s/1", b"d" * 32)])
    spool.rename(tmp_path / "away")
    spool.touch()

    def back() -> None:
        spool.unlink()
        (tmp_path / "away").rename(spool)

    yield back
    shutil.rmtree(tmp_path)


def answered(run: Run) -> None:
    run.kafka.answers.append(TopicAnswer("sensors", exists=True, limit=10**6))


def test_what_waits_in_it_is_delivered_by_this_run(tmp_path: Path, away: Callable[[], None]) -> None:
    run = Run(tmp_path / "spool")
    assert run.spool.backlogs == []
    away()
    run.until(lambda: run.pipeline.counts.restored == 3, "what waits is known")
    answered(run)
    run.until(lambda: len(run.kafka.produced) == 3, "it is produced")
    run.kafka.deliver()
    run.until(lambda: run.pipeline.counts.delivered == 3, "it is delivered")
    run.close()
    store = Store(tmp_path / "spool")
    assert store.backlogs() == []
    assert store.take_identifiers("me") == [], "they were good for the start that missed them"
    store.close()


def test_what_came_meanwhile_is_delivered_behind_it(tmp_path: Path, away: Callable[[], None]) -> None:
    """Kafka has confirmed nothing of this run, so the order of all can be kept."""
    run = Run(tmp_path / "spool")
    run.receive(1, 2)
    run.until(lambda: run.pipeline.counts.received == 2, "they came")
    away()
    run.until(lambda: run.pipeline.counts.restored == 3, "what waits is known")
    run.receive(3)
    answered(run)
    run.until(lambda: len(run.kafka.produced) >= 3, "it is produced")
    run.kafka.deliver()
    run.until(lambda: len(run.kafka.produced) == 6, "all is produced")
    run.kafka.deliver()
    run.until(lambda: run.pipeline.counts.delivered == 6, "all is delivered")
    assert sorted(run.session.acknowledged) == [1, 2, 3]
    assert {each.payload for each in run.kafka.produced[-2:]} == {b"new"}
    run.close()


@pytest.mark.parametrize("is_late", [True, False])
def test_what_was_in_flight_meanwhile_goes_to_disk_behind_it_and_is_acknowledged(
    tmp_path: Path, away: Callable[[], None], is_late: bool
) -> None:
    run = Run(tmp_path / "spool")
    run.receive(1, 2)
    answered(run)  # they are in flight, and Kafka is late
    run.until(lambda: len(run.kafka.produced) == 2, "they are in flight")
    if is_late:
        run.until(lambda: run.pipeline._lanes["sensors"].late, "Kafka is late")
    away()
    run.until(lambda: run.session.acknowledged == [1, 2], "they are on disk")
    assert run.pipeline.counts.restored == 3
    run.close()
    store = Store(tmp_path / "spool")
    (backlog,) = store.backlogs()
    assert (backlog.messages, backlog.last) == (5, 5), "no row took the place of another"
    store.close()


def test_a_database_that_was_locked_at_the_start_is_used_once_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_thread_module, "_AGAIN_WHEN_UNUSABLE", 0.05)
    first = World(tmp_path, "to sensors")
    first.write(message(1, b"old"))
    first.result()
    first.close()
    locker = sqlite3.connect(tmp_path / Store.FILE, isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    run = Run(tmp_path)
    assert run.spool.backlogs == []
    locker.execute("ROLLBACK")
    locker.close()
    run.until(lambda: run.pipeline.counts.restored == 1, "what waits is known")
    run.close()


@pytest.mark.parametrize("starts_again", [False, True])
def test_what_waits_in_it_goes_where_changed_routes_lead(
    tmp_path: Path, away: Callable[[], None], starts_again: bool
) -> None:
    run = Run(tmp_path / "spool", "elsewhere")
    away()
    run.until(lambda: run.pipeline.counts.restored == 3, "what waits is known")
    if starts_again:
        run.close()
        run = Run(tmp_path / "spool", "elsewhere")
    run.kafka.answers.append(TopicAnswer("elsewhere", exists=True, limit=10**6))
    run.until(lambda: len(run.kafka.produced) == 3, "it is produced")
    assert {each.plan.kafka_topic for each in run.kafka.produced} == {"elsewhere"}
    run.kafka.deliver()
    run.until(lambda: run.pipeline.counts.delivered == 3, "it is delivered")
    run.close()


def test_a_move_that_fails_is_said_for_what_waits(
    tmp_path: Path,
    away: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise DiskFull("full")

    run = Run(tmp_path / "spool")
    monkeypatch.setattr(disk_thread_module, "_TIMEOUT", 0.1)
    monkeypatch.setattr(disk_thread_module, "_TRY_AGAIN", 0.02)
    monkeypatch.setattr(Store, "reassign", full)
    away()
    run.until(lambda: run.pipeline._spooling._moves, "it is opened")
    run.until(lambda: not run.pipeline._spooling._moves, "the move is given up")
    run.close()
    assert "spool.unreadable" in capsys.readouterr().out


# -- no thread for the disk ----------------------------------------------------------------------------------


class Threads:
    """Refuses every thread of the bridge while `allowed` is False."""

    allowed = False


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    threads = Threads()

    class Thread(threading.Thread):
        def start(self) -> None:
            if not threads.allowed:
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(loop_module, "Thread", Thread)
    return threads


def waiting(directory: Path) -> None:
    first = World(directory, "to sensors")
    first.write(message(1, b"old"))
    first.result()
    first.close([OpenIdentifier(7, b"s/1", b"d" * 32)])


def test_a_start_without_a_thread_for_the_disk_gets_one_later(
    tmp_path: Path, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_thread_module, "_AGAIN_WHEN_UNUSABLE", 0.05)
    threads.allowed = True
    waiting(tmp_path)
    threads.allowed = False
    with capture_logs() as said:
        run = Run(tmp_path)
        assert run.spool.disk.state == "unusable"
        answered(run)
        run.receive(2)
        tries = iter(range(5))
        run.until(lambda: next(tries, None) is None, "it turns a few times, and tries in vain")
        assert not run.spool.accepts
        threads.allowed = True
        run.until(lambda: len(run.kafka.produced) == 2, "what waited on disk is produced, and what came")
    assert [message.payload for message in run.kafka.produced] == [b"old", b"new"]
    assert run.spool.disk.state == "usable"
    assert [line["event"] for line in said if line["event"].startswith("spool.u")] == [
        "spool.unusable",
        "spool.usable",
    ]
    assert "TasksMax=" in next(line["way_out"] for line in said if line["event"] == "spool.unusable")
    run.close()


def test_a_stop_without_a_thread_for_the_disk_waits_for_none_and_keeps_everything(
    tmp_path: Path, threads: Threads
) -> None:
    threads.allowed = True
    waiting(tmp_path)
    threads.allowed = False
    run = Run(tmp_path)
    answered(run)
    run.receive(2)
    run.pipeline.turn()
    began = time.monotonic()
    run.spool.close(run.spool.identifiers)
    assert time.monotonic() - began < 5, "a stop waits 10 s for commits"
    run.loop.close()
    threads.allowed = True
    again = World(tmp_path, "to sensors")
    assert [backlog.messages for backlog in again.spool.backlogs] == [1]
    assert [each.packet_id for each in again.spool.identifiers] == [7]
    again.close()
