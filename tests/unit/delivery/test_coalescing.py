"""When delivery reports are taken at once, and when together."""

from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random

import pytest

from bridge.delivery.coalescing import LONGEST, PATIENCE, SHORTEST, TOGETHER, Coalescing

MS = 0.001
WINDOW = 100  # the bridge's Receive Maximum


class Flow:
    """Messages that come one by one, through an MQTT broker with a window of `window`. Kafka takes 2 ms."""

    def __init__(self, coalescing: Coalescing, window: int = 32) -> None:
        self._coalescing = coalescing
        self._window = window
        self.now = 1000.0
        self.takes = 0
        self.longest = 0.0  # seconds that a report has waited
        self.late = 0  # messages that the MQTT broker could not send as they came, because reports waited

    def run(self, messages: int, gaps: Callable[[], float]) -> None:
        """Each message comes when its gap is over, or when the broker may send it."""
        coalescing = self._coalescing
        unacknowledged: list[float] = []  # when each came
        comes = self.now
        for _ in range(messages):
            comes += gaps()
            while len(unacknowledged) >= self._window or (
                unacknowledged and self._due(unacknowledged) <= comes
            ):
                self._take(unacknowledged)
            self.now = max(self.now, comes)
            self.late += self.now - comes > 4 * MS
            unacknowledged.append(self.now)
            if len(unacknowledged) > coalescing.most and self.now >= unacknowledged[0] + 2 * MS:
                self._take(unacknowledged)

    def _due(self, unacknowledged: list[float]) -> float:
        confirmed = unacknowledged[0] + 2 * MS
        waits = len(unacknowledged) <= self._coalescing.most
        return max(confirmed, self._coalescing.until) if waits else confirmed

    def _take(self, unacknowledged: list[float]) -> None:
        confirmed = unacknowledged[0] + 2 * MS
        self.now = max(self.now, self._due(unacknowledged))
        self.longest = max(self.longest, self.now - confirmed)
        taken = [at for at in unacknowledged if at + 2 * MS <= self.now]
        self._coalescing.few_taken(
            self.now, len(taken), len(unacknowledged), unacknowledged[-1], self.now - confirmed
        )
        del unacknowledged[: len(taken)]
        self.takes += 1


class Never(Coalescing):
    """Takes each report at once."""

    def few_taken(self, *_: object) -> None: ...


def regular(gap: float) -> Callable[[], float]:
    return lambda: gap


def at_random(gap: float) -> Callable[[], float]:
    return partial(Random(7).expovariate, 1 / gap)


def test_messages_that_come_rarely_do_not_wait() -> None:
    coalescing = Coalescing(WINDOW)
    flow = Flow(coalescing)
    flow.run(1000, regular(50 * MS))
    assert coalescing.until == 0.0
    assert flow.takes >= 999


@pytest.mark.parametrize("gaps", [regular, at_random])
def test_reports_of_messages_that_come_one_by_one_are_taken_together(
    gaps: Callable[[float], Callable[[], float]],
) -> None:
    flow = Flow(Coalescing(WINDOW))
    flow.run(10_000, gaps(5 * MS))
    assert flow.takes < 5000
    assert flow.longest <= PATIENCE


def test_no_wait_lasts_into_a_pause() -> None:
    coalescing = Coalescing(WINDOW)
    flow = Flow(coalescing)
    flow.run(1000, regular(5 * MS))
    assert flow.now < coalescing.until <= flow.now + PATIENCE


def bursts(size: int, apart: float, every: float) -> Callable[[], float]:
    number = count()
    return lambda: apart if next(number) % size else every - (size - 1) * apart


@pytest.mark.parametrize(
    ("window", "gaps"),
    [(1, bursts(6, 2.5 * MS, 64 * MS)), (3, bursts(8, 2.5 * MS, 64 * MS)), (4, bursts(6, 0.2 * MS, 31 * MS))],
)
def test_bursts_fill_the_window_too(window: int, gaps: Callable[[], float]) -> None:
    flow = Flow(Coalescing(WINDOW), window)
    flow.run(60_000, gaps)
    assert flow.late / 60_000 < 0.02


