"""The oracle can give each of its verdicts, so that a good verdict means something."""

import pytest

from tests.harness.device import Tally
from tests.harness.verdict import Evidence, Record, Verdict, id_of


def judge(*names: str, acked: str = "", unknown: str = "") -> Verdict:
    """The verdict on these ids, read from one partition in this order."""
    evidence = Evidence()
    for offset, name in enumerate(names):
        evidence.add(Record(name, "iot/0", offset, "sensors/a"))
    return evidence.verdict(Tally(acked=set(acked.split()), unknown=set(unknown.split())))


def test_all_delivered_once_and_in_order() -> None:
    verdict = judge("a-1", "b-1", "a-2", acked="a-1 a-2 b-1")

    assert verdict == Verdict(3, frozenset(), {}, (), 0, frozenset())


def test_an_acknowledged_id_that_is_not_in_kafka_is_lost() -> None:
    verdict = judge("a-1", acked="a-1 a-2")

    assert verdict.lost == {"a-2"}
    assert "lost 1" in str(verdict)
    assert "a-2" in str(verdict)


def test_an_id_that_is_there_three_times_is_doubled_twice() -> None:
    verdict = judge("a-1", "a-1", "a-2", "a-1", acked="a-1 a-2")

    assert verdict.doubled == {"a-1": ("iot/0@0", "iot/0@1", "iot/0@3")}
    assert verdict.copies == 2


def test_what_was_published_earlier_and_comes_later_is_out_of_order() -> None:
    verdict = judge("a-1", "a-3", "a-2", "a-4", acked="a-1 a-2 a-3 a-4")

    assert verdict.inversions == (("a-2", "a-3"),)


def test_numbers_are_compared_as_numbers() -> None:
    assert not judge("a-9", "a-10").inversions
    assert judge("a-10", "a-9").inversions


def test_a_copy_that_comes_late_is_doubled_but_not_out_of_order() -> None:
    verdict = judge("a-1", "a-2", "a-1", acked="a-1 a-2")

    assert verdict.doubled == {"a-1": ("iot/0@0", "iot/0@2")}
    assert "a-1 is at iot/0@0 and iot/0@2" in str(verdict)
    assert not verdict.inversions


@pytest.mark.parametrize(
    "second",
    [
        Record("b-1", "iot/0", 1, "sensors/a"),
        Record("a-1", "iot/0", 1, "sensors/other"),
        Record("a-1", "iot/0", 1, "sensors/a", qos=0),
        Record("a-1", "iot/1", 0, "sensors/a"),
    ],
    ids=["publisher", "topic", "QoS", "partition"],
)
def test_order_is_asked_only_within_one(second: Record) -> None:
    evidence = Evidence()
    evidence.add(Record("a-2", "iot/0", 0, "sensors/a"))
    evidence.add(second)

    assert not evidence.verdict(Tally()).inversions


def test_what_a_device_does_not_know_may_be_there_or_not() -> None:
    verdict = judge("a-1", acked="", unknown="a-1 a-2")

    assert not verdict.lost
    assert verdict.unknown_delivered == 1


def test_an_id_that_nobody_sent_is_a_stranger() -> None:
    assert judge("a-1", "x-1", acked="a-1").strangers == {"x-1"}


def test_a_record_that_was_read_already_is_an_error_of_the_harness() -> None:
    evidence = Evidence()
    evidence.add(Record("a-1", "iot/0", 5))

    with pytest.raises(ValueError, match="read already"):
        evidence.add(Record("a-1", "iot/0", 5))


def test_counters_for_the_lab() -> None:
    evidence = Evidence()
    for offset, name in enumerate(["a-1", "a-1", "a-2"]):
        evidence.add(Record(name, "iot/0", offset))

    assert (evidence.delivered, evidence.copies) == (2, 1)
    assert evidence.missing({"a-1", "a-3"}) == {"a-3"}


@pytest.mark.parametrize(
    ("value", "name"),
    [(b"d01-17 .....", "d01-17"), (b"d01-17", "d01-17"), (b"d01-17x", None), (b"21.5", None), (b"", None)],
)
def test_the_id_leads_the_payload(value: bytes, name: str | None) -> None:
    assert id_of(value) == name
