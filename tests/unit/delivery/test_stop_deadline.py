"""When a stop no longer waits for Kafka. The test sets the clock."""

import pytest

from bridge.delivery.counts import Counts
from bridge.delivery.stop_deadline import StopDeadline

BEGAN = 1000.0


@pytest.fixture
def counts() -> Counts:
    """Ten messages are on disk, and also in flight to Kafka."""
    return Counts(received=10, spooled=10)


def test_a_silent_kafka_is_not_waited_for_when_all_is_on_disk(counts: Counts) -> None:
    deadline = StopDeadline(20.0, counts, BEGAN)
    assert deadline.due(BEGAN) == 5.0
    assert not deadline.is_over(BEGAN + 4.9), "Kafka may be electing a leader"
    assert deadline.is_over(BEGAN + 5.0)


def test_each_delivery_is_worth_waiting_for_the_next(counts: Counts) -> None:
    deadline = StopDeadline(20.0, counts, BEGAN)
    counts.delivered, counts.spooled = 1, 9
    assert not deadline.is_over(BEGAN + 4.0)
    assert deadline.due(BEGAN + 4.0) == 5.0
    assert not deadline.is_over(BEGAN + 8.9)
    assert deadline.is_over(BEGAN + 9.0)
    counts.delivered, counts.spooled = 2, 8
    assert deadline.is_over(BEGAN + 9.1), "once over, it stays over"


def test_what_is_not_on_disk_is_waited_for_until_the_deadline(counts: Counts) -> None:
    counts.received = 11
    deadline = StopDeadline(20.0, counts, BEGAN)
    assert not deadline.is_over(BEGAN + 19.9)
    assert deadline.due(BEGAN + 15.0) == 5.0
    assert deadline.is_over(BEGAN + 20.0)


def test_it_comes_to_disk_late_and_is_waited_for_no_longer(counts: Counts) -> None:
    counts.received = 11
    deadline = StopDeadline(20.0, counts, BEGAN)
    assert not deadline.is_over(BEGAN + 10.0)
    counts.spooled = 11
    assert deadline.is_over(BEGAN + 10.1)


def test_a_deadline_below_5_s_holds(counts: Counts) -> None:
    deadline = StopDeadline(2.0, counts, BEGAN)
    assert deadline.due(BEGAN) == 2.0
    assert deadline.is_over(BEGAN + 2.0)


def test_a_second_signal_ends_it(counts: Counts) -> None:
    deadline = StopDeadline(20.0, counts, BEGAN)
    deadline.end()
    assert deadline.is_over(BEGAN)
