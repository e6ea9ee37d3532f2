"""Kafka's brokers are as busy where reports are taken together, and the bridge wakes up less often."""

import heapq
from collections import Counter
from itertools import cycle

from hypothesis import example, given
from hypothesis import strategies as st

from bridge.delivery.coalescing import Coalescing

MS = 0.001
WINDOWS = 20  # so many of them are simulated


def simulated(topics: int, window: int, brokers: int, takes: float, *, coalesces: bool) -> tuple[float, int]:
    """Messages a second, and how often reports are taken, of messages that go to topics in turn.

    Each broker confirms one batch after another, each after `takes` seconds. A batch has all messages of one
    topic that wait, as with librdkafka. Each message that is taken makes room for the next one.
    """
    coalescing = Coalescing(window)
    arriving = cycle(range(topics))
    waits: list[Counter[int]] = [Counter() for _ in range(brokers)]
    ends: list[tuple[float, int, int]] = []  # time, broker, messages of each batch in flight
    busy = [False] * brokers

    def begin(now: float) -> None:
        for broker, topics_of_it in enumerate(waits):
            if topics_of_it and not busy[broker]:
                topic = next(iter(topics_of_it))
                heapq.heappush(ends, (now + takes, broker, topics_of_it.pop(topic)))
                busy[broker] = True

    def arrive(messages: int, now: float) -> None:
        for _ in range(messages):
            topic = next(arriving)
            waits[topic % brokers][topic] += 1
            begin(now)  # the first message of a topic does not wait for others

    now, confirmed, looks = 0.0, 0, 0
    arrive(window, now)
    while confirmed < WINDOWS * window:
        until = max(ends[0][0], coalescing.until if coalesces else 0.0)
        reports = messages = 0
        while ends and ends[0][0] <= until:
            now, broker, size = heapq.heappop(ends)
            reports, messages = reports + 1, messages + size
            busy[broker] = False
            begin(now)
        now = until
        looks += 1
        confirmed += messages
        coalescing.taken(now, reports, messages, window - messages)
        arrive(messages, now)
    return confirmed / now, looks


@given(
    topics=st.integers(1, 300),
    window=st.sampled_from([10, 32, 100, 300]),
    brokers=st.sampled_from([1, 3]),
    takes=st.floats(0.1 * MS, 10 * MS),
)
@example(topics=1, window=100, brokers=1, takes=0.3 * MS)
@example(topics=1000, window=32, brokers=3, takes=0.3 * MS)
def test_no_messages_are_slower_because_reports_wait(
    topics: int, window: int, brokers: int, takes: float
) -> None:
    rate, looks = simulated(topics, window, brokers, takes, coalesces=True)
    at_once, looks_at_once = simulated(topics, window, brokers, takes, coalesces=False)
    assert rate >= 0.95 * at_once
    assert looks <= 1.05 * looks_at_once


def test_a_thousand_topics_are_looked_at_an_eighth_as_often() -> None:
    _, looks = simulated(1000, 100, 1, 0.3 * MS, coalesces=True)
    _, looks_at_once = simulated(1000, 100, 1, 0.3 * MS, coalesces=False)
    assert looks < looks_at_once / 8
