"""The ledger's rules for a PUBLISH that comes again: which copies join a known message, which are produced
again.

Each test names the rule of bridge/delivery/ledger.py without which it fails. A message is "held" while its
Kafka topic does not exist: it stays in flight as long as the test wants. A duplicate is better than a loss:
if the broker may have meant another message, two records are right and one record is a loss.
"""

from collections.abc import Callable

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.integration.scripted.conftest import HeldTopic, NewBridge, Values

WINDOW = 10


@pytest.fixture(params=["5", "3.1.1"])
def bridge(
    request: pytest.FixtureRequest, new_bridge: NewBridge, topic: str, held_topic: HeldTopic
) -> BridgeProcess:
    """A running bridge: messages on t are produced at once, messages on held/t wait."""
    bridge = new_bridge(
        {"t": topic, "held/t": held_topic.name},
        {"protocol": request.param, "receive_maximum": WINDOW},
    )
    bridge.start()
    return bridge


@pytest.fixture
def first(broker: ScriptedBroker, bridge: BridgeProcess) -> Connection:
    """The first connection, whose session is new and subscribed."""
    connection = broker.next_connection()
    connection.connack()
    connection.expect_subscribe()
    bridge.wait_live()
    return connection


def resumed(broker: ScriptedBroker) -> Connection:
    """The next connection, whose session is present."""
    connection = broker.next_connection()
    connection.connack(session_present=True)
    return connection


def count_to(connection: Connection, last: int, start: int = 1) -> None:
    """Publish messages with identifiers up to `last`; each is acknowledged before the next."""
    for identifier in range(start, last + 1):
        connection.publish(b"t", b"filler", qos=1, identifier=identifier)
        connection.expect_puback(identifier)


# -- 1. on the same connection ------------------------------------------------------------------------


def test_a_resend_of_what_waits_for_kafka_is_not_produced_again(
    first: Connection, held_topic: HeldTopic, values: Values
) -> None:
    """Rule 1. EMQX 4 resends on a live connection after 30 s, and Kafka may be away longer."""
    first.publish(b"held/t", b"x", qos=1, identifier=5)
    for _ in range(3):
        first.publish(b"held/t", b"x", qos=1, identifier=5, dup=True)
    held_topic.release()

    first.expect_puback(5)
    assert values(held_topic.name) == [b"x"]


def test_a_resend_that_crossed_its_acknowledgement_is_not_produced_again(
    first: Connection, topic: str, values: Values
) -> None:
    """Rule 1, also for a message that is already acknowledged."""
    first.publish(b"t", b"x", qos=1, identifier=5)
    first.expect_puback(5)
    first.publish(b"t", b"x", qos=1, identifier=5, dup=True)
    first.publish(b"t", b"behind it", qos=1, identifier=6)

    first.expect_puback(6)
    assert values(topic) == [b"x", b"behind it"]


def test_what_only_looks_like_a_resend_is_produced(first: Connection, topic: str, values: Values) -> None:
    """Joining needs equal payloads too. The identifier is acknowledged once, for its last message."""
    first.publish(b"t", b"x", qos=1, identifier=5)
    first.publish(b"t", b"y", qos=1, identifier=5, dup=True)
    first.publish(b"t", b"behind it", qos=1, identifier=6)

    first.expect_pubacks([5, 6])
    assert values(topic) == [b"x", b"y", b"behind it"]


# -- 2. across connections, acknowledgement not sent ----------------------------------------------------


def test_a_cut_while_kafka_is_away_doubles_nothing_where_identifiers_are_kept(
    broker: ScriptedBroker, first: Connection, held_topic: HeldTopic, values: Values
) -> None:
    """Rule 2 itself: without it each cut duplicates the messages in flight."""
    for identifier in (5, 6):
        first.publish(b"held/t", b"x%d" % identifier, qos=1, identifier=identifier)
    first.close()
    second = resumed(broker)
    for identifier in (5, 6):
        second.publish(b"held/t", b"x%d" % identifier, qos=1, identifier=identifier, dup=True)
    held_topic.release()

    second.expect_pubacks([5, 6])
    assert values(held_topic.name) == [b"x5", b"x6"]


