"""Backoff: how long the bridge waits before the next attempt to connect."""

import pytest

from bridge.mqtt.backoff import Backoff
from bridge.settings import ReconnectSettings

SETTINGS = ReconnectSettings(min_delay=0.2, max_delay=30.0, refused_delay=60.0, stable_after=30.0)


def longest(_: float, high: float) -> float:
    return high


def shortest(low: float, _: float) -> float:
    return low


def test_the_first_attempt_is_made_at_once() -> None:
    assert Backoff(SETTINGS, longest).next_delay() == 0.0


def test_from_the_second_on_the_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(SETTINGS, longest)
    backoff.next_delay()
    assert [backoff.next_delay() for _ in range(10)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_jitter_is_full() -> None:
    backoff = Backoff(SETTINGS, shortest)
    assert {backoff.next_delay() for _ in range(10)} == {0.0}


def test_after_any_live_session_the_first_attempt_is_made_at_once_and_the_count_goes_on() -> None:
    backoff = Backoff(SETTINGS, longest)
    assert [backoff.next_delay() for _ in range(3)] == [0.0, 0.2, 0.4]
    backoff.was_live_for(29.9)
    assert [backoff.next_delay() for _ in range(2)] == [0.0, 0.8]


@pytest.mark.parametrize("seconds", [0.0, 1.9])
def test_what_lived_for_a_moment_only_does_not_count_as_live(seconds: float) -> None:
    backoff = Backoff(SETTINGS, longest)
    backoff.next_delay()
    backoff.was_live_for(seconds)
    assert backoff.next_delay() == 0.2


def test_a_long_life_does() -> None:
    backoff = Backoff(SETTINGS, longest)
    for _ in range(5):
        backoff.next_delay()
    backoff.was_live_for(30.0)
    assert [backoff.next_delay() for _ in range(2)] == [0.0, 0.2]


@pytest.mark.parametrize(("uniform", "seconds"), [(shortest, 30.0), (longest, 60.0)])
def test_a_refusal_is_waited_out_long_and_not_in_step_with_others(uniform: object, seconds: float) -> None:
    assert Backoff(SETTINGS, uniform).refused_delay() == seconds  # type: ignore[arg-type]


def test_years_of_attempts_overflow_nothing() -> None:
    backoff = Backoff(SETTINGS, longest)
    assert [backoff.next_delay() for _ in range(5000)][-1] == 30.0
