"""Durations of sampled messages."""

import time

import pytest

from bridge.delivery.sampled import Sampled
from bridge.message import Message


def message(age: float) -> Message:
    made = Message.of(b"s/1", 0x02, 1, None, b"")
    made.timestamp = int((time.time() - age) * 1000)
    return made


def test_delivery_ends_when_the_report_has_come_and_acknowledgement_when_it_is_taken() -> None:
    sampled = Sampled()
    sampled.delivered([message(1.0)], waited=0.4)
    assert sampled.delivery.total == pytest.approx(0.6, abs=0.2)
    assert sampled.by_kafka.total == pytest.approx(1.0, abs=0.2)
    assert sampled.by_kafka.total - sampled.delivery.total == pytest.approx(0.4)


def test_of_a_batch_the_first_message_is_sampled() -> None:
    sampled = Sampled()
    sampled.delivered([message(1.0), message(0.0)])
    assert sampled.delivery.cumulative()[-1] == 1
    assert sampled.delivery.total == pytest.approx(1.0, abs=0.2)
