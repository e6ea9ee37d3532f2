"""When a commit waits for more messages."""

import pytest

from bridge.delivery.gathering import ENOUGH, MOMENT, Gathering
from tests.unit.delivery.world import Clock, World


@pytest.fixture
def gathering() -> Gathering:
    return Gathering()


def _wait(gathering: Gathering, began: float, *arrivals: float) -> float:
    """A commit waits; messages come at `began` and at these times after it. Returns how long it waited."""
    now = began
    for _ in range(100):
        waiting = 1 + sum(began + each <= now for each in arrivals)
        until = gathering.until(now, waiting)
        if until <= now:
            gathering.began(now, waiting)
            return now - began
        now = min([until, *(began + each for each in arrivals if began + each > now)])
    raise AssertionError("it never begins")


FIRST_HALF, SECOND_HALF = MOMENT * 0.1, MOMENT * 0.9


def test_a_commit_waits_for_others_and_one_that_has_enough_does_not(gathering: Gathering) -> None:
    assert _wait(gathering, 1.0, FIRST_HALF, SECOND_HALF) == pytest.approx(MOMENT)
    assert _wait(gathering, 2.0, *[0.0] * (ENOUGH - 1)) == 0.0
    assert _wait(gathering, 3.0, *[FIRST_HALF] * (ENOUGH - 1)) == pytest.approx(FIRST_HALF)


def test_where_nothing_comes_half_the_time_is_enough_and_commits_do_not_wait_for_a_while(
    gathering: Gathering,
) -> None:
    assert _wait(gathering, 1.0) == pytest.approx(MOMENT / 2)
    assert _wait(gathering, 1.1, FIRST_HALF, SECOND_HALF) == 0.0
    assert _wait(gathering, 2.9, FIRST_HALF, SECOND_HALF) == 0.0
    assert _wait(gathering, 3.2, FIRST_HALF, SECOND_HALF) == pytest.approx(MOMENT), "it is tried once more"
    assert _wait(gathering, 3.3, FIRST_HALF, SECOND_HALF) == pytest.approx(MOMENT), (
        "and has brought something"
    )


def test_a_window_that_is_full_soon_ends_the_waiting_although_something_came(gathering: Gathering) -> None:
    """All that the broker may send comes within the first half."""
    assert _wait(gathering, 1.0, FIRST_HALF, FIRST_HALF, FIRST_HALF) == pytest.approx(MOMENT)
    assert _wait(gathering, 1.1, FIRST_HALF, FIRST_HALF, FIRST_HALF) == 0.0


@pytest.mark.parametrize("apart", [0.0, 0.0005, MOMENT / 10])
@pytest.mark.parametrize("window", [1, 2, 4, 15])
def test_a_broker_with_a_small_window_is_seldom_held_up(
    gathering: Gathering, window: int, apart: float
) -> None:
    """It sends so many, `apart` seconds from each other, and no more before they are acknowledged."""
    now = waited = 0.0
    arrivals = [number * apart for number in range(1, window)]
    while now < 10.0:
        waits = _wait(gathering, now, *arrivals)
        waited += waits
        now += max(waits, 0.001)
    if (window - 1) * apart <= MOMENT / 2:
        assert waited < 6 * MOMENT


def test_a_wait_that_was_cut_short_says_nothing(gathering: Gathering) -> None:
    gathering.until(1.0, 1)
    gathering.began(1.0 + MOMENT / 4, 1)
    assert gathering.until(1.2, 1) > 1.2


def test_a_window_that_fills_bit_by_bit_is_seldom_held_up(gathering: Gathering) -> None:
    """The first of its messages wakes the loop, and the others are here a moment later."""
    now, commits = 0.0, 0
    while now < 10.0:
        until = gathering.until(now, 1)
        for waiting in (2, 3, 4):
            if until <= now:
                break
            now += 0.0005
            until = gathering.until(now, waiting)
        now = max(now, until)
        gathering.began(now, 4)
        commits += 1
        now += 0.001  # the commit itself
    assert commits > 0.9 * 10.0 / 0.0025


def test_messages_at_an_even_pace_go_on_to_share_commits(gathering: Gathering) -> None:
    now = 1.0
    for _ in range(100):
        waits = _wait(gathering, now, *[number * MOMENT / 5 for number in range(1, 6)])
        assert waits == pytest.approx(MOMENT)
        now += waits


def test_messages_that_come_one_by_one_share_a_commit(clock: Clock) -> None:
    world = _world("exactly-once")
    for number in range(ENOUGH - 1):
        world.receive()
        assert world.pipeline.has_work is (number == 0), "a turn is needed for the first one alone"
        assert 0 < world.turn() <= MOMENT
        assert not world.disk.has_work
    world.receive()
    assert world.pipeline.has_work
    world.turn()
    assert world.disk.has_work


def test_messages_of_different_topics_share_a_commit_too(clock: Clock) -> None:
    world = _world("exactly-once")
    topics = [b"s/1", b"site/a", b"site/b", b"site/c"]
    for topic in topics:
        world.receive(topic)
        world.turn()
    for number in range(len(topics), ENOUGH):
        assert not world.pipeline.has_work
        world.receive(topics[number % len(topics)])
    assert world.pipeline.has_work
    world.turn()
    assert world.disk.has_work


def test_what_does_not_fill_a_commit_is_written_after_a_moment(clock: Clock) -> None:
    world = _world("exactly-once")
    world.receive()
    clock.now += world.turn()
    world.turn()
    assert world.disk.has_work


def test_a_message_goes_with_a_commit_that_begins_anyway(clock: Clock) -> None:
    world = _world("exactly-once")
    world.disk.is_due_now = True
    world.receive()
    world.turn()
    assert world.disk.has_work


def test_with_delivery_at_least_once_no_commit_waits(clock: Clock) -> None:
    world = _world("at-least-once")
    world.receive()
    world.answer()
    while not world.disk.has_work:  # Kafka is late
        clock.now += 0.5
        world.turn()
    world.disk.commit()
    world.receive()
    world.turn()
    assert world.disk.has_work


def _world(delivery: str) -> World:
    world = World(delivery=delivery)
    world.disk.is_quick = world.disk.is_due_now = False
    return world
