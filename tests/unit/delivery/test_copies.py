"""Copies of one message for several routes that overlap: which is skipped, and when that is known."""

import pytest

from bridge.message import DUP, Message, Properties
from bridge.settings import RouteSettings
from tests.unit.delivery.world import World

KITCHEN = "house/kitchen/+"
TEMPERATURE = "house/+/temp"


class Copies(World):
    """Messages of house/kitchen/temp, of which the first route's copy is produced."""

    def __init__(self) -> None:
        super().__init__(
            protocol="5",
            routes=[
                RouteSettings(name="kitchen", filter=KITCHEN, topic="t"),
                RouteSettings(name="temperature", filter=TEMPERATURE, topic="t"),
            ],
        )
        self.ask()
        self.receive_copy_of(KITCHEN)  # its lane asks for the topic's limit
        self.answer("t")
        self.kafka.deliver()
        self.turn()
        self.kafka.produced.clear()
        self.session.acknowledged.clear()

    def ask(self, *refused: str) -> None:
        """As the session does before SUBSCRIBE, and again after a SUBACK that refused these."""
        self.identifiers = {each.filter: each.identifier for each in self.pipeline.subscriptions(refused)}

    def connect(self, session_present: bool = True) -> None:
        self.pipeline.disconnected()
        self.turn()
        self.pipeline.connected(session_present, mqtt5=True)

    def receive_copy_of(self, name: str, payload: bytes = b"v") -> Message:
        return self.receive(
            b"house/kitchen/temp",
            payload,
            properties=Properties(subscription_ids=(self.identifiers[name] or 0,)),
        )

    def confirm(self) -> None:
        self.turn()
        self.kafka.deliver()
        self.turn()


@pytest.fixture
def copies() -> Copies:
    return Copies()


def test_a_copy_is_neither_skipped_nor_acknowledged_before_the_broker_has_answered_subscribe(
    copies: Copies,
) -> None:
    copies.connect()
    copy = copies.receive_copy_of(TEMPERATURE)
    copies.confirm()
    assert copies.session.acknowledged == []
    assert copies.counts.in_flight == 1
    copies.pipeline.subscribed()
    assert copies.pipeline.has_work
    copies.confirm()
    assert copies.session.acknowledged == [copy.packet_id]
    assert copies.produced == []
    assert copies.counts.skipped == 1


def test_a_copy_is_produced_where_the_subscription_that_should_bring_it_is_refused(copies: Copies) -> None:
    copies.connect()
    first = copies.receive_copy_of(TEMPERATURE, b"1")
    copies.ask(KITCHEN)
    copies.pipeline.subscribed()
    second = copies.receive(b"house/kitchen/temp", b"2")
    copies.confirm()
    assert copies.produced == [first.packet_id, second.packet_id], "in the order in which they came"
    assert copies.session.acknowledged == copies.produced


def test_where_the_connection_ends_before_the_answer_the_next_answer_decides(copies: Copies) -> None:
    """The broker resends both copies: were the undecided one produced meanwhile, Kafka would have both."""
    copies.connect()
    sent = [copies.receive_copy_of(KITCHEN), copies.receive_copy_of(TEMPERATURE)]
    copies.connect()
    for each in sent:
        copies.receive(each.topic, each.payload, number=each.packet_id, flags=DUP, properties=each.properties)
    copies.pipeline.subscribed()
    copies.confirm()
    assert copies.produced == [sent[0].packet_id]
    assert sorted(copies.session.acknowledged) == sorted(each.packet_id for each in sent)
    assert copies.pipeline.is_empty


def test_where_the_session_is_gone_an_undecided_copy_is_produced(copies: Copies) -> None:
    copies.connect()
    copy = copies.receive_copy_of(TEMPERATURE)
    copies.connect(session_present=False)
    copies.confirm()
    assert copies.produced == [copy.packet_id]
    assert copies.pipeline.is_empty


def test_an_undecided_copy_goes_to_disk_behind_what_has_gone_there_meanwhile(copies: Copies) -> None:
    """Rows are read in the order of their numbers, up to the last one written."""
    copies.connect()
    undecided = copies.receive_copy_of(TEMPERATURE)
    newer = copies.receive_copy_of(KITCHEN)
    copies.connect(session_present=False)
    copies.confirm()
    assert undecided.sequence > newer.sequence


def test_a_stop_does_not_wait_for_an_answer(copies: Copies) -> None:
    copies.connect()
    copy = copies.receive_copy_of(TEMPERATURE)
    copies.pipeline.stop_reading()
    copies.confirm()
    assert copies.produced == copies.session.acknowledged == [copy.packet_id]


def test_once_subscribed_a_copy_is_skipped_at_once(copies: Copies) -> None:
    copies.connect()
    copies.pipeline.subscribed()
    copies.receive_copy_of(TEMPERATURE)
    assert copies.counts.skipped == 1
