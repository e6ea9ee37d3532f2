"""QoS 2: the broker may forget a message after PUBREC, so the bridge's PUBREC waits for Kafka. Paho's does
not.

Each test names the rule of bridge/delivery/ledger.py without which it fails.
"""

import pytest

from tests.harness.packets import Ack, Kind
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.integration.scripted.conftest import HeldTopic, NewBridge, Values

UNKNOWN_IDENTIFIER = 0x92


@pytest.fixture(params=["5", "3.1.1"])
def first(
    request: pytest.FixtureRequest,
    new_bridge: NewBridge,
    broker: ScriptedBroker,
    topic: str,
    held_topic: HeldTopic,
) -> Connection:
    """The first connection of a bridge that produces t at once and holds held/t."""
    bridge = new_bridge({"t": topic, "held/t": held_topic.name}, {"protocol": request.param})
    bridge.start()
    connection = broker.next_connection()
    connection.connack()
    connection.expect_subscribe()
    bridge.wait_live()
    return connection


def resumed(broker: ScriptedBroker) -> Connection:
    connection = broker.next_connection()
    connection.connack(session_present=True)
    return connection


def test_the_whole_handshake(first: Connection, topic: str, values: Values) -> None:
    first.publish(b"t", b"x", qos=2, identifier=7)
    first.expect_pubrec(7)
    assert values(topic) == [b"x"]
    first.pubrel(7)
    first.expect_pubcomp(7)


def test_pubrec_waits_for_kafka(first: Connection, held_topic: HeldTopic, values: Values) -> None:
    first.publish(b"held/t", b"x", qos=2, identifier=7)
    first.expect_silence(1.0)
    held_topic.release()

    first.expect_pubrec(7)
    assert values(held_topic.name) == [b"x"]


def test_a_publish_that_comes_again_before_pubrel_is_recognised(
    broker: ScriptedBroker, first: Connection, topic: str, values: Values
) -> None:
    """ "A PUBLISH whose PUBREC was handed over joins until its PUBREL arrives": the PUBREC was lost."""
    first.publish(b"t", b"x", qos=2, identifier=7)
    first.expect_pubrec(7)
    first.close()
    second = resumed(broker)
    second.publish(b"t", b"x", qos=2, identifier=7, dup=True)

    second.expect_pubrec(7)
    second.pubrel(7)
    second.expect_pubcomp(7)
    assert values(topic) == [b"x"]


def test_a_publish_that_comes_again_on_the_live_connection_gets_pubrec_again(
    first: Connection, topic: str, values: Values
) -> None:
    first.publish(b"t", b"x", qos=2, identifier=7)
    first.expect_pubrec(7)
    first.publish(b"t", b"x", qos=2, identifier=7, dup=True)

    first.expect_pubrec(7)
    assert values(topic) == [b"x"]


def test_a_broker_that_numbers_anew_loses_nothing_at_qos_2(
    broker: ScriptedBroker, first: Connection, topic: str, values: Values
) -> None:
    """ "...subject to rule 2": identifier 1 comes first after the resume, and may be another message."""
    first.publish(b"t", b"21.5", qos=2, identifier=1)
    first.expect_pubrec(1)
    first.close()
    second = resumed(broker)
    second.publish(b"t", b"21.5", qos=2, identifier=1, dup=True)

    second.expect_pubrec(1)
    assert values(topic) == [b"21.5", b"21.5"]


def test_after_pubrel_the_identifier_is_free(
    broker: ScriptedBroker, first: Connection, topic: str, values: Values
) -> None:
    """Joining ends at PUBREL: a later PUBLISH with that identifier is another message, DUP or not."""
    first.publish(b"t", b"21.5", qos=2, identifier=7)
    first.expect_pubrec(7)
    first.pubrel(7)
    first.expect_pubcomp(7)
    first.close()
    second = resumed(broker)
    second.publish(b"t", b"21.5", qos=2, identifier=7, dup=True)

    second.expect_pubrec(7)
    assert values(topic) == [b"21.5", b"21.5"]


def test_every_pubrel_is_answered(broker: ScriptedBroker, first: Connection) -> None:
    """A PUBREL with an unknown identifier gets a PUBCOMP too, or the broker never frees its slot. PUBREL is
    the first packet of the resumed session, and comes again in the next session because its PUBCOMP was lost.
    """
    first.publish(b"t", b"x", qos=2, identifier=7)
    first.expect_pubrec(7)
    first.close()
    second = resumed(broker)
    second.pubrel(7)
    second.expect_pubcomp(7)
    second.close()
    third = resumed(broker)
    third.pubrel(7)
    third.expect_pubcomp(7)

    unknown = UNKNOWN_IDENTIFIER if third.version == 5 else 0
    for resumed_session, reason in ((second, 0), (third, unknown)):
        answers = [packet for packet in resumed_session.received if isinstance(packet, Ack)]
        assert answers[-1] == Ack(Kind.PUBCOMP, 7, reason)


def test_a_pubrel_that_leads_shows_that_identifiers_are_kept(
    broker: ScriptedBroker, first: Connection, held_topic: HeldTopic, values: Values
) -> None:
    """Rule 2: "whose first PUBLISH or PUBREL carried an identifier other than 1"."""
    first.publish(b"t", b"x", qos=2, identifier=7)
    first.expect_pubrec(7)
    first.publish(b"held/t", b"y", qos=2, identifier=1)
    first.close()
    second = resumed(broker)
    second.pubrel(7)
    second.publish(b"held/t", b"y", qos=2, identifier=1, dup=True)
    second.expect_pubcomp(7)
    held_topic.release()

    second.expect_pubrec(1)
    assert values(held_topic.name) == [b"y"]


def test_qos_1_and_2_leave_in_one_order(first: Connection, held_topic: HeldTopic) -> None:
    first.publish(b"held/t", b"x", qos=2, identifier=1)
    first.publish(b"t", b"x", qos=1, identifier=2)
    first.publish(b"t", b"x", qos=2, identifier=3)
    first.expect_silence(0.5)
    held_topic.release()

    first.expect_pubrec(1)
    first.expect_puback(2)
    first.expect_pubrec(3)


def test_a_bridge_that_dies_before_pubrec_has_lost_nothing(
    broker: ScriptedBroker, new_bridge: NewBridge, held_topic: HeldTopic, values: Values
) -> None:
    """Paho would lose this message: it sends PUBREC at once and keeps the payload in memory until PUBREL."""
    bridge = new_bridge({"held/t": held_topic.name})
    bridge.start()
    first = broker.next_connection()
    first.connack()
    first.expect_subscribe()
    with bridge.log_contains("kafka.topic_missing"):
        first.publish(b"held/t", b"x", qos=2, identifier=7)
    bridge.kill9()
    assert not any(isinstance(packet, Ack) for packet in first.received)
    held_topic.release()
    bridge.start()
    second = resumed(broker)
    second.publish(b"held/t", b"x", qos=2, identifier=7, dup=True)

    second.expect_pubrec(7)
    assert values(held_topic.name) == [b"x"]
