"""What happens once for each message is a few lines and a number."""

from typing import Any

import pytest

from bridge.observe import repeated
from bridge.observe.events import Event
from bridge.observe.repeated import LINES, PERIOD, Repeated


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(repeated, "time", clock)
    return clock


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(repeated, "log", lambda _, **fields: lines.append(fields))
    return lines


def test_the_first_few_of_a_minute_are_lines_and_the_rest_is_one_number(
    clock: Clock, logged: list[dict[str, Any]]
) -> None:
    events = Repeated()
    for number in range(1500):
        events.log(Event.ROUTE_UNROUTABLE, topic=f"t{number}")
    events.log_counts()
    events.log_counts()

    assert logged == [*({"topic": f"t{n}"} for n in range(LINES)), {"topic": "t1499", "more": 1500 - LINES}]


def test_the_next_minute_begins_with_what_the_last_one_left_out(
    clock: Clock, logged: list[dict[str, Any]]
) -> None:
    events = Repeated()
    for number in range(LINES + 2):
        events.log(Event.ROUTE_UNROUTABLE, topic=number)
    clock.now += PERIOD
    events.log(Event.ROUTE_UNROUTABLE, topic="new")

    assert logged[LINES:] == [{"topic": LINES + 1, "more": 2}, {"topic": "new"}]
