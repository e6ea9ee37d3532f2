"""The transactional cluster with a producer and a disk that do what a test says, in the loop of a test."""

from collections.abc import Callable
from pathlib import Path
from threading import Event as Signal
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.delivery.intent import Intent, Memory, Number
from bridge.delivery.results import Verdict
from bridge.kafka import error_log, transactional_cluster, transactional_producer
from bridge.kafka.transactional_cluster import TransactionalCluster
from bridge.kafka.transactional_producer import Found, Lost, Refused
from bridge.kafka.transactions import Run, State
from bridge.loop import Loop
from bridge.message import Message
from bridge.observe.events import Event
from bridge.settings import KafkaSettings
from tests.harness.conditions import wait_until


class FakeProducer:
    """`outcomes`: what `run` does next, one after the other; a Signal: it blocks until the test sets it."""

    made: list["FakeProducer"]
    found = Found({}, {})
    outcomes: list[Any]

    def __init__(self, *_: object) -> None:
        self.is_closing = self.is_stuck = self.is_outdated = False
        self.batch_size = self.queued = 0
        self.ran: list[tuple[Run, str]] = []
        self.made.append(self)

    def open(self, _offset_topic: str) -> Found:
        return self.found

    def run(self, run: Run, intended: Callable[[float], str]) -> float:
        self.ran.append((run, intended(5.0)))
        outcome = self.outcomes.pop(0) if self.outcomes else 0.01
        if isinstance(outcome, Signal):
            outcome.wait(20)
            outcome = Lost("too late")
        if isinstance(outcome, Exception):
            raise outcome
        return float(outcome)

    def metadata(self, *_: object) -> None:
        raise RuntimeError("closed")

    def close(self) -> None: ...
    def end_waits(self) -> None: ...


class FakeSpool:
    """A disk that is quick. `name` empty: it can't write."""

    name = "spool"

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.confirmed: list[int] = []
        self.settled: list[bool] = []
        self.intents: list[Intent] = []

    def recall(self, told: Callable[[Memory], None]) -> None:
        told(self.memory)

    def settle(self, is_committed: bool, told: Callable[[], None]) -> None:
        self.settled.append(is_committed)
        told()

    def confirm(self, number: int) -> None:
        self.confirmed.append(number)

    def intend(self, intent: Intent, told: Callable[[str], None]) -> None:
        self.intents.append(intent)
        told(self.name)


class World:
    def __init__(self, memory: Memory) -> None:
        self.loop = Loop()
        settings = KafkaSettings(bootstrap_servers="127.0.0.1:1")
        self.cluster = TransactionalCluster(settings, self.loop, "id", "group")
        self.spool = FakeSpool(memory)
        self.cluster.use(self.spool)
        self.delivered: list[Message] = []
        self.failures: list[Any] = []

    def produce(self, topic: str = "t") -> Message:
        message = Message.of(topic.encode(), 0x02, 1, None, b"x")
        rows = SimpleNamespace(row_of=lambda _: None)
        message.plan = SimpleNamespace(kafka_topic=topic, lane=SimpleNamespace(rows=rows))
        self.cluster.produce([message], self.failures.append)
        return message

    def until(self, condition: Callable[[], object]) -> None:
        def goes_on() -> object:
            self.cluster.poll()
            self.delivered += self.cluster.take_delivered()
            self.failures += self.cluster.take_failures()
            self.loop.wait(0.01)
            return condition()

        wait_until(goes_on, 10.0, "the cluster has done it")

    @property
    def producers(self) -> list[FakeProducer]:
        return FakeProducer.made


