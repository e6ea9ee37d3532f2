"""When delivery reports are taken at once, and when together."""

import pytest

from bridge.delivery.coalescing import LONGEST, SHORTEST, Coalescing

MS = 0.001


def test_a_message_alone_does_not_wait() -> None:
    coalescing = Coalescing()
    for number in range(100):
        coalescing.taken(5 * MS * number, 1, 1, 0)
    assert coalescing.until == 0.0


def test_batches_of_one_topic_do_not_wait() -> None:
    coalescing = Coalescing()
    for number in range(100):
        coalescing.taken(10 * MS * number, 1, 50, 50)
    assert coalescing.until == 0.0


def test_a_batch_of_one_message_before_a_large_one_does_not_wait() -> None:
    """With `linger.ms` = 0, librdkafka sends the first message alone, and the others in one batch."""
    coalescing = Coalescing()
    for number in range(100):
        coalescing.taken(MS * number, 1, 1 if number % 2 else 99, 99 if number % 2 else 1)
    assert coalescing.until == 0.0


def one_by_one(coalescing: Coalescing, pace: float, reports: int = 100, in_flight: int = 100) -> float:
    """Take so many reports of one message each, `pace` seconds apart. Returns the time of the last one."""
    now = 1000.0
    for _ in range(reports):
        now += pace
        coalescing.taken(now, 1, 1, in_flight)
    return now


def test_where_a_hundred_reports_are_outstanding_an_eighth_of_them_is_awaited() -> None:
    coalescing = Coalescing()
    now = one_by_one(coalescing, pace=0.2 * MS)
    assert coalescing.until - now == pytest.approx(2.5 * MS, rel=0.01)


def test_no_report_waits_for_longer_than_the_longest_time() -> None:
    coalescing = Coalescing()
    now = one_by_one(coalescing, pace=50 * MS)
    assert coalescing.until - now == pytest.approx(LONGEST)


def test_few_outstanding_reports_are_taken_at_once() -> None:
    coalescing = Coalescing()
    one_by_one(coalescing, pace=MS, in_flight=10)
    assert coalescing.until == 0.0


def test_less_than_epoll_can_wait_is_not_awaited() -> None:
    coalescing = Coalescing()
    one_by_one(coalescing, pace=SHORTEST / 100)
    assert coalescing.until == 0.0


def test_after_a_pause_the_first_reports_are_taken_at_once() -> None:
    coalescing = Coalescing()
    now = one_by_one(coalescing, pace=0.1 * MS)
    coalescing.taken(now + MS, 100, 100, 0)
    before = coalescing.until
    coalescing.taken(now + 60.0, 1, 1, 99)
    assert coalescing.until == before


def test_after_batches_it_takes_many_single_reports_until_any_wait() -> None:
    coalescing = Coalescing()
    one_by_one(coalescing, pace=MS)
    coalescing.batches_taken()
    before = coalescing.until
    one_by_one(coalescing, pace=MS, reports=20)
    assert coalescing.until == before
    now = one_by_one(coalescing, pace=MS)
    assert coalescing.until > now
