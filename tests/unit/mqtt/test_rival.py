"""Another client with the same client id, told from a balancer that is restarted."""

import pytest

from bridge.mqtt.rival import AWAY_TOO_LONG, End, Rival


def connections(rival: Rival, end: End, *lives: float) -> list[str]:
    """The evidence after each of these lives; the broker answers at once in between."""
    found = []
    for life in lives:
        found.append(rival.lost(end, life, now=0.0))
        rival.doubt(now=0.0)
    return found


def test_three_short_lives_that_a_broker_ends_which_answers_at_once_are_a_fight() -> None:
    first, second, third = connections(Rival(), End.CLOSED, 0.1, 4.9, 0.1)
    assert not first
    assert not second
    assert "closed 3 times in a row within 5 s" in third


def test_each_further_short_life_goes_on_with_the_fight() -> None:
    assert all(connections(Rival(), End.CLOSED, 0.1, 0.1, 0.1, 0.1)[2:])


def test_a_life_that_ended_before_live_says_nothing_either_way() -> None:
    assert connections(Rival(), End.CLOSED, 0.1, 0.0, 0.1, 0.1)[3]


def test_a_balancer_that_is_restarted_again_and_again_is_no_rival() -> None:
    """Its port refuses the first attempt, or closes it before CONNACK."""
    rival = Rival()
    for _ in range(40):
        assert not rival.lost(End.CLOSED, 2.0, now=0.0)
        rival.failed()
        assert not rival.doubt(now=1.0)


@pytest.mark.parametrize("end", [End.OTHER, End.SILENT])
def test_what_the_bridge_ended_or_the_broker_explained_is_no_fight(end: End) -> None:
    assert not any(connections(Rival(), end, 0.1, 0.1, 0.1, 0.1))


def test_a_long_life_ends_the_fight() -> None:
    assert not any(connections(Rival(), End.CLOSED, 0.1, 0.1, 5.0, 0.1, 0.1))


def test_where_the_broker_says_so_the_second_time_is_a_fight() -> None:
    """The first may be a tool that somebody used for a moment."""
    first, second = connections(Rival(), End.TAKEN_OVER, 3600.0, 0.1)
    assert not first
    assert not second
    assert connections(Rival(), End.TAKEN_OVER, 1.0, 1.0)[1]


@pytest.mark.parametrize(
    ("end", "why"), [(End.CLOSED, "take-over"), (End.TAKEN_OVER, "took"), (End.SILENT, "silent")]
)
def test_another_client_may_have_had_the_session(end: End, why: str) -> None:
    rival = Rival()
    assert "started" in rival.doubt(now=0.0)
    rival.lost(end, 60.0, now=0.0)
    assert why in rival.doubt(now=0.1)


def test_there_is_no_doubt_after_a_balancer_was_away_for_a_moment() -> None:
    rival = Rival()
    rival.lost(End.CLOSED, 60.0, now=0.0)
    rival.failed()
    assert not rival.doubt(now=AWAY_TOO_LONG)
    assert "without the session" in rival.doubt(now=AWAY_TOO_LONG + 0.1)


def test_there_is_no_doubt_where_the_bridge_ended_the_connection_itself() -> None:
    rival = Rival()
    rival.lost(End.OTHER, 60.0, now=0.0)
    assert not rival.doubt(now=0.1)