@pytest.fixture
def informed() -> list[dict[str, Any]]:
    """The fields of each kafka.transactional."""
    return []


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, informed: list[Any]) -> list[tuple[Event, dict[str, Any]]]:
    """All other events."""
    found: list[tuple[Event, dict[str, Any]]] = []

    def log(event: Event, **fields: Any) -> None:
        if event is Event.KAFKA_TRANSACTIONAL:
            informed.append(fields)
        else:
            found.append((event, fields))

    for module in (transactional_cluster, error_log):
        monkeypatch.setattr(module, "log", log)
    return found


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, said: list[Any]) -> Any:
    monkeypatch.setattr(transactional_cluster, "TransactionalProducer", FakeProducer)
    monkeypatch.setattr(transactional_cluster, "_LOOK_EVERY", 0.05)
    FakeProducer.made, FakeProducer.outcomes, FakeProducer.found = [], [], Found({}, {})
    worlds: list[World] = []

    def build(memory: Memory | None = None) -> World:
        worlds.append(World(memory or Memory()))
        return worlds[-1]

    yield build
    for world in worlds:
        world.cluster.close()
        world.loop.close()


def test_a_message_is_delivered_once_its_commit_has_returned_and_the_disk_is_told(make: Any) -> None:
    world = make()
    message = world.produce()
    world.until(lambda: world.delivered)
    assert world.delivered == [message]
    assert world.spool.confirmed == [1]
    (ran,) = world.producers[0].ran
    assert ran[1] == "spool"
    assert world.cluster.producer_queue == 0


def test_what_the_last_run_left_is_judged_by_the_number_in_kafka(make: Any) -> None:
    FakeProducer.found = Found({"spool": Number(7, "before")}, {"spool": "t"})
    world = make(Memory("spool", 7, "before", 6, is_open=True))
    world.until(lambda: world.spool.settled)
    assert world.spool.settled == [True]


@pytest.mark.parametrize(
    ("memory", "ended"),
    [
        (Memory(), "none"),
        (Memory("spool", 7, "before", 7), "none"),
        (Memory("spool", 7, "before", 6, is_open=True), "committed"),
        (Memory("spool", 8, "before", 7, is_open=True), "not committed: its messages are produced again"),
        (Memory("spool", 9, "before", 8, is_open=True), "unknown: its messages are produced again"),
    ],
)
def test_a_start_tells_what_became_of_the_transaction_that_was_open(
    make: Any, informed: list[dict[str, Any]], memory: Memory, ended: str
) -> None:
    FakeProducer.found = Found({"spool": Number(7, "before")} if memory.spool else {}, {"spool": "t"})
    world = make(memory)
    world.until(lambda: informed)
    assert informed == [{"transactional_id": "id", "group": "group", "open_transaction": ended}]
    FakeProducer.outcomes = [transactional_producer.PROMPT]
    world.produce()
    world.until(lambda: world.cluster.rebuilds == 1)
    assert len(informed) == 1, "nothing was lost in between"


def test_after_a_loss_that_was_logged_the_log_tells_that_it_is_over(
    make: Any, informed: list[dict[str, Any]], said: list[Any]
) -> None:
    world = make()
    world.until(lambda: informed)
    FakeProducer.outcomes = [Lost("no answer", may_have_committed=True), Lost("again")]
    world.produce()
    world.until(lambda: world.delivered)
    assert [event for event, _ in said] == [Event.KAFKA_TRANSACTION_LOST], "once a minute"
    [_, after] = informed
    assert after["open_transaction"].startswith("not committed")


def test_a_number_that_does_not_fit_is_said_before_anything_is_produced(make: Any, said: list[Any]) -> None:
    world = make(Memory("spool", 7, "before", 7))
    world.produce()
    world.until(lambda: said)
    event, fields = said[0]
    assert event is Event.KAFKA_NUMBER_UNEXPECTED
    assert fields["group"] == "group"
    assert "no longer knows" in fields["reason"]
    world.until(lambda: world.delivered)


def test_a_refused_message_is_reported_and_the_others_of_its_topic_are_returned(make: Any) -> None:
    world = make()
    first, bad, other = world.produce(), world.produce(), world.produce("other")
    FakeProducer.outcomes = [Refused({bad: (10, "too large")})]
    world.until(lambda: world.delivered)
    assert world.delivered == [other]
    assert [(each.message, each.verdict) for each in world.failures] == [
        (first, Verdict.RETURNED),
        (bad, Verdict.TOO_LARGE),
    ]


