"""A lane, step by step. properties/test_lanes.py tests random sequences."""

from itertools import count
from types import SimpleNamespace

import pytest

from bridge.delivery.lanes import CAUTIOUS_LIMIT, EVERY_TIMESTAMP, Lane, LaneState
from bridge.delivery.room import Room
from bridge.message import NO_TIMESTAMP, Message

LIMIT = 100
_numbers = count(1)


def message(size: int = 1, key: bytes = b"k") -> Message:
    made = Message.of(b"t", 2, 1, None, b"x" * size)
    made.sequence, made.plan = next(_numbers), SimpleNamespace(overhead=10, key=key)
    return made


@pytest.fixture
def live() -> Lane:
    lane = Lane("topic", Room(1000, 1_000_000))
    lane.answered(LIMIT)
    assert list(lane.release()) == []
    assert lane.state is LaneState.LIVE
    return lane


def test_a_new_lane_asks_first_and_holds_what_comes() -> None:
    lane = Lane("topic", Room(1000, 1_000_000))
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
    lane.delivered([first[0]])
    assert list(lane.release()) == behind[:1]
    assert lane.state is LaneState.SPOOLING
    lane.delivered([first[1]])
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


def test_what_waits_when_the_disk_is_opened_late_stays_behind_what_is_found_there(live: Lane) -> None:
    """It is written in one segment with a message in flight, which may be in Kafka already."""
    flies, waits = message(), message()
    assert live.offer(flies)
    live.drain()  # a new producer takes over
    assert not live.offer(waits)
    live.watch(waits.sequence)
    assert live.late
    live.open_late(1000)
    for segment in live.take_unwritten():
        live.committed(segment)
    live.rows.found(10, 1000, 100)
    live.delivered([flies])
    assert list(live.release()) == []
    assert live.wants_rows() is not None


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
    lane = Lane("topic", Room(1000, 1_000_000))
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
    live.delivered([first])
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
        live.delivered([probe])
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
    live.delivered([old])
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
    lane = Lane("topic", Room(1000, 1_000_000))
    small, large, last = message(), message(LIMIT), message()
    for each in (small, large, last):
        lane.offer(each)
    lane.answered(LIMIT)
    assert list(lane.release()) == [small]
    lane.delivered([small])
    assert list(lane.release()) == [large]
    lane.delivered([large])
    assert list(lane.release()) == [last]


def test_a_suspect_with_nothing_in_flight_before_it_goes_at_once(live: Lane) -> None:
    """No report will come that has the lane visited once more."""
    before, suspect = message(), message(LIMIT)
    assert live.offer(before)
    live.in_flight[before] = None
    live.watch(before.sequence)
    assert not live.offer(suspect)
    for segment in live.take_unwritten():
        live.committed(segment)
    live.delivered([before])
    assert live.state is LaneState.SPOOLING
    assert list(live.release()) == [suspect]
    assert live.state is LaneState.PROBING


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
        live.delivered([each])
    assert list(live.release()) == rest


def test_what_kafka_stored_behind_a_refused_batch_is_counted_by_key(live: Lane) -> None:
    before, first, second = message(), message(), message(key=b"another")
    behind, others = [message(), message()], message(key=b"a third")
    for each in (before, first, second, *behind, others):
        live.offer(each)
    live.suspect(first)
    live.suspect(second)
    for each in (before, *behind, others):  # `before` was stored before the batch was refused
        live.delivered([each])
    assert list(live.release()) == [first]
    assert live.take_reordered() == 2
    assert live.take_reordered() == 0
    live.delivered([first])
    assert list(live.release()) == [second]
    live.delivered([second])
    assert list(live.release()) == []
    assert live.take_reordered() == 0
    assert live.state is LaneState.LIVE


def test_what_overtakes_is_counted_once_all_is_reported(live: Lane) -> None:
    first, second, third = message(), message(), message()
    for each in (first, second, third):
        live.offer(each)
    live.failed(first, now=0.0)
    live.delivered([second])
    assert live.take_reordered() == 0
    live.delivered([third])
    assert live.take_reordered() == 2


def test_a_batch_that_fails_with_all_that_is_behind_it_reorders_nothing(live: Lane) -> None:
    messages = [message() for _ in range(3)]
    for each in messages:
        live.offer(each)
    for each in messages:
        live.suspect(each)
    for each in messages:
        assert list(live.release()) == [each]
        live.delivered([each])
    assert list(live.release()) == []
    assert live.take_reordered() == 0


def test_once_the_limit_is_known_what_fits_goes_together(live: Lane) -> None:
    """A limit that was lowered fails whole batches: thousands of messages, one by one, would take minutes."""
    small, large, last = message(), message(LIMIT - 50), message()
    for each in (small, large, last):
        live.offer(each)
    for each in (small, large, last):
        live.suspect_size(each)
    live.answered(20)
    assert list(live.release()) == [small]
    live.delivered([small])
    assert list(live.release()) == [large]
    live.given_up(large)
    live.dead_lettered(large)
    assert list(live.release()) == [last]
    assert live.state is LaneState.LIVE


