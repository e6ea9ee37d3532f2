"""The closed list of events, and `log()`."""

import ast
import logging
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.delivery.counts import Counts
from bridge.observe.events import Event, log, log_at

ROOM = Path(__file__).parents[3] / "bridge"

# What observe/logging.py and structlog put into a line themselves. A field of that name would be lost, or
# would take the place of the line's own.
OF_THE_LINE = {"timestamp", "level", "log_level", "event", "exception", "stack", "stack_info"}


@pytest.mark.parametrize("event", Event)
def test_an_event_is_named_by_its_room_and_what_happened(event: Event) -> None:
    assert re.fullmatch(r"[a-z0-9]+\.[a-z_]+", event)
    assert event.name == event.upper().replace(".", "_")


@pytest.mark.parametrize("event", Event)
def test_an_event_has_a_level_and_a_meaning(event: Event) -> None:
    assert event.level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
    assert event.meaning
    assert not event.meaning.endswith(".")


def test_an_event_is_logged_at_its_level_with_its_fields() -> None:
    with capture_logs() as logged:
        log(Event.MQTT_CLOSED, reason="the peer closed", live_seconds=3.5)

    assert logged == [
        {"event": "mqtt.closed", "log_level": "warning", "reason": "the peer closed", "live_seconds": 3.5}
    ]


def test_a_library_s_line_brings_its_own_level() -> None:
    with capture_logs() as logged:
        log_at(logging.INFO, Event.LIBRARY_PAHO, message="x")

    assert logged == [{"event": "library.paho", "log_level": "info", "message": "x"}]


def calls_of_log() -> list[tuple[str, list[str]]]:
    """Each call of log(), log_at() and Repeated.log(): where it is, and the fields that it names."""
    found = []
    for file in sorted(ROOM.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("log", "log_at"):
                where = f"{file.relative_to(ROOM)}:{node.lineno}"
                found.append((where, [keyword.arg for keyword in node.keywords if keyword.arg]))
    return found


def test_no_event_has_a_field_with_the_name_of_a_key_that_each_line_has() -> None:
    calls = calls_of_log()
    assert sum("topic" in fields for _, fields in calls) > 5, "the calls are found"
    assert [where for where, fields in calls if OF_THE_LINE & set(fields)] == []
    # What is passed as **fields: all of it comes from calls above, or is a count.
    assert OF_THE_LINE.isdisjoint(Counts().as_fields())


def test_logger_is_the_field_of_lines_of_libraries_alone() -> None:
    assert {where.partition(":")[0] for where, fields in calls_of_log() if "logger" in fields} == {
        "observe/logging.py"
    }
