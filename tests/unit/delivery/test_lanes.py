"""A lane, step by step. properties/test_lanes.py tests random sequences."""

from itertools import count
from types import SimpleNamespace

import pytest

from bridge.delivery.lanes import CAUTIOUS_LIMIT, Lane, LaneState, Room
from bridge.message import Message

LIMIT = 100
ROOM = Room(1000, 1_000_000)
_numbers = count(1)


def message(size: int = 1) -> Message:
    made = Message.of(b"t", 2, 1, None, b"x" * size)
    made.sequence, made.plan = next(_numbers), SimpleNamespace(overhead=10)
    return made


@pytest.fixture
def live() -> Lane:
    lane = Lane("topic", ROOM)
    lane.answered(LIMIT)
    assert list(lane.release()) == []
    assert lane.state is LaneState.LIVE
    return lane


def test_a_new_lane_asks_first_and_holds_what_comes() -> None:
    lane = Lane("topic", ROOM)
    messages = [message(), message()]
    assert [lane.offer(each) for each in messages] == [False, False]
    assert lane._limit == CAUTIOUS_LIMIT
    lane.answered(LIMIT)
    assert list(lane.release()) == messages
    assert lane.state is LaneState.LIVE


def test_a_live_lane_holds_nothing(live: Lane) -> None:
    assert live.offer(message())
    assert list(live.release()) == []


def test_the_limit_counts_key_and_headers(live: Lane) -> None:
    assert live.offer(message(LIMIT - 10))
    assert not live.offer(message(LIMIT - 9))


def test_large_ones_wait_while_as_many_bytes_are_in_flight_as_there_is_room_for() -> None:
    lane = Lane("topic", Room(1000, 300_000))
    lane.answered(1_000_000)
    list(lane.release())
    first = [message(100_000) for _ in range(3)]
    assert [lane.offer(each) for each in first] == 3 * [True]
    assert lane.offer(message())  # a small message is not counted
    behind = [message(100_000), message()]
    assert [lane.offer(each) for each in behind] == [False, False]
    assert list(lane.release()) == []
    lane.delivered(first[0])
    assert list(lane.release()) == behind[:1]
    assert lane.state is LaneState.SPOOLING
    lane.delivered(first[1])
    assert list(lane.release()) == behind[1:]
    assert lane.state is LaneState.LIVE


def test_what_waited_before_kafka_was_late_does_not_stay_in_memory_beyond_the_room() -> None:
    lane = Lane("topic", Room(1000, 300_000))
    lane.answered(1_000_000)
    list(lane.release())
    messages = [message(100_000) for _ in range(8)]
    assert [lane.offer(each) for each in messages] == 3 * [True] + 5 * [False]
    lane.watch(messages[0].sequence)
    (*segments,) = lane.take_unwritten()
    for segment in segments:
        lane.committed(segment)
    assert list(lane.in_flight) == messages[:3]
    assert lane.waiting == messages[3:4]  # in one segment with a message in flight
    assert not lane.behind
    assert lane.spooled == 8


def test_what_failed_stays_before_what_is_still_in_flight() -> None:
    lane = Lane("topic", Room(1000, 300_000))
    lane.answered(1_000_000)
    list(lane.release())
    messages = [message(100_000) for _ in range(5)]
    for each in messages:
        lane.offer(each)
    lane.failed(messages[0], now=0.0)
    lane.watch(messages[0].sequence)
    assert lane.waiting == messages[:1]
    assert list(lane.behind) == messages[3:]


def test_what_is_written_at_once_is_bounded_and_goes_on_where_it_was(live: Lane) -> None:
    live.answered(3_000_000)
    messages = [message(1_500_000) for _ in range(5)]
    for each in messages:
        live.offer(each)
    live.watch(messages[-1].sequence)
    written = []
    for _ in range(3):
        segments = live.take_unwritten()
        assert len(segments) <= 2
        written += [each for segment in segments for each in segment.messages]
        for segment in segments:
            live.committed(segment)
    assert written == messages
    assert live.take_unwritten() == []