def test_a_disk_that_cannot_write_the_intent_stops_the_transaction(make: Any, said: list[Any]) -> None:
    world = make()
    world.spool.name = ""
    world.produce()
    world.until(lambda: said)
    assert said[0][0] is Event.KAFKA_TRANSACTION_LOST
    assert "not on disk" in said[0][1]["reason"]
    assert not world.delivered
    world.spool.name = "spool"
    world.until(lambda: world.delivered)


def test_a_fenced_bridge_says_so_and_steps_back(make: Any, said: list[Any]) -> None:
    world = make()
    world.produce()
    FakeProducer.outcomes = [Lost("fenced", is_fenced=True)]
    world.until(lambda: said)
    assert said == [
        (Event.KAFKA_FENCED, {"transactional_id": "id", "again_in_seconds": 30, "reason": "fenced"})
    ]
    assert world.cluster.transactions.state is State.CLOSED


def test_a_call_that_never_returns_costs_its_producer_and_no_message(make: Any, said: list[Any]) -> None:
    stuck = Signal()
    FakeProducer.outcomes = [stuck]
    world = make()
    message = world.produce()
    world.until(lambda: world.producers[0].ran)
    world.producers[0].is_stuck = True
    world.until(lambda: world.delivered)
    assert world.delivered == [message]
    assert world.producers[0].is_closing
    assert len(world.producers) == 2
    assert "does not return" in said[0][1]["reason"]
    stuck.set()  # what the abandoned thread tells later counts no more
    world.produce()
    world.until(lambda: len(world.delivered) == 2)
    assert world.cluster.transactions.failed_count == 1


def test_a_defect_while_a_transaction_runs_leaves_its_outcome_to_the_number(make: Any) -> None:
    FakeProducer.outcomes = [ValueError("a defect")]
    world = make()
    message = world.produce()
    FakeProducer.found = Found({"spool": Number(1, world.cluster.transactions._run)}, {})
    world.until(lambda: world.delivered)
    assert world.delivered == [message]
    assert len(world.producers[0].ran) == 1, "it was found in Kafka, and not produced again"


def test_a_slow_commit_costs_its_producer(make: Any) -> None:
    world = make()
    assert world.cluster.rebuilds == 0
    world.until(lambda: world.cluster.transactions.state is State.READY)
    assert world.cluster.rebuilds == 0, "the first one replaces none"
    FakeProducer.outcomes = [transactional_producer.PROMPT]
    world.produce()
    world.until(lambda: world.cluster.rebuilds == 1)
    assert len(world.delivered) == 1


def test_a_producer_that_waits_for_kafka_is_told_that_a_file_was_replaced(
    make: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Kafka may refuse the certificate that it was built with."""
    certificate = tmp_path / "certificate"
    certificate.write_text("expired")

    def wait(its: FakeProducer, _offset_topic: str) -> Found:
        wait_until(lambda: its.is_outdated or its.is_closing, 10.0, "it has been told")
        return Found({}, {})

    monkeypatch.setattr(FakeProducer, "open", wait)
    monkeypatch.setattr(transactional_cluster.tls, "files", lambda _: [certificate])
    world = make()
    world.until(lambda: world.cluster.transactions.state is State.OPENING)
    certificate.write_text("renewed")
    world.until(lambda: world.cluster.transactions.state is State.READY)


def test_a_loop_that_sleeps_is_woken_when_the_next_transaction_is_due(make: Any) -> None:
    """The pipeline produces after `poll`, and nothing else happens."""
    world = make()
    cluster, loop = world.cluster, world.loop
    world.until(lambda: cluster.transactions.state is State.READY)
    cluster.poll()
    while loop.wait(0):
        pass
    world.produce()
    cluster.sleep()
    assert loop.wait(5.0), "nothing has woken it"
    cluster.poll()
    assert cluster.transactions.state is State.RUNNING