@pytest.mark.parametrize("gap", [3, 5, 8])
def test_where_messages_come_at_random_reports_are_still_taken_together(gap: int) -> None:
    flow = Flow(Coalescing(WINDOW))
    flow.run(100_000, at_random(gap * MS))
    assert flow.takes < 65_000


def test_no_more_reports_are_left_than_the_receive_maximum_lets_come() -> None:
    for window in range(1, TOGETHER + 1):
        coalescing = Coalescing(window)
        Flow(coalescing, window).run(1000, regular(5 * MS))
        assert coalescing.most == window - 1


def test_batches_end_a_wait() -> None:
    coalescing = Coalescing(WINDOW)
    flow = Flow(coalescing)
    flow.run(1000, regular(5 * MS))
    coalescing.batches_taken()
    assert coalescing.until < flow.now


@pytest.mark.parametrize("window", range(1, TOGETHER + 1))
@pytest.mark.parametrize("gaps", [regular, at_random])
def test_a_broker_whose_window_is_full_waits_a_few_times_a_minute(
    gaps: Callable[[float], Callable[[], float]], window: int
) -> None:
    messages = 100_000
    flow = Flow(Coalescing(WINDOW), window)
    flow.run(messages, gaps(5 * MS))
    at_once = Flow(Never(WINDOW), window)
    at_once.run(messages, gaps(5 * MS))
    assert (flow.late - at_once.late) / messages < 0.01


def test_another_connection_may_be_to_a_broker_with_a_larger_window() -> None:
    coalescing = Coalescing(WINDOW)
    Flow(coalescing, 1).run(1000, regular(5 * MS))
    assert coalescing.most == 0
    coalescing.connected()
    flow = Flow(coalescing)
    flow.run(1000, regular(5 * MS))
    assert flow.takes < 500


def test_batches_of_one_topic_do_not_wait() -> None:
    coalescing = Coalescing(WINDOW)
    for number in range(100):
        coalescing.taken(10 * MS * number, 1, 50, 50)
    assert coalescing.until == 0.0


def test_a_batch_of_one_message_before_a_large_one_does_not_wait() -> None:
    """With `linger.ms` = 0, librdkafka sends the first message alone, and the others in one batch."""
    coalescing = Coalescing(WINDOW)
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
    coalescing = Coalescing(WINDOW)
    now = one_by_one(coalescing, pace=0.2 * MS)
    assert coalescing.until - now == pytest.approx(2.5 * MS, rel=0.01)


def test_no_report_waits_for_longer_than_the_longest_time() -> None:
    coalescing = Coalescing(WINDOW)
    now = one_by_one(coalescing, pace=50 * MS)
    assert coalescing.until - now == pytest.approx(LONGEST)


def test_few_outstanding_reports_are_taken_at_once() -> None:
    coalescing = Coalescing(WINDOW)
    one_by_one(coalescing, pace=MS, in_flight=10)
    assert coalescing.until == 0.0


def test_less_than_epoll_can_wait_is_not_awaited() -> None:
    coalescing = Coalescing(WINDOW)
    one_by_one(coalescing, pace=SHORTEST / 100)
    assert coalescing.until == 0.0


def test_after_a_pause_the_first_reports_are_taken_at_once() -> None:
    coalescing = Coalescing(WINDOW)
    now = one_by_one(coalescing, pace=0.1 * MS)
    coalescing.taken(now + MS, 100, 100, 0)
    before = coalescing.until
    coalescing.taken(now + 60.0, 1, 1, 99)
    assert coalescing.until == before


def test_after_batches_it_takes_many_single_reports_until_any_wait() -> None:
    coalescing = Coalescing(WINDOW)
    one_by_one(coalescing, pace=MS)
    coalescing.batches_taken()
    before = coalescing.until
    one_by_one(coalescing, pace=MS, reports=20)
    assert coalescing.until == before
    now = one_by_one(coalescing, pace=MS)
    assert coalescing.until > now
