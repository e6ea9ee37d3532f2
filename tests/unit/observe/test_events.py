"""The closed list of events, and `log()`."""

import logging
import re

import pytest
from structlog.testing import capture_logs

from bridge.observe.events import Event, log, log_at


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