def test_a_broker_that_numbers_anew_loses_nothing(
    broker: ScriptedBroker, first: Connection, held_topic: HeldTopic, values: Values
) -> None:
    """The condition of rule 2. RabbitMQ numbers the first message of a connection 1: here another message,
    which looks the same.
    """
    first.publish(b"held/t", b"21.5", qos=1, identifier=1)
    first.close()
    second = resumed(broker)
    second.publish(b"held/t", b"21.5", qos=1, identifier=1, dup=True)
    held_topic.release()

    second.expect_puback(1)
    assert values(held_topic.name) == [b"21.5", b"21.5"]


def test_that_a_broker_keeps_identifiers_is_not_forgotten(
    broker: ScriptedBroker, first: Connection, held_topic: HeldTopic, values: Values
) -> None:
    """Rule 2, "once seen, it holds": after the wrap of identifiers a session resumes with 1."""
    first.publish(b"held/t", b"x", qos=1, identifier=65535)
    first.publish(b"held/t", b"y", qos=1, identifier=1)
    first.close()
    second = resumed(broker)
    second.publish(b"held/t", b"x", qos=1, identifier=65535, dup=True)
    second.close()
    third = resumed(broker)
    third.publish(b"held/t", b"y", qos=1, identifier=1, dup=True)  # in order of identifier, as EMQX does
    third.publish(b"held/t", b"x", qos=1, identifier=65535, dup=True)
    held_topic.release()

    third.expect_pubacks([1, 65535])
    assert values(held_topic.name) == [b"x", b"y"]


# -- 3. across connections, acknowledgement sent --------------------------------------------------------


def test_a_lost_acknowledgement_doubles_nothing_where_identifiers_count_upward(
    broker: ScriptedBroker, first: Connection, bridge: BridgeProcess, topic: str, values: Values
) -> None:
    """Rule 3 itself. The broker acts as if the last acknowledgement had been lost with the connection."""
    last = _beyond_the_window(first)
    first.close()
    second = resumed(broker)
    second.publish(b"t", b"filler", qos=1, identifier=last, dup=True)

    second.expect_puback(last)
    assert len(values(topic)) == _SHOWN


def test_an_identifier_that_may_have_been_reused_loses_nothing(
    broker: ScriptedBroker, first: Connection, topic: str, values: Values
) -> None:
    """The condition of rule 3. The broker got the acknowledgement, gave the lowest free identifier to
    another, identical message, and that message's first PUBLISH was lost with the connection.
    """
    first.publish(b"t", b"21.5", qos=1, identifier=2)
    first.expect_puback(2)
    first.close()
    second = resumed(broker)
    second.publish(b"t", b"21.5", qos=1, identifier=2, dup=True)

    second.expect_puback(2)
    assert values(topic) == [b"21.5", b"21.5"]


def test_identifiers_that_went_back_once_are_not_trusted(
    broker: ScriptedBroker, first: Connection, topic: str, values: Values
) -> None:
    """Rule 3, "and none went back"."""
    last = _beyond_the_window(first)
    count_to(first, last=1)
    count_to(first, last + 1, start=last + 1)
    first.close()
    second = resumed(broker)
    second.publish(b"t", b"filler", qos=1, identifier=last + 1, dup=True)

    second.expect_puback(last + 1)
    assert len(values(topic)) == _SHOWN + 3


def test_the_wrap_of_identifiers_is_no_step_back(
    broker: ScriptedBroker, first: Connection, topic: str, values: Values
) -> None:
    """Rule 3: after 65,535 comes 1."""
    count_to(first, start=65530, last=65535)
    count_to(first, last=3)
    first.close()
    second = resumed(broker)
    second.publish(b"t", b"filler", qos=1, identifier=3, dup=True)

    second.expect_puback(3)
    assert len(values(topic)) == 9


_SHOWN = WINDOW + 3  # messages that are needed


def _beyond_the_window(connection: Connection) -> int:
    """Send identifiers until one is above the window (1,000 on 3.1.1): the broker counts upward."""
    start = 1 if connection.version == 5 else 1000
    last = start + _SHOWN - 1
    count_to(connection, last, start)
    return last