def test_what_fails_though_the_limit_allows_it_goes_alone(live: Lane) -> None:
    messages = [message(), message()]
    for each in messages:
        live.offer(each)
    for _ in range(2):
        for each in messages:
            live.suspect_size(each)
        live.answered(LIMIT)
        released = list(live.release())
    assert released == messages[:1]
    assert live.is_alone(messages[0])


def test_an_unknown_limit_clears_nobody(live: Lane) -> None:
    messages = [message(), message()]
    for each in messages:
        live.offer(each)
    for each in messages:
        live.suspect_size(each)
    live.answered(LIMIT, is_known=False)
    assert list(live.release()) == messages[:1]


# -- timestamps ------------------------------------------------------------------------------------------

NOW = 1_700_000_000_000


def stamped(stamp: int = NOW) -> Message:
    made = message()
    made.timestamp = stamp
    return made


def refused(lane: Lane, up_to: int) -> None:
    """A batch of three fails for a timestamp, and the first of it is refused alone."""
    messages = [stamped(), stamped(), stamped()]
    for each in messages:
        lane.offer(each)
    for each in messages:
        lane.suspect_stamp(each)
    assert list(lane.release()) == messages[:1]
    lane.refuse_stamp(messages[0], up_to)
    assert list(lane.release()) == messages, "the rest of the batch goes with it"
    assert [each.timestamp for each in messages] == [NO_TIMESTAMP] * 3
    for each in messages:
        lane.delivered([each])
    assert list(lane.release()) == []


def test_a_clock_that_the_topic_refuses_is_left_out_at_once(live: Lane) -> None:
    refused(live, EVERY_TIMESTAMP)
    assert live.refuses_stamps
    assert live.plain < 0, "the pipeline asks `offer`"
    later = stamped(NOW + 1_000_000_000)
    assert live.offer(later)
    assert later.timestamp == NO_TIMESTAMP
    live.answered(LIMIT)
    assert live.plain < 0


def test_one_message_shows_that_the_clock_is_right_again(live: Lane) -> None:
    refused(live, EVERY_TIMESTAMP)
    live.try_stamp()
    tried, behind = stamped(), stamped()
    assert not live.offer(tried)
    assert not live.offer(behind)
    assert list(live.release()) == [tried]
    assert tried.timestamp == NOW
    live.delivered([tried])
    assert not live.refuses_stamps
    assert list(live.release()) == [behind]
    assert behind.timestamp == NOW
    assert live.plain > 0


def test_one_message_shows_that_the_clock_is_still_refused(live: Lane) -> None:
    refused(live, EVERY_TIMESTAMP)
    live.try_stamp()
    tried, behind = stamped(), stamped()
    live.offer(tried)
    live.offer(behind)
    assert list(live.release()) == [tried]
    live.refuse_stamp(tried, EVERY_TIMESTAMP)
    assert list(live.release()) == [tried, behind]
    assert (tried.timestamp, behind.timestamp) == (NO_TIMESTAMP, NO_TIMESTAMP)
    assert live.refuses_stamps


def test_what_is_too_old_loses_its_timestamp_and_what_is_new_keeps_it(live: Lane) -> None:
    refused(live, NOW + 10)
    assert not live.refuses_stamps
    old, new = stamped(NOW + 10), stamped(NOW + 11)
    live.offer(old)  # a LIVE lane gets only what was received now
    live.offer(new)
    assert new.timestamp == NOW + 11


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
    live.delivered([old])
    assert list(live.release()) == [new]


@pytest.mark.parametrize("state", [LaneState.LIVE, LaneState.DRAINING, LaneState.PROBING, LaneState.HELD])
def test_an_answer_nobody_waits_for_changes_the_limit_alone(live: Lane, state: LaneState) -> None:
    live.state = state
    live.answered(50)
    live.not_answered(now=0.0)
    assert live.state is state
    assert live._limit == 50


# -- held lanes leave the memory ---------------------------------------------------------------------------


def written(lane: Lane, *messages: Message) -> None:
    """Have these messages arrive and written, as one segment; Kafka is late."""
    for each in messages:
        lane.offer(each)
    list(lane.release())
    lane.watch(messages[-1].sequence)
    for segment in lane.take_unwritten():
        lane.committed(segment)


def test_what_is_on_disk_leaves_the_memory_while_the_lane_waits_for_a_person(live: Lane) -> None:
    messages = [message(), message(), message()]
    written(live, *messages[:2])
    written(live, messages[2])
    for each in messages:
        live.failed(each, now=0.0, needs_a_person=True)
    assert list(live.release()) == []
    assert (live.waiting, live.rows.stored, live.rows.kept) == ([], 3, 0)
    assert (live.room.taken_messages, live.room.taken_size, live.room.stored) == (0, 0, 3)


def test_a_row_before_one_that_kafka_holds_stays_in_memory(live: Lane) -> None:
    """That row may be deleted only later: it would be read again, and its message produced twice."""
    messages = [message(), message(), message()]
    written(live, *messages[:2])
    written(live, messages[2])
    live.delivered([messages[2]])  # another partition
    for each in messages[:2]:
        live.failed(each, now=0.0, needs_a_person=True)
    assert list(live.release()) == []
    assert live.waiting == messages[:2]
    assert live.rows.stored == 0