def test_no_answer_is_waited_out_longer_each_time() -> None:
    lane = Lane("topic", ROOM)
    delays = []
    for _ in range(7):
        lane.not_answered(now=100.0)
        assert lane.state is LaneState.HELD
        delays.append(lane.retry_at - 100.0)
        assert not lane.ask_if_due(lane.retry_at - 0.01)
        assert lane.ask_if_due(lane.retry_at)
        assert not lane.ask_if_due(lane.retry_at)  # the lane asks only once
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_what_failed_is_tried_alone_before_the_others_follow(live: Lane) -> None:
    first, second, third = message(), message(), message()
    for each in (first, second):
        live.offer(each)
    live.failed(second, now=0.0)
    live.failed(first, now=0.0)
    live.offer(third)
    assert live.ask_if_due(0.5)
    live.answered(LIMIT)
    assert list(live.release()) == [first]
    assert live.state is LaneState.PROBING
    live.delivered(first)
    assert list(live.release()) == [second, third]
    assert live.state is LaneState.LIVE


def test_after_a_delivery_the_next_failure_is_waited_out_briefly(live: Lane) -> None:
    for _ in range(3):
        probe = message()
        assert live.offer(probe)
        live.failed(probe, now=0.0)
        assert live.retry_at == 0.5
        live.ask_if_due(0.5)
        live.answered(LIMIT)
        assert list(live.release()) == [probe]
        live.delivered(probe)
        assert list(live.release()) == []


def test_many_failures_of_one_outage_are_waited_out_once(live: Lane) -> None:
    messages = [message() for _ in range(5)]
    for each in messages:
        live.offer(each)
    for each in messages:
        live.failed(each, now=0.0)
    assert live.retry_at == 0.5


def test_nothing_is_produced_while_something_older_is_in_flight(live: Lane) -> None:
    old, large, new = message(), message(LIMIT), message()
    assert live.offer(old)
    assert not live.offer(large)
    assert not live.offer(new)
    assert list(live.release()) == []
    live.delivered(old)
    assert list(live.release()) == [large]
    assert list(live.release()) == []
    live.given_up(large)
    assert list(live.release()) == [new]


def test_only_who_is_alone_can_be_blamed(live: Lane) -> None:
    first, second = message(), message()
    live.offer(first)
    live.offer(second)
    assert not live.is_alone(first)
    live.suspect(first)
    live.suspect(second)
    assert list(live.release()) == [first]
    assert live.is_alone(first)
    assert not live.is_alone(second)


def test_a_large_one_among_those_that_waited_goes_alone_too() -> None:
    lane = Lane("topic", ROOM)
    small, large, last = message(), message(LIMIT), message()
    for each in (small, large, last):
        lane.offer(each)
    lane.answered(LIMIT)
    assert list(lane.release()) == [small]
    lane.delivered(small)
    assert list(lane.release()) == [large]
    lane.delivered(large)
    assert list(lane.release()) == [last]


def test_each_of_several_suspects_goes_alone_and_the_rest_together(live: Lane) -> None:
    suspects, rest = [message(), message()], [message(), message()]
    for each in suspects:
        live.offer(each)
    for each in suspects:
        live.suspect(each)
    for each in rest:
        live.offer(each)
    for each in suspects:
        assert list(live.release()) == [each]
        live.delivered(each)
    assert list(live.release()) == rest


def test_a_lost_producer_puts_all_back_in_order(live: Lane) -> None:
    messages = [message() for _ in range(3)]
    for each in messages:
        live.offer(each)
    live.start_over()
    assert not live.in_flight
    assert list(live.release()) == messages


def test_a_lost_producer_does_not_release_a_lane_that_is_held(live: Lane) -> None:
    first, second = message(), message()
    live.offer(first)
    live.offer(second)
    live.failed(first, now=0.0)
    live.start_over()
    assert live.state is LaneState.HELD
    assert list(live.release()) == []


def test_another_producer_waits_for_what_the_old_one_has(live: Lane) -> None:
    old, new = message(), message()
    live.offer(old)
    live.drain()
    assert not live.offer(new)
    assert list(live.release()) == []
    live.delivered(old)
    assert list(live.release()) == [new]


@pytest.mark.parametrize("state", [LaneState.LIVE, LaneState.DRAINING, LaneState.PROBING, LaneState.HELD])
def test_an_answer_nobody_waits_for_changes_the_limit_alone(live: Lane, state: LaneState) -> None:
    live.state = state
    live.answered(50)
    live.not_answered(now=0.0)
    assert live.state is state
    assert live._limit == 50
