"""Events of thousands of Kafka topics are a few lines in the log, and none is left out of the count."""

from typing import Any

import pytest

from bridge.observe import many_topics
from bridge.observe.events import Event
from bridge.observe.many_topics import COUNT_FOR, LINES, MOST, PERIOD, ManyTopics

MISSING, LATE, LIVE = Event.KAFKA_TOPIC_MISSING, Event.SPOOL_LATE, Event.KAFKA_LANE_LIVE


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(many_topics, "log", lambda event, **fields: found.append({"event": event, **fields}))
    return found


def run(log: ManyTopics, now: float, until: float) -> None:
    """Let the loop turn whenever something is due."""
    while now <= until:
        if now >= log.due:
            log.turn(now)
        now += 0.5


def test_a_single_topic_is_logged_as_it_is(lines: list[dict[str, Any]]) -> None:
    log = ManyTopics()
    log.log(MISSING, topic="iot", way_out="create it")
    assert lines == [{"event": MISSING, "topic": "iot", "way_out": "create it"}]


def test_a_thousand_topics_are_a_few_lines_and_one_that_counts_the_others(
    lines: list[dict[str, Any]],
) -> None:
    log = ManyTopics()
    for number in range(1000):
        log.log(MISSING, topic=f"iot.{number}", way_out="create it")
    run(log, 0.0, COUNT_FOR + 1)
    assert len(lines) == LINES + 1
    assert lines[-1] == {
        "event": MISSING,
        "topics": 1000 - LINES,
        "examples": "iot.5, iot.6, iot.7",
        "way_out": "create it",
    }


def test_a_minute_has_no_more_than_its_lines_whatever_happens(lines: list[dict[str, Any]]) -> None:
    log = ManyTopics()
    told: list[int] = []
    for half_second in range(600):
        now = half_second / 2
        for number in range(10):
            for event in (MISSING, LATE, LIVE):
                log.log(event, topic=f"iot.{half_second}.{number}")
        if now >= log.due:
            log.turn(now)
        told.append(len(lines))
    a_minute = int(2 * PERIOD)
    assert max(after - before for before, after in zip(told, told[a_minute:], strict=False)) <= 2 * MOST
    log.log_counts()
    assert sum(line.get("topics", 1) for line in lines) == 600 * 10 * 3
    assert len(lines) <= MOST * (300 / PERIOD + 1)


def test_a_topic_that_is_counted_alone_is_named(lines: list[dict[str, Any]]) -> None:
    log = ManyTopics()
    for number in range(LINES):
        log.log(LATE, topic=f"iot.{number}")
    log.log(MISSING, topic="the one", way_out="create it")
    run(log, 0.0, COUNT_FOR + 1)
    assert lines[-1] == {"event": MISSING, "topic": "the one", "way_out": "create it"}


def test_after_a_calm_minute_the_next_topic_is_logged_at_once(lines: list[dict[str, Any]]) -> None:
    log = ManyTopics()
    for number in range(100):
        log.log(MISSING, topic=f"iot.{number}")
    run(log, 0.0, 3 * PERIOD)
    lines.clear()
    log.log(MISSING, topic="later")
    assert [line["topic"] for line in lines] == ["later"]


def test_a_stop_leaves_out_no_topic(lines: list[dict[str, Any]]) -> None:
    log = ManyTopics()
    for number in range(100):
        log.log(MISSING, topic=f"iot.{number}")
    log.log_counts()
    assert sum(line.get("topics", 1) for line in lines) == 100
