"""Replay of dead letters: to which topic they go, and which of them stay."""

import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.commands import cli, dead_letters_output
from bridge.commands.replay import Fate, Replay
from bridge.delivery.dead_letter import DeadLetter, Selection, StoredLetter
from bridge.kafka import blocking_producer as producer_module
from bridge.kafka.blocking_producer import BlockingProducer, FailedReport
from bridge.message import RETAIN, Message
from bridge.routing.router import Router
from bridge.settings import KafkaSettings, RouteSettings
from bridge.spool.dead_letters import StoredLetters
from bridge.spool.store import Store
from tests.harness.mock_kafka import MockKafka
from tests.unit.kafka.test_producer import DENIED, kafka
from tests.unit.settings.configurations import Machine

__all__ = ["kafka"]

TOO_LARGE, INVALID, BAD_TIMESTAMP = 10, 87, 32  # Kafka protocol guide, "Error Codes"
ROUTER = Router(
    [
        RouteSettings(name="noise", filter="noise/#", action="drop"),
        RouteSettings(name="quiet", filter="q/{x}", topic="quiet", retained="skip", headers=[]),
        RouteSettings(
            name="temp", filter="s/{device}", topic="iot.{device}", key="{device}", headers=["a=b"]
        ),
    ]
)


def stored(number: int, topic: bytes = b"s/1", flags: int = 2) -> StoredLetter:
    message = Message.of(topic, flags, 0, None, b"21.5")
    message.timestamp = 1_700_000_000_000
    return StoredLetter(number, 0, 4, DeadLetter(message, "too large"))


class Carrier:
    """A producer that records its messages, and fails those in `failing`."""

    def __init__(self, failing: dict[bytes, str] | None = None) -> None:
        self.failing = failing or {}
        self.is_stuck = False
        self.given: list[tuple[str, bytes, bytes, list[tuple[str, bytes]]]] = []

    def deliver(self, messages: Sequence[Message]) -> list[str]:
        for message in messages:
            plan = message.plan
            self.given.append((plan.kafka_topic, plan.key, plan.value(message), plan.headers(message)))
        return [self.failing.get(message.topic, "") for message in messages]


def replay(
    *pages: Sequence[StoredLetter], carrier: Carrier | None = None, to: str | None = None
) -> tuple[list[Fate], list[int]]:
    """Replay the pages. Returns the results, and the numbers of removed letters."""
    removed: list[int] = []
    run = Replay(ROUTER, carrier or Carrier(), lambda done: removed.extend(each.number for each in done), to)
    return list(run.run(pages)), removed


# -- where letters go ---------------------------------------------------------------------------------


def test_each_goes_where_the_routes_lead_it_now() -> None:
    carrier = Carrier()
    fates, removed = replay([stored(1), stored(2, b"s/2")], carrier=carrier)
    assert carrier.given == [
        ("iot.1", b"1", b"21.5", [("a", b"b")]),
        ("iot.2", b"2", b"21.5", [("a", b"b")]),
    ]
    assert [(fate.kafka_topic, fate.reason) for fate in fates] == [("iot.1", ""), ("iot.2", "")]
    assert removed == [1, 2]


def test_what_no_route_takes_stays() -> None:
    carrier = Carrier()
    fates, removed = replay(
        [stored(1, b"x"), stored(2, b"noise/1"), stored(3, b"q/1", RETAIN), stored(4)], carrier=carrier
    )
    assert [fate.reason for fate in fates] == [
        "no route has a filter that matches",
        'route "noise" drops it',
        'route "quiet" skips retained messages',
        "",
    ]
    assert removed == [4]
    assert len(carrier.given) == 1


@pytest.mark.parametrize(
    ("topic", "flags", "key", "headers"),
    [
        (b"s/1", 2, b"1", [("a", b"b")]),
        (b"x/1", 2, b"x/1", []),
        (b"noise/1", 2, b"noise/1", []),
        (b"q/1", 2 | RETAIN, b"q/1", []),
        (b"$SYS/\xff", 2, rb"$SYS/\xff", []),
    ],
)
def test_to_a_topic_of_ones_own_they_all_go(
    topic: bytes, flags: int, key: bytes, headers: list[tuple[str, bytes]]
) -> None:
    carrier = Carrier()
    fates, removed = replay([stored(1, topic, flags)], carrier=carrier, to="rescue")
    assert carrier.given == [("rescue", key, b"21.5", headers)]
    assert (fates[0].reason, removed) == ("", [1])


# -- which are removed --------------------------------------------------------------------------------


def test_what_kafka_does_not_take_stays_with_the_reason() -> None:
    fates, removed = replay([stored(1), stored(2, b"s/2"), stored(3)], carrier=Carrier({b"s/2": "too large"}))
    assert [fate.reason for fate in fates] == ["", "too large", ""]
    assert removed == [1, 3]


def test_it_ends_where_kafka_does_not_answer() -> None:
    carrier = Carrier({b"s/1": "not confirmed"})
    carrier.is_stuck = True
    fates, removed = replay([stored(1)], [stored(2)], carrier=carrier)
    assert [fate.stored.number for fate in fates] == [1]
    assert removed == []


# -- the output ---------------------------------------------------------------------------------------

FATES = [
    Fate(stored(1), "iot", ""),
    Fate(stored(2, b"\x1b"), "iot", "too large"),
    Fate(stored(3), "", "none"),
]