def test_a_large_payload_joins_as_a_small_one_does(
    broker: ScriptedBroker, first: Connection, topic: str, values: Values
) -> None:
    """The ledger keeps only a digest of a settled message; it must distinguish payloads."""
    last = _beyond_the_window(first)
    large, other = b"x" * 100_000, b"x" * 99_999 + b"y"
    for identifier, payload in ((last + 1, large), (last + 2, large)):
        first.publish(b"t", payload, qos=1, identifier=identifier)
        first.expect_puback(identifier)
    first.close()
    second = resumed(broker)
    second.publish(b"t", large, qos=1, identifier=last + 1, dup=True)
    second.publish(b"t", other, qos=1, identifier=last + 2, dup=True)

    second.expect_pubacks([last + 1, last + 2])
    assert values(topic)[_SHOWN:] == [large, large, other]


# -- 4. what never joins ---------------------------------------------------------------------------------


def test_a_new_message_with_an_old_identifier_is_produced(
    broker: ScriptedBroker, first: Connection, held_topic: HeldTopic, values: Values
) -> None:
    """Rule 4: DUP=0 never joins."""
    first.publish(b"held/t", b"21.5", qos=1, identifier=5)
    first.close()
    second = resumed(broker)
    second.publish(b"held/t", b"21.5", qos=1, identifier=5)
    held_topic.release()

    second.expect_puback(5)
    assert values(held_topic.name) == [b"21.5", b"21.5"]


def test_a_resend_with_a_new_identifier_is_produced(
    broker: ScriptedBroker, first: Connection, held_topic: HeldTopic, values: Values
) -> None:
    """Rule 4: a new identifier is a new message."""
    first.publish(b"held/t", b"21.5", qos=1, identifier=5)
    first.close()
    second = resumed(broker)
    second.publish(b"held/t", b"21.5", qos=1, identifier=6, dup=True)
    held_topic.release()

    second.expect_puback(6)
    assert values(held_topic.name) == [b"21.5", b"21.5"]


def test_nothing_joins_what_belongs_to_a_session_that_was_lost(
    broker: ScriptedBroker, first: Connection, held_topic: HeldTopic, values: Values
) -> None:
    """Rule 4: session not present, forget the old epoch."""
    first.publish(b"held/t", b"w", qos=1, identifier=5)
    first.close()
    second = resumed(broker)
    second.publish(b"held/t", b"w", qos=1, identifier=5, dup=True)  # now the bridge knows that they are kept
    second.publish(b"held/t", b"21.5", qos=1, identifier=6)
    second.close()
    third = broker.next_connection()
    third.connack(session_present=False)
    third.publish(b"held/t", b"21.5", qos=1, identifier=6, dup=True)
    held_topic.release()

    third.expect_puback(6)
    assert values(held_topic.name) == [b"w", b"21.5", b"21.5"]


# -- acknowledgements ------------------------------------------------------------------------------------


def test_an_acknowledgement_is_never_sent_on_another_connection(
    broker: ScriptedBroker, new_bridge: NewBridge, new_held_topic: Callable[[], HeldTopic], values: Values
) -> None:
    """Epochs. Kafka confirms the first message when its identifier already belongs to another message."""
    held_topic, later = new_held_topic(), new_held_topic()
    bridge = new_bridge({"held/t": held_topic.name, "later/t": later.name})
    bridge.start()
    first = broker.next_connection()
    first.connack()
    bridge.wait_live()
    first.publish(b"held/t", b"first", qos=1, identifier=5)
    first.close()
    second = resumed(broker)
    second.publish(b"later/t", b"second", qos=1, identifier=5)
    held_topic.release()
    wait_until(lambda: values(held_topic.name) == [b"first"], 15, "Kafka has the first message")
    second.expect_subscribe()
    second.expect_silence(0.5)
    later.release()

    second.expect_puback(5)
    assert values(later.name) == [b"second"]


def test_acknowledgements_leave_in_order_of_arrival(first: Connection, held_topic: HeldTopic) -> None:
    """MQTT 4.6: a message that Kafka confirms early waits for messages that arrived before it."""
    first.publish(b"held/t", b"x", qos=1, identifier=1)
    for identifier in range(2, 8):
        first.publish(b"t", b"x", qos=1, identifier=identifier)
    first.expect_silence(1.0)
    held_topic.release()

    first.expect_pubacks(range(1, 8))
