"""`bridge consume`: which topics are read, and what is printed of a record."""

import contextlib
import io
import json
from dataclasses import replace

import pytest

from bridge.commands.consume import Wish, line, of_the_routes, show, why_missing
from bridge.errors import BridgeError
from bridge.kafka.topic_reader import Record
from tests.unit.commands.test_topics import settings

HEADERS = (("mqtt.topic", b"sensors/kitchen/temp"), ("mqtt.qos", b"1"))
RECORD = Record("mqtt", 0, 7, 1_700_000_000_000, b"sensors/kitchen/temp", HEADERS, b"21.5")


class Kafka:
    """Gives these records, None for a wait without one, and ends like Ctrl-C."""

    def __init__(self, *records: Record | None, troubles: tuple[str, ...] = ()) -> None:
        self._records, self._troubles = list(records), list(troubles)

    def next(self, seconds: float) -> Record | None:
        if not self._records:
            raise KeyboardInterrupt
        return self._records.pop(0)

    def trouble(self) -> str:
        return self._troubles.pop(0) if self._troubles else ""


def printed(kafka: Kafka, wish: Wish) -> list[str]:
    stream = io.StringIO()
    with contextlib.suppress(KeyboardInterrupt):
        show(kafka, wish, stream)
    return stream.getvalue().splitlines()


# -- which topics ----------------------------------------------------------------------------------------


def test_without_a_topic_those_of_the_routes_are_read_as_far_as_kafka_has_them() -> None:
    given = settings("garden", "iot.{site}", "absent", dead_letters={"topic": "dead"})
    known = ["iot.attic", "other", "garden", "dead", "__consumer_offsets", "iot.cellar"]
    assert sorted(of_the_routes(given, known)) == ["dead", "garden", "iot.attic", "iot.cellar"]


def test_a_cluster_without_any_of_them_is_told_with_the_command_that_creates_them() -> None:
    with pytest.raises(BridgeError, match=r"none of the topics .* sudo mqtt-kafka-bridge topics --create$"):
        of_the_routes(settings("garden"), ["other"])


@pytest.mark.parametrize(
    ("topic", "known", "way_out"),
    [
        ("garden", ["other"], "yet; create it: sudo mqtt-kafka-bridge topics --create"),
        ("iot.attic", ["other"], "yet; create it: sudo mqtt-kafka-bridge topics --create"),
        ("gradens", ["gardens", "other"], "; did you mean gardens?"),
        ("mqtt", ["b", "a", "__consumer_offsets"], "; it has a and b"),
        ("mqtt", [*"abcdefghij"], "; it has a, b, c, d, e, f, g, h and 2 more"),
        ("mqtt", [], "; it has none at all"),
    ],
)
def test_a_topic_that_is_not_there_is_told_with_the_way_out(
    topic: str, known: list[str], way_out: str
) -> None:
    assert why_missing(settings("garden", "iot.{site}"), known, topic) == f"Kafka has no topic {topic}" + (
        f" {way_out}" if way_out.startswith("yet") else way_out
    )


# -- what is printed -------------------------------------------------------------------------------------


def test_a_line_has_the_place_the_key_the_headers_and_the_value() -> None:
    assert printed(Kafka(RECORD), Wish()) == [
        "mqtt/0@7 | sensors/kitchen/temp | mqtt.topic=sensors/kitchen/temp mqtt.qos=1 | 21.5"
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"a\nb\x1b[2J", r"a\nb\x1b[2J"),
        (bytes(range(128, 148)), "0x808182838485868788898a8b8c8d8e8f… (20 bytes)"),
        ("grün ✓".encode(), "grün ✓"),
        (b"long " * 100, "long " * 100),
        (b"", ""),
        (None, "(null, a tombstone)"),
    ],
)
def test_any_value_is_one_line_that_moves_no_cursor(value: bytes | None, shown: str) -> None:
    assert line(replace(RECORD, value=value)).rpartition(" | ")[2] == shown


def test_a_record_without_key_and_headers() -> None:
    assert line(replace(RECORD, key=None, headers=())) == "mqtt/0@7 | (null) |  | 21.5"


def test_json_has_everything_and_all_bytes() -> None:
    odd = replace(RECORD, timestamp=None, key=None, headers=(("a", b"\xff"), ("b", None)), value=b"\xfe\n")
    first, second = map(json.loads, printed(Kafka(RECORD, odd), Wish(as_json=True)))
    assert first == {
        "topic": "mqtt",
        "partition": 0,
        "offset": 7,
        "timestamp": 1_700_000_000_000,
        "key": "sensors/kitchen/temp",
        "headers": [
            {"name": "mqtt.topic", "value": "sensors/kitchen/temp"},
            {"name": "mqtt.qos", "value": "1"},
        ],
        "value": "21.5",
    }
    assert (second["timestamp"], second["key"]) == (None, None)
    assert second["headers"] == [{"name": "a", "value_base64": "/w=="}, {"name": "b", "value": None}]
    assert second["value_base64"] == "/go="


def test_count_ends_it_though_more_would_come() -> None:
    more = [replace(RECORD, offset=number) for number in range(5)]
    assert len(printed(Kafka(*more), Wish(count=2))) == 2


def test_an_outage_of_kafka_is_told_once_until_a_record_comes(capsys: pytest.CaptureFixture[str]) -> None:
    kafka = Kafka(None, None, RECORD, None, troubles=("k1:9092: refused",) * 3)
    assert len(printed(kafka, Wish())) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == ["bridge: Kafka does not answer now: k1:9092: refused; the records come once it does"] * 2
