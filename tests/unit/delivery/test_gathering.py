"""When a commit waits for more messages."""

import pytest

from bridge.delivery.gathering import ENOUGH, MOMENT, Gathering
from tests.unit.delivery.world import Clock, World


@pytest.fixture
def gathering() -> Gathering:
    return Gathering()


def _bring(gathering: Gathering, at: float, first: int, last: int) -> float:
    """A commit waits with `first` messages, and begins with `last` of them. Returns how long it waited."""
    until = gathering.until(at, first)
    gathering.began(until, last)
    return until - at


def test_a_commit_of_few_messages_waits_for_others_and_one_of_many_does_not(gathering: Gathering) -> None:
    assert gathering.until(1.0, 1) == 1.0 + MOMENT
    assert gathering.until(1.01, 2) == 1.0 + MOMENT, "the first one's time counts"
    assert gathering.until(1.01, ENOUGH) == 1.01


def test_after_a_wait_that_brought_nothing_commits_do_not_wait_for_a_while(gathering: Gathering) -> None:
    assert _bring(gathering, 1.0, 1, 1) == pytest.approx(MOMENT)
    assert _bring(gathering, 1.1, 1, 1) == 0.0
    assert _bring(gathering, 2.9, 3, 3) == 0.0
    assert _bring(gathering, 3.2, 1, 2) == pytest.approx(MOMENT), "it is tried once more"
    assert _bring(gathering, 3.3, 1, 2) == pytest.approx(MOMENT), "and it has brought something"


def test_a_wait_that_was_cut_short_says_nothing(gathering: Gathering) -> None:
    gathering.until(1.0, 1)
    gathering.began(1.0 + MOMENT / 2, 1)
    assert gathering.until(1.2, 1) == 1.2 + MOMENT


def test_a_window_that_is_full_is_seldom_held_up(gathering: Gathering) -> None:
    """A broker that sends no more before an acknowledgement loses a moment in two seconds."""
    now = waited = 0.0
    while now < 10.0:
        waits = _bring(gathering, now, 4, 4)
        waited += waits
        now += waits + 0.001  # the commit
    assert waited < 6 * MOMENT


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
    now, commits = 0.0, 0
    while now < 10.0:
        until = gathering.until(now, 1)
        waiting = 1
        while until > now + 0.01:
            now, waiting = now + 0.01, waiting + 1
            until = gathering.until(now, waiting)
        now = max(now, until)
        gathering.began(now, waiting)
        commits += 1
        now += 0.01
    assert commits < 10.0 / 0.01 / 3


def test_messages_of_several_topics_fill_a_commit_together(clock: Clock) -> None:
    world = _world("exactly-once")
    for number in range(ENOUGH - 1):
        world.receive(topic=b"site/%d" % (number % 4))
        world.turn()
    assert not world.disk.has_work
    world.receive(topic=b"site/1")
    assert world.pipeline.has_work, "nothing more need be waited for"
    world.turn()
    assert world.disk.has_work


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
