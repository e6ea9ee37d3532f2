"""A clean stop leaves exactly the messages on disk that Kafka does not hold. On a real disk."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.delivery.pipeline import Pipeline
from bridge.delivery.results import TopicAnswer
from bridge.delivery.segment import unpack
from bridge.loop import Loop
from bridge.message import Message
from bridge.routing.router import Router
from bridge.settings import RouteSettings, Settings, SpoolSettings
from bridge.spool import disk_space
from bridge.spool.spool import Spool
from bridge.spool.store import DiskFull, Store
from tests.harness.conditions import wait_until
from tests.unit.delivery.world import Kafka, Session

COUNT = 100


class World:
    """A pipeline with a real spool, and a Kafka that is silent until the test makes it confirm."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        settings = Settings(
            mqtt={"host": "h"},
            kafka={"bootstrap_servers": "k:9092"},
            routes=[RouteSettings(name="sensors", filter="s/#", topic="sensors")],
            spool={"after": "100ms"},
        )
        router = Router(settings.routes)
        self.kafka, self.session, self.loop = Kafka(), Session(), Loop()
        self.spool = Spool(
            SpoolSettings(keep_free=0), directory, self.loop, "routes", router.destination, "me"
        )
        self.pipeline = Pipeline(settings, router, self.kafka, self.spool)
        self.pipeline.session = self.session
        self.pipeline.connected(session_present=False, mqtt5=True)
        self.pipeline.receive(
            [Message.of(b"s/1", 2, number, None, b"21.5") for number in range(1, COUNT + 1)]
        )
        self.kafka.answers.append(TopicAnswer("sensors", exists=True, limit=10**6))

    def turn_until(self, condition: Callable[[], object]) -> None:
        def turned() -> object:
            self.pipeline.turn()
            self.loop.wait(0)
            return condition()

        wait_until(turned, 10.0, "the pipeline reaches that state")

    def stop(self) -> list[int]:
        """Stop like Service.run. Returns the sequence numbers that are left on disk."""
        self.spool.finish()
        self.pipeline.leave()
        self.spool.close(self.pipeline.open_identifiers)
        self.loop.close()
        database = sqlite3.connect(self.directory / Store.FILE)
        bodies = database.execute("SELECT body FROM segments ORDER BY position").fetchall()
        database.close()
        return [message.sequence for (body,) in bodies for message in unpack(body)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def all_on_disk_and_40_in_kafka(world: World) -> None:
    world.turn_until(lambda: len(world.session.acknowledged) == COUNT)
    world.kafka.deliver(*range(1, 41))
    world.turn_until(lambda: world.pipeline.counts.delivered == 40)


REST = list(range(41, COUNT + 1))


def test_the_rest_of_a_row_is_left(world: World) -> None:
    all_on_disk_and_40_in_kafka(world)
    assert world.stop() == REST


def test_the_rest_of_a_row_is_left_though_the_spool_is_full(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program has filled the disk beyond spool.keep_free."""
    all_on_disk_and_40_in_kafka(world)
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: -1)
    assert world.stop() == REST


def test_the_whole_row_is_left_where_the_disk_takes_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The messages that Kafka holds are then duplicated: losing the others would be worse."""
    all_on_disk_and_40_in_kafka(world)
    insert = Store._insert

    def full(store: Store, *arguments: object) -> None:
        insert(store, *arguments)  # type: ignore[arg-type]
        raise DiskFull("no room")

    monkeypatch.setattr(Store, "_insert", full)
    assert world.stop() == list(range(1, COUNT + 1))


def test_what_kafka_confirms_while_its_row_is_being_written_is_not_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_go_on, write = threading.Event(), threading.Event(), Store.write

    def slow(store: Store, *arguments: object, **more: object) -> None:
        began.set()
        assert may_go_on.wait(10.0)
        write(store, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "write", slow)
    world.turn_until(began.is_set)
    world.kafka.deliver()
    world.turn_until(lambda: world.pipeline.is_empty)
    assert len(world.session.acknowledged) == COUNT
    threading.Timer(0.1, may_go_on.set).start()
    assert world.stop() == []
