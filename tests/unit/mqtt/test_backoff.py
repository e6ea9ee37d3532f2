"""Backoff: how long the bridge waits before the next attempt to connect."""

import pytest

from bridge.mqtt.backoff import Backoff
from bridge.settings import ReconnectSettings

SETTINGS = ReconnectSettings()


def longest(_: float, high: float) -> float:
    return high


def shortest(low: float, _: float) -> float:
    return low


def test_the_first_attempt_is_made_at_once() -> None:
    assert Backoff(SETTINGS, longest).next_delay() == 0.0


def test_no_wait_while_the_broker_is_away_is_longer_than_2_seconds() -> None:
    backoff = Backoff(SETTINGS, longest)
    backoff.next_delay()
    assert [backoff.next_delay() for _ in range(5)] == [0.5, 1.0, 2.0, 2.0, 2.0]


def test_the_waits_are_random_from_a_tenth_of_a_second_on() -> None:
    backoff = Backoff(SETTINGS, shortest)
    backoff.next_delay()
    assert [backoff.next_delay() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@pytest.mark.parametrize("seconds", [1.0, 4.0, 3600.0])
def test_after_a_session_that_was_live_for_a_moment_all_begins_anew(seconds: float) -> None:
    """A session of 4 s, ended by a balancer that is restarted often, counts as much as one of a day."""
    backoff = Backoff(SETTINGS, longest)
    for _ in range(9):
        backoff.next_delay()
    backoff.was_live_for(seconds)
    assert [backoff.next_delay() for _ in range(3)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("seconds", [0.0, 0.9])
def test_a_broker_that_ends_each_session_at_once_makes_no_tight_loop(seconds: float) -> None:
    backoff = Backoff(SETTINGS, longest)
    waits = []
    for _ in range(4):
        backoff.was_live_for(seconds)
        waits.append(backoff.next_delay())
    assert waits == [0.5, 1.0, 2.0, 2.0]


@pytest.mark.parametrize(("uniform", "seconds"), [(shortest, 30.0), (longest, 60.0)])
def test_a_refusal_is_waited_out_long_and_not_in_step_with_others(uniform: object, seconds: float) -> None:
    assert Backoff(SETTINGS, uniform).refused_delay() == seconds  # type: ignore[arg-type]


def test_years_of_attempts_overflow_nothing() -> None:
    backoff = Backoff(SETTINGS, longest)
    assert [backoff.next_delay() for _ in range(5000)][-1] == 2.0
