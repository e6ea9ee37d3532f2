"""What `bridge consume` asks librdkafka's consumer for, and what it makes of its answers."""

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException

from bridge.errors import BridgeError
from bridge.kafka import topic_reader
from bridge.kafka.topic_reader import Record, TopicReader
from bridge.settings import KafkaSettings

SETTINGS = KafkaSettings.model_validate(
    {"bootstrap_servers": "127.0.0.1:1", "options": {"socket.keepalive.enable": False}}
)


class Answer:
    """A message of librdkafka: a record of mqtt, or an error about it."""

    def __init__(self, error: int | None = None, value: bytes | None = b"21.5", stamp: int = 5) -> None:
        self._error, self._value, self._stamp = error, value, stamp

    def error(self) -> KafkaError | None:
        return None if self._error is None else KafkaError(self._error)

    def topic(self) -> str:
        return "mqtt"

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return 7

    def timestamp(self) -> tuple[int, int]:
        return (1, self._stamp)

    def key(self) -> bytes:
        return b"k"

    def headers(self) -> None:
        return None

    def value(self) -> bytes | None:
        return self._value


class Fake:
    """Kafka with the topic mqtt of three partitions. Nobody leads 1, and the leader of 2 does not answer."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.assigned: dict[int, int] = {}
        self.answers: list[Answer] = []

    def __call__(self, options: dict[str, Any]) -> "Fake":
        self.options = options
        return self

    def list_topics(self, timeout: float) -> Any:
        leaders = {0: 1, 1: -1, 2: 3}
        partitions = {number: SimpleNamespace(leader=leader) for number, leader in leaders.items()}
        return SimpleNamespace(topics={"mqtt": SimpleNamespace(partitions=partitions)})

    def get_watermark_offsets(self, partition: Any, timeout: float) -> tuple[int, int]:
        assert partition.partition != 1, "nobody leads it"
        if partition.partition == 2:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return 3, 9

    def assign(self, partitions: list[Any]) -> None:
        self.assigned = {each.partition: each.offset for each in partitions}

    def poll(self, timeout: float) -> Answer | None:
        return self.answers.pop(0) if self.answers else None

    def close(self) -> None: ...


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(topic_reader, "Consumer", fake)
    return fake


@pytest.fixture
def reader(kafka: Fake) -> TopicReader:
    reader = TopicReader(SETTINGS)
    assert list(reader.topics()) == ["mqtt"]
    return reader


def test_it_connects_with_the_bridges_options_and_commits_nothing(kafka: Fake, reader: TopicReader) -> None:
    assert kafka.options["socket.keepalive.enable"] is False
    assert kafka.options["enable.auto.commit"] is False
    assert "acks" not in kafka.options, "librdkafka warns of a producer's options"


def test_from_now_on_is_the_present_end_and_partitions_that_nobody_leads_are_named(
    kafka: Fake, reader: TopicReader
) -> None:
    assert reader.begin(["mqtt"], from_beginning=False) == ["mqtt/1", "mqtt/2"]
    assert kafka.assigned == {0: 9, 1: OFFSET_END, 2: OFFSET_END}


def test_from_the_beginning_no_end_is_asked_for(kafka: Fake, reader: TopicReader) -> None:
    assert reader.begin(["mqtt"], from_beginning=True) == ["mqtt/1"]
    assert kafka.assigned == dict.fromkeys(range(3), OFFSET_BEGINNING)


def test_a_record_is_taken_as_it_is(kafka: Fake, reader: TopicReader) -> None:
    kafka.answers = [Answer(), Answer(value=None, stamp=-1)]
    assert reader.next(0.0) == Record("mqtt", 1, 7, 5, b"k", (), b"21.5")
    assert reader.next(0.0) == Record("mqtt", 1, 7, None, b"k", (), None)
    assert reader.next(0.0) is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            "does not allow the bridge's user to read the topic; allow it: kafka-acls.sh --bootstrap-server"
            " 127.0.0.1:1 --add --allow-principal User:NAME --operation Read --topic mqtt",
        ),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "Kafka no longer has the topic mqtt"),
        (KafkaError._UNKNOWN_PARTITION, "Kafka no longer has the topic mqtt"),
    ],
)
def test_what_ends_it_is_said(kafka: Fake, reader: TopicReader, code: int, said: str) -> None:
    kafka.answers = [Answer(code)]
    with pytest.raises(BridgeError, match=said):
        reader.next(0.0)


@pytest.mark.parametrize("code", [KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._TRANSPORT])
def test_what_passes_or_is_about_a_group_does_not_end_it(kafka: Fake, reader: TopicReader, code: int) -> None:
    kafka.answers = [Answer(code)]
    assert reader.next(0.0) is None


def test_that_all_brokers_are_down_is_said_once(kafka: Fake, reader: TopicReader) -> None:
    assert reader.trouble() == ""
    kafka.options["error_cb"](KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert "127.0.0.1:1" in reader.trouble()
    assert reader.trouble() == ""
