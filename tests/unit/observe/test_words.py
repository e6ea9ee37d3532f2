"""Every event of the closed list has one plain sentence for people who do not read the log."""

import re

import pytest

from bridge.observe.events import Event
from bridge.observe.words import _WORDS, words
from docs.reference.generate import logged_fields

FIELDS = logged_fields()


@pytest.mark.parametrize("event", list(Event))
def test_an_event_has_a_sentence_with_and_without_its_fields(event: Event) -> None:
    assert event.value in _WORDS
    for fields in ({}, {name: f"<{name}>" for name in FIELDS[event.name]}):
        text = words(event, fields)
        assert re.fullmatch(r"[A-Z].+[.]", text)
        assert not re.search(r"[\[\]{}]", text)


@pytest.mark.parametrize("event", list(Event))
def test_a_sentence_names_only_fields_that_the_event_has(event: Event) -> None:
    named = set(re.findall(r"\{(\w+)\}", _WORDS[event.value]))
    counts = {"received", "delivered"} if "counts" in FIELDS[event.name] else set()
    assert named - set(FIELDS[event.name]) - counts == set()


def test_a_field_stands_in_its_place_and_a_missing_one_leaves_no_gap() -> None:
    fields = {"reason": "Connection reset by peer.", "live_seconds": 3.2}
    assert (
        words("mqtt.closed", fields) == "The connection to EMQ ended after 3.2 s: Connection reset by peer."
    )
    assert words("mqtt.closed", {"reason": ""}) == "The connection to EMQ ended."
    assert words("mqtt.unsubscribed", {"filters": ["a/+", "b/#"]}).endswith("contain: a/+, b/#.")


def test_an_event_of_a_newer_version_keeps_its_name() -> None:
    assert words("new.event", {"reason": "x"}) == "new.event"


def test_no_field_moves_the_cursor_and_none_fills_the_screen() -> None:
    text = words("mqtt.closed", {"reason": "\x1b[2J" + "x" * 5000})
    assert text.isprintable()
    assert len(text) < 600