def test_a_person_is_told_which_stay() -> None:
    stream = io.StringIO()
    assert dead_letters_output.show_fates(FATES, as_json=False, stream=stream) == 2
    assert stream.getvalue().splitlines() == [
        r"     2  \x1b  stays: too large",
        "     3  s/1  stays: none",
        "1 delivered and removed, 2 stay",
    ]


def test_a_program_is_told_all() -> None:
    stream = io.StringIO()
    dead_letters_output.show_fates(FATES, as_json=True, stream=stream)
    assert list(map(json.loads, stream.getvalue().splitlines())) == [
        {"id": 1, "delivered": True, "kafka_topic": "iot", "reason": None},
        {"id": 2, "delivered": False, "kafka_topic": "iot", "reason": "too large"},
        {"id": 3, "delivered": False, "kafka_topic": None, "reason": "none"},
    ]


# -- with librdkafka ----------------------------------------------------------------------------------


def message(topic: str) -> Message:
    made = Message.of(b"s/1", 2, 0, None, b"21.5")
    made.timestamp = 1_700_000_000_000
    made.plan = Router([RouteSettings(name="r", filter="#", topic=topic)]).plan(b"s/1")
    return made


@pytest.fixture
def new_producer(kafka: MockKafka) -> Any:
    made: list[BlockingProducer] = []

    def new(bootstrap: str = kafka.bootstrap) -> BlockingProducer:
        made.append(BlockingProducer(KafkaSettings(bootstrap_servers=bootstrap)))
        return made[-1]

    yield new
    for producer in made:
        producer.close()


def test_what_kafka_confirms_is_delivered(new_producer: Any) -> None:
    producer = new_producer()
    assert producer.deliver([message("producer.a"), message("producer.b")]) == ["", ""]
    assert producer.deliver([message("producer.a")]) == [""]
    assert producer.deliver([]) == []


class Refusing:
    """A producer whose Kafka answers with these codes, in order for each topic. 0 means delivered."""

    def __init__(self, codes: dict[str, list[int]]) -> None:
        self.codes = codes
        self.is_broken = False
        self.delivered: list[Message] = []
        self.failed: list[FailedReport] = []

    def produce_all(self, messages: Iterable[Message], failed: Callable[[FailedReport], None]) -> None:
        for message in messages:
            if code := self.codes[message.plan.kafka_topic].pop(0):
                self.failed.append((message, code, "librdkafka's words"))
            else:
                self.delivered.append(message)

    def sleep(self) -> None: ...
    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("reason", "codes"),
    [
        ("max.message.bytes", [TOO_LARGE, TOO_LARGE]),
        ("", [TOO_LARGE, 0]),  # another message of its batch was too large
        ("refuses it as invalid", [INVALID, INVALID]),
        ("", [INVALID, 0]),
        ("", [BAD_TIMESTAMP, 0]),
        ("refuses its timestamp", [BAD_TIMESTAMP, BAD_TIMESTAMP]),
        ("refuses its timestamp", [INVALID, BAD_TIMESTAMP, BAD_TIMESTAMP]),
        ("no permission", [DENIED]),
        ("librdkafka's words (error 99)", [99]),
    ],
)
def test_a_refused_batch_is_tried_again_one_by_one(
    new_producer: Any, monkeypatch: pytest.MonkeyPatch, reason: str, codes: list[int]
) -> None:
    monkeypatch.setattr(BlockingProducer, "_why_not", lambda *_: "")
    producer = new_producer()
    producer._producer.close()
    producer._producer = Refusing({"a": codes, "b": [0]})
    (refused, fine) = producer.deliver([message("a"), message("b")])
    assert reason in refused
    assert bool(reason) == bool(refused)
    assert fine == ""
    assert codes == []  # one attempt for each code, and no more


def test_a_kafka_that_is_not_there_is_said_to_be_so(
    new_producer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.kafka.topic_lookup._TIMEOUT", 0.2)
    producer = new_producer("127.46.0.1:1")
    (reason,) = producer.deliver([message("iot")])
    assert reason.startswith("Kafka does not answer about the topic iot: ")


def test_what_is_never_confirmed_stays_and_nothing_more_is_tried(
    new_producer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = new_producer()
    assert producer.deliver([message("producer.late")]) == [""]
    monkeypatch.setattr(producer_module, "_TIMEOUT", 0.0)
    (late,) = producer.deliver([message("producer.late")])
    assert late.startswith("Kafka has not confirmed the message")
    assert producer.is_stuck
    assert producer.deliver([message("producer.late")]) == ["not tried"]


def test_the_command_delivers_and_removes_and_its_exit_status_says_whether_all(
    kafka: MockKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Machine(tmp_path, monkeypatch).write(f"""
        state_directory = "{tmp_path}"
        mqtt.host = "emq"
        kafka.bootstrap_servers = "{kafka.bootstrap}"
        routes = [{{ name = "a", filter = "a/#", topic = "producer.a" }}]
    """)
    store = Store(tmp_path)
    store.write((), [DeadLetter(Message.of(topic, 2, 0, None, b"x"), "why") for topic in (b"a/1", b"c/1")])

    assert cli.main(["dead-letters", "replay"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "     2  c/1  stays: no route has a filter that matches",
        "1 delivered and removed, 1 stay",
    ]
    left = [each.number for page in StoredLetters(tmp_path).pages(Selection()) for each in page]
    assert left == [2]
    assert cli.main(["dead-letters", "replay", "2", "--to", "producer.rescue"]) == 0
    assert cli.main(["dead-letters", "replay", "--route", "nobody"]) == 0
    store.close()
