"""Each kind of blame can fall on the broker or on the bridge."""

from tests.harness.blame import Blame, blame
from tests.harness.device import Tally
from tests.harness.relay import Sighting
from tests.harness.verdict import Evidence, Record


def judge(sent: str, in_kafka: str, acked: str) -> Blame:
    """The blame if these ids were sent to the bridge, and read from one partition, in this order."""
    evidence = Evidence()
    for offset, name in enumerate(in_kafka.split()):
        evidence.add(Record(name, "iot/0", offset, "sensors/a"))
    sightings = [Sighting(0.0, 1, "PUBLISH", 1, qos=1, id=name) for name in sent.split()]
    missing = evidence.missing({seen.id for seen in sightings})
    return blame(evidence.verdict(Tally(acked=set(acked.split()))), sightings, missing)


def test_nobody_is_to_blame() -> None:
    assert judge("a-1 a-2", "a-1 a-2", "a-1 a-2") == Blame(frozenset(), frozenset(), frozenset(), (), 0)


def test_what_was_never_sent_the_broker_lost() -> None:
    found = judge("a-2", "a-2", "a-1 a-2")

    assert found.lost_by_broker == {"a-1"}
    assert not found.lost_by_bridge


def test_what_was_sent_the_bridge_lost_acknowledged_to_its_publisher_or_not() -> None:
    found = judge("a-1 a-2 a-3", "a-2", "a-1 a-2")

    assert found.lost_by_bridge == {"a-1", "a-3"}
    assert not found.lost_by_broker
    assert "a-3" in str(found)


def test_a_copy_is_the_bridges_where_the_broker_sent_it_once() -> None:
    found = judge("a-1 a-2 a-2", "a-1 a-1 a-2 a-2", "a-1 a-2")

    assert found.doubled_by_bridge == {"a-1"}
    assert found.resent == 1


def test_an_order_is_the_bridges_where_the_broker_sent_another() -> None:
    assert judge("a-1 a-2", "a-2 a-1", "a-1 a-2").reordered_by_bridge == (("a-1", "a-2"),)
    assert not judge("a-2 a-1", "a-2 a-1", "a-1 a-2").reordered_by_bridge


def test_it_is_the_first_sending_that_makes_the_order() -> None:
    assert not judge("a-2 a-1 a-2", "a-2 a-1", "a-1 a-2").reordered_by_bridge
    assert judge("a-1 a-2 a-1", "a-2 a-1", "a-1 a-2").reordered_by_bridge
