"""deploy/lab publish and consume, with simulated Kafka and EMQ."""

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException

from tests.harness.conditions import NotInTime
from tests.harness.lab import door, visitor
from tests.harness.lab.run import Lab
from tests.harness.lab.verbs import LabError


class Record:
    def __init__(self, topic: str, value: str) -> None:
        self._topic, self._value = topic, value

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def key(self) -> bytes:
        return b"gate"

    def headers(self) -> list[tuple[str, bytes]]:
        return [("mqtt.topic", b"garden/gate")]

    def value(self) -> bytes:
        return self._value.encode()


class FakeConsumer:
    """Knows two topics, returns one record, then nothing."""

    answers = True

    def __init__(self) -> None:
        self.assigned: list[Any] = []
        self._records = [Record("garden", "open")]

    def list_topics(self, timeout: float) -> Any:
        if not self.answers:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        one = SimpleNamespace(partitions={0: None})
        return SimpleNamespace(topics={"garden": one, "iot.others": one, "harness.ready": one, "__x": one})

    def assign(self, partitions: list[Any]) -> None:
        self.assigned += partitions

    def poll(self, timeout: float) -> Record | None:
        return self._records.pop() if self._records else None

    def close(self) -> None:
        pass


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    consumer = FakeConsumer()
    monkeypatch.setattr(visitor, "_consumer", lambda: consumer)
    return consumer


@pytest.fixture
def an_open_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(door, "_SOCKET", tmp_path / "door")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "door"))
        listener.listen()
        yield
    (tmp_path / "door").unlink(missing_ok=True)


@pytest.mark.usefixtures("an_open_lab")
@pytest.mark.parametrize(("from_beginning", "offset"), [(False, OFFSET_END), (True, OFFSET_BEGINNING)])
def test_consume_reads_what_is_new_or_everything(
    from_beginning: bool, offset: int, consumer: FakeConsumer
) -> None:
    (line,) = itertools.islice(visitor.consume(["garden"], from_beginning=from_beginning), 1)
    assert line == "garden/0@7 | gate | mqtt.topic=garden/gate | open"
    assert [(each.topic, each.offset) for each in consumer.assigned] == [("garden", offset)]


@pytest.mark.usefixtures("an_open_lab", "consumer")
def test_consume_of_an_unknown_topic_names_those_that_exist() -> None:
    with pytest.raises(LabError, match=r"^Kafka has no topic gardens; it has garden, iot.others$"):
        next(visitor.consume(["garden", "gardens"]))


@pytest.mark.usefixtures("an_open_lab")
def test_consume_while_kafka_is_down_says_so(consumer: FakeConsumer) -> None:
    consumer.answers = False
    with pytest.raises(LabError, match=r"^Kafka does not answer \(.*\); see deploy/lab status$"):
        next(visitor.consume(["garden"]))


@pytest.mark.usefixtures("consumer")
def test_consume_without_a_lab_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_SOCKET", tmp_path / "door")
    with pytest.raises(LabError, match=r"^no lab is up: deploy/lab up, in another terminal$"):
        next(visitor.consume())


@pytest.mark.usefixtures("an_open_lab", "consumer")
def test_consume_ends_with_the_lab(tmp_path: Path) -> None:
    lines = visitor.consume(["garden"])
    next(lines)
    (tmp_path / "door").unlink()
    with pytest.raises(LabError, match="no lab is up"):
        next(lines)


# -- publish ---------------------------------------------------------------------------------------


class FakeReader:
    def __enter__(self) -> "FakeReader":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def find(self, topic: str, text: str) -> str:
        return f"iot.others/0@7 | gate | mqtt.topic={topic} | {text}"


class SlowReader(FakeReader):
    def find(self, topic: str, text: str) -> str:
        raise NotInTime("not within 30 s")


def silent() -> FakeReader:
    raise visitor.KafkaSilent("timed out")


def published(
    monkeypatch: pytest.MonkeyPatch, reader: object, *, kafka: bool = True, bridge: str = "up"
) -> str:
    """The answer to `publish garden/gate open`, while the number of messages on disk grows."""
    numbers = itertools.count(100)
    chain = SimpleNamespace(condition=lambda name: bridge, on_disk=lambda: next(numbers))
    lab: Any = Lab(chain, SimpleNamespace(kafka_answers=kafka), None, 0.0)  # type: ignore[arg-type]
    monkeypatch.setattr(visitor, "Reader", reader)
    monkeypatch.setattr(visitor, "publish", lambda topic, text: "EMQ had it after 3 ms")
    return str(lab.publish("garden/gate", "open"))


def test_publish_shows_its_own_message_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    said = published(monkeypatch, FakeReader)
    assert said.startswith("open was sent to garden/gate; EMQ had it after 3 ms, and it came out of Kafka ")
    assert said.endswith(" ms later: iot.others/0@7 | gate | mqtt.topic=garden/gate | open")


@pytest.mark.parametrize(("reader", "kafka"), [(FakeReader, False), (silent, True), (SlowReader, True)])
def test_publish_while_kafka_is_down_sends_and_says_where_the_message_waits(
    reader: object, kafka: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = published(monkeypatch, reader, kafka=kafka)
    assert said.startswith("open was sent to garden/gate; EMQ had it after 3 ms; Kafka does not take it now")
    assert "it waits on the bridge's disk until Kafka is back (102 messages wait there)" in said


def test_publish_while_the_bridge_is_down_says_that_emq_keeps_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = published(monkeypatch, FakeReader, kafka=False, bridge="hung")
    assert said.endswith("EMQ had it after 3 ms; bridge is hung, so the message waits in EMQ's queue")
