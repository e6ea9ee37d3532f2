"""The output of --dry-run, for people and for jq."""

import io
import json
import re
from typing import Any

import pytest

from bridge.commands.preview import Preview
from bridge.commands.terminal import PREVIEW_CHARACTERS, preview
from bridge.message import RETAIN, Message, Properties
from bridge.routing.router import Router
from bridge.settings import RouteSettings

ROUTES = [
    RouteSettings(name="noise", filter="a/debug", action="drop"),
    RouteSettings(
        name="temp", filter="a/{device}", topic="iot", key="{device}", retained="skip", headers=["mqtt.qos"]
    ),
    RouteSettings(name="quiet", filter="never", topic="nothing"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def message(
    topic: bytes, payload: bytes = b"21.5", flags: int = 2, properties: Properties | None = None
) -> Message:
    return Message.of(topic, flags, 1, properties, payload)


def shown(*messages: Message, routes: list[RouteSettings] = ROUTES) -> str:
    stream = io.StringIO()
    lines = Preview(Router(routes), json=False, stream=stream)
    for one in messages:
        lines.message(one)
    return stream.getvalue()


def objects(*messages: Message) -> list[dict[str, Any]]:
    stream = io.StringIO()
    lines = Preview(Router(ROUTES), json=True, stream=stream, table_stream=io.StringIO())
    for one in messages:
        lines.message(one)
    lines.summary()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_message_is_a_line_with_kafka_topic_key_headers_and_value() -> None:
    assert shown(message(b"a/d1")) == "a/d1 -> iot | d1 | mqtt.qos=1 | 21.5\n"


def test_a_message_that_no_route_takes_is_marked() -> None:
    assert shown(message(b"b")) == "b -> not routed: no route has a filter that matches\n"


def test_a_dropped_message_is_marked() -> None:
    assert shown(message(b"a/debug")) == 'a/debug -> dropped by route "noise"\n'


def test_a_retained_message_that_is_skipped_is_marked() -> None:
    assert shown(message(b"a/d1", flags=RETAIN)) == 'a/d1 -> retained, skipped by route "temp"\n'


def test_a_copy_that_the_bridge_would_leave_is_not_shown() -> None:
    routes = [
        RouteSettings(name="left", filter="a/+", topic="x", headers=[]),
        RouteSettings(name="right", filter="+/b", topic="y", headers=[]),
    ]
    copies = [
        message(b"a/b", properties=Properties(subscription_ids=(s.identifier or 0,)))
        for s in Router(routes).subscriptions
    ]
    assert shown(*copies, routes=routes) == "a/b -> x | a/b |  | 21.5\n"


def test_the_value_is_shown_as_the_envelope_makes_it() -> None:
    routes = [RouteSettings(name="r", filter="a", topic="x", envelope="json", headers=[])]
    assert ' | {"topic":"a","qos":1,' in shown(message(b"a"), routes=routes)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"21.5", "21.5"),
        (b"\x1b[2J\x07\r\n\x7f", r"\x1b[2J\x07\r\n\x7f"),
        ("\u202eevil\x9b1m".encode(), r"\u202eevil\x9b1m"),
        (b"\xff\x00", "0xff00"),
        (bytes(range(128, 160)), "0x808182838485868788898a8b8c8d8e8f… (32 bytes)"),
        (b"a" * 200, "a" * PREVIEW_CHARACTERS + "… (200 bytes)"),
        (b"[red]:smile:[/]", "[red]:smile:[/]"),
    ],
)
def test_a_payload_is_shown_cut_and_without_what_could_move_the_cursor(data: bytes, text: str) -> None:
    assert preview(data) == text


def test_nothing_of_a_message_reaches_a_terminal_raw() -> None:
    terminal = Terminal()
    lines = Preview(Router(ROUTES), json=False, stream=terminal)
    lines.message(
        message(
            "a/\x1b[31m\x9b".encode(), b"\x1b]0;x\x07\x00", properties=Properties(user=(("\x1b", "\x1b"),))
        )
    )
    lines.message(message(b"b/\x1b[31m"))
    lines.summary()
    ours = re.compile(r"\x1b\[[0-9;]*m")  # the styles of marks and table
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ours.sub("", terminal.getvalue()))
    assert "\x1b[31m" not in terminal.getvalue().splitlines()[0]


def test_a_terminal_has_colours_and_a_pipe_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, coloured in ((Terminal(), True), (io.StringIO(), False)):
        lines = Preview(Router(ROUTES), json=False, stream=stream)
        lines.message(message(b"b"))
        lines.summary()
        assert ("\x1b[" in stream.getvalue()) == coloured


def test_a_long_line_is_not_broken() -> None:
    assert shown(message(b"a/" + b"x" * 500)).count("\n") == 1


def test_output_that_is_not_utf_8_gets_escapes() -> None:
    raw = io.BytesIO()
    lines = Preview(Router(ROUTES), json=False, stream=io.TextIOWrapper(raw, encoding="ascii"))
    lines.message(message("a/ü".encode()))
    lines.summary()
    assert raw.getvalue().startswith(rb"a/\xfc -> iot | \xfc")


def test_the_table_has_each_route_in_its_order_with_what_it_got() -> None:
    stream = io.StringIO()
    lines = Preview(Router(ROUTES), json=True, stream=io.StringIO(), table_stream=stream)
    for topic, flags in ((b"a/1", 2), (b"a/2", 2), (b"a/3", RETAIN), (b"a/debug", 2), (b"x", 2)):
        lines.message(message(topic, flags=flags))
    lines.summary()
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in stream.getvalue().splitlines()
        if line[0] == "│"
    ]
    assert rows == [
        ["noise", "0", "0", "1", ""],
        ["temp", "2", "8", "1", "iot"],
        ["quiet", "0", "0", "0", ""],
        ["(not routed)", "0", "0", "1", ""],
    ]


def test_the_table_names_the_first_kafka_topics_and_counts_the_rest() -> None:
    stream = io.StringIO()
    lines = Preview(Router([RouteSettings(name="r", filter="{a}", topic="t.{a}")]), json=False, stream=stream)
    for topic in b"abcde":
        lines.message(message(bytes([topic])))
    lines.summary()
    assert "t.a, t.b, t.c, and 2 more" in re.sub(r"[\s│]+", " ", stream.getvalue())


def test_json_is_one_object_a_line_with_all_that_would_be_produced() -> None:
    assert objects(message(b"a/d1", b"\xff")) == [
        {
            "action": "produce",
            "topic": "a/d1",
            "qos": 1,
            "retained": False,
            "duplicate": False,
            "bytes": 1,
            "route": "temp",
            "kafka_topic": "iot",
            "key": "d1",
            "headers": [{"name": "mqtt.qos", "value": "1"}],
            "value_base64": "/w==",
        }
    ]


def test_json_says_what_becomes_of_each_message() -> None:
    found = objects(message(b"a/debug"), message(b"a/d1", flags=RETAIN), message(b"\xff"))
    assert [one["action"] for one in found] == ["drop", "skip", "unroutable"]
    assert found[2]["topic_base64"] == "/w=="
    assert found[2]["reason"] == "the MQTT topic is not valid UTF-8"


def test_json_is_written_as_it_comes_and_can_move_no_cursor() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")  # keeps text in its buffer until a flush
    Preview(Router(ROUTES), json=True, stream=stream).message(message(b"a/d1", "\x1b\x7f\x9b\u202e".encode()))
    assert raw.getvalue().endswith(b"}\n")
    assert re.fullmatch(rb"[ -~]+\n", raw.getvalue())
