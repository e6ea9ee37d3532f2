"""One test for each rule of the ledger; each fails if its rule is removed."""

from collections.abc import Sequence

import pytest

from bridge.delivery import ledger as ledger_module
from bridge.delivery.ledger import UNKNOWN_WINDOW, Ledger
from bridge.message import DUP, Message, OpenIdentifier, Release, State

WINDOW = 3


class Broker:
    """Sends to a ledger and receives its acknowledgements."""

    def __init__(
        self,
        window_known: bool = True,
        session_present: bool = False,
        restored: Sequence[OpenIdentifier] = (),
    ) -> None:
        self.ledger = Ledger(WINDOW)
        self.ledger.restore(restored)
        self._window_known = window_known
        self.ledger.connected(session_present, window_known)

    def send(
        self,
        number: int,
        *,
        dup: bool = False,
        qos: int = 1,
        payload: bytes = b"v",
        topic: bytes = b"t",
    ) -> Message | None:
        """Send a PUBLISH. Returns the message if the bridge must produce it."""
        message = Message.of(topic, qos << 1 | (DUP if dup else 0), number, None, payload)
        return message if self.ledger.receive([message]) else None

    def release(self, number: int) -> bool:
        """Send a PUBREL. Returns whether its identifier was in use."""
        released = Release(number)
        assert self.ledger.receive([released]) == [released]
        return released.known

    def new(self, number: int, qos: int = 1, payload: bytes = b"v") -> Message:
        message = self.send(number, qos=qos, payload=payload)
        assert message
        return message

    def acknowledged(self, handed_over: bool = True) -> list[int]:
        """The identifiers that the ledger acknowledges now."""
        ready = self.ledger.take_settled()
        if handed_over:
            self.ledger.handed_over(len(ready))
        return [message.packet_id for message in ready]

    def delivered(self, message: Message, handed_over: bool = True) -> None:
        self.ledger.settle(message)
        self.acknowledged(handed_over)

    def reconnect(self, session_present: bool = True) -> None:
        self.ledger.disconnected()
        self.ledger.connected(session_present, window_known=self._window_known)

    def counts_upward(self) -> None:
        """Send identifiers up to above the window, all acknowledged."""
        for number in range(1, WINDOW + 2):
            self.delivered(self.new(number, payload=b"%d" % number))


@pytest.fixture
def broker() -> Broker:
    return Broker()


# -- acknowledging ---------------------------------------------------------------------------------------


def test_a_message_is_acknowledged_only_when_it_is_settled(broker: Broker) -> None:
    message = broker.new(1)
    assert broker.acknowledged() == []
    assert not broker.ledger.has_settled
    broker.ledger.settle(message)
    assert broker.ledger.has_settled
    assert broker.acknowledged() == [1]
    assert message.state == State.ACKED


def test_acknowledgements_leave_in_order_of_arrival(broker: Broker) -> None:
    first, second, third = (broker.new(number) for number in (7, 5, 9))
    broker.ledger.settle(third)
    broker.ledger.settle(second)
    assert broker.acknowledged() == []
    broker.ledger.settle(first)
    assert broker.acknowledged() == [7, 5, 9]


def test_one_that_is_settled_twice_holds_up_none_of_those_that_are_settled_with_it(broker: Broker) -> None:
    first, second, third = (broker.new(number) for number in (1, 2, 3))
    broker.ledger.settle(second)  # for example by the disk
    broker.ledger.settle(first, second, second, third)
    assert broker.acknowledged() == [1, 2, 3]


def test_an_acknowledgement_is_offered_once(broker: Broker) -> None:
    message = broker.new(1)
    broker.ledger.settle(message)
    broker.ledger.settle(message)
    assert broker.acknowledged() == [1]
    assert broker.acknowledged() == []


def test_what_is_offered_in_two_goes_is_handed_over_in_one(broker: Broker) -> None:
    first, second = broker.new(1), broker.new(2)
    broker.delivered(first, handed_over=False)
    broker.delivered(second, handed_over=False)
    broker.ledger.handed_over(2)
    assert (first.state, second.state) == (State.ACKED, State.ACKED)


def test_a_late_second_report_changes_nothing(broker: Broker) -> None:
    message = broker.new(1)
    broker.delivered(message)
    broker.ledger.settle(message)
    assert message.state == State.ACKED


def test_what_came_on_an_earlier_connection_is_not_acknowledged(broker: Broker) -> None:
    message = broker.new(1)
    broker.reconnect()
    broker.ledger.settle(message)
    assert broker.acknowledged() == []


def test_a_new_connection_waits_for_nothing_of_the_old_one(broker: Broker) -> None:
    broker.new(1)
    broker.ledger.settle(broker.new(2))
    broker.reconnect()
    message = broker.new(3)
    broker.ledger.settle(message)
    assert broker.acknowledged() == [3]


def test_what_comes_after_the_end_of_a_connection_shifts_no_later_acknowledgement(broker: Broker) -> None:
    broker.ledger.disconnected()
    late = broker.new(1)
    broker.ledger.settle(late)
    broker.acknowledged(handed_over=False)
    broker.ledger.connected(session_present=True, window_known=True)
    message = broker.new(2)
    broker.delivered(message)
    assert (late.state, message.state) == (State.SETTLED, State.ACKED)


def test_what_comes_after_the_end_of_a_connection_holds_back_nothing(broker: Broker) -> None:
    broker.ledger.disconnected()
    broker.new(1)
    broker.ledger.connected(session_present=True, window_known=True)
    broker.ledger.settle(broker.new(2))
    assert broker.acknowledged() == [2]


def test_between_two_connections_nothing_waits_to_be_acknowledged(broker: Broker) -> None:
    broker.delivered(broker.new(1), handed_over=False)
    broker.ledger.settle(broker.new(2))
    broker.ledger.disconnected()
    assert broker.ledger.unacknowledged == 0
    assert not broker.ledger.has_settled


def test_unacknowledged_is_what_the_kernel_has_not_taken(broker: Broker) -> None:
    message = broker.new(1)
    broker.new(2)
    broker.ledger.settle(message)
    broker.acknowledged(handed_over=False)
    assert broker.ledger.unacknowledged == 2
    broker.ledger.handed_over(1)
    assert broker.ledger.unacknowledged == 1


# -- rule 1: on the same connection ----------------------------------------------------------------------


def test_rule_1_a_copy_on_the_same_connection_joins(broker: Broker) -> None:
    message = broker.new(1)
    assert broker.send(1, dup=True) is None
    broker.ledger.settle(message)
    assert broker.acknowledged() == [1]


def test_rule_1_a_copy_of_what_was_acknowledged_is_not_produced_again(broker: Broker) -> None:
    broker.delivered(broker.new(1))
    assert broker.send(1, dup=True) is None


def test_rule_1_it_is_acknowledged_again_where_the_broker_counts_upward(broker: Broker) -> None:
    broker.counts_upward()
    assert broker.send(WINDOW + 1, dup=True, payload=b"%d" % (WINDOW + 1)) is None
    assert broker.acknowledged() == [WINDOW + 1]


def test_rule_1_two_copies_at_once_are_acknowledged_once(broker: Broker) -> None:
    broker.counts_upward()
    for _ in range(2):
        broker.send(WINDOW + 1, dup=True, payload=b"%d" % (WINDOW + 1))
    assert broker.acknowledged() == [WINDOW + 1]


@pytest.mark.parametrize("qos", [1, 2])
def test_rule_1_a_copy_is_not_acknowledged_before_the_first_is_settled(broker: Broker, qos: int) -> None:
    broker.counts_upward()
    message = broker.new(WINDOW + 2, qos=qos)
    assert broker.send(WINDOW + 2, dup=True, qos=qos) is None
    assert broker.acknowledged() == []
    broker.ledger.settle(message)
    assert broker.acknowledged() == [WINDOW + 2]


def test_rule_1_it_is_not_acknowledged_again_where_that_could_hit_another_message(broker: Broker) -> None:
    broker.delivered(broker.new(1))
    broker.send(1, dup=True)
    assert broker.acknowledged() == []


def test_rule_1_one_resend_after_another_under_the_same_identifier_is_produced(broker: Broker) -> None:
    broker.reconnect()
    resend = broker.send(1, dup=True)
    assert resend
    broker.delivered(resend)
    assert broker.send(1, dup=True)


def test_rule_1_that_is_not_so_where_the_broker_keeps_identifiers(broker: Broker) -> None:
    broker.reconnect()
    resend = broker.send(2, dup=True)
    assert resend
    broker.delivered(resend)
    assert broker.send(2, dup=True) is None


# -- rule 2: from an earlier connection, acknowledgement not handed over ---------------------------------


def test_rule_2_a_copy_joins_where_the_broker_keeps_identifiers(broker: Broker) -> None:
    first, second = broker.new(1, payload=b"1"), broker.new(2, payload=b"2")
    broker.delivered(first)
    broker.reconnect()
    assert broker.send(2, dup=True, payload=b"2") is None
    broker.ledger.settle(second)
    assert broker.acknowledged() == [2]


def test_rule_2_a_copy_is_produced_where_the_broker_numbers_anew(broker: Broker) -> None:
    broker.new(1)
    broker.reconnect()
    assert broker.send(1, dup=True)


def test_rule_2_only_what_a_resumed_session_begins_with_shows_it(broker: Broker) -> None:
    broker.new(1)
    broker.new(2)
    broker.reconnect()
    assert broker.send(1, dup=True)
    assert broker.send(2, dup=True)


def test_rule_2_once_seen_to_keep_identifiers_it_is_believed_to(broker: Broker) -> None:
    broker.new(1)
    broker.new(2)
    broker.reconnect()
    broker.send(2, dup=True)
    broker.reconnect()
    assert broker.send(1, dup=True) is None


def test_rule_2_a_pubrel_shows_it_too(broker: Broker) -> None:
    broker.new(1)
    broker.reconnect()
    broker.release(5)
    assert broker.send(1, dup=True) is None


def test_rule_2_what_a_new_session_begins_with_shows_nothing(broker: Broker) -> None:
    broker.reconnect(session_present=False)
    broker.new(5)
    assert not broker.ledger.keeps_identifiers


def test_rule_2_the_next_session_may_be_another_brokers(broker: Broker) -> None:
    broker.reconnect()
    broker.delivered(broker.new(5))
    assert broker.ledger.keeps_identifiers
    broker.reconnect(session_present=False)
    broker.new(1)
    broker.reconnect()
    assert broker.send(1, dup=True)


def test_rule_2_settled_before_the_copy_came_it_is_acknowledged_at_once(broker: Broker) -> None:
    broker.new(1)
    message = broker.new(2)
    broker.reconnect()
    broker.ledger.settle(message)
    broker.send(2, dup=True)
    assert broker.acknowledged() == [2]


# -- rule 3: from an earlier connection, acknowledgement handed over -------------------------------------


def test_rule_3_a_copy_joins_where_the_broker_counts_upward(broker: Broker) -> None:
    broker.counts_upward()
    broker.reconnect()
    assert broker.send(WINDOW + 1, dup=True, payload=b"%d" % (WINDOW + 1)) is None
    assert broker.acknowledged() == [WINDOW + 1]


def test_rule_3_a_copy_is_produced_where_identifiers_stay_within_the_window(broker: Broker) -> None:
    for number in range(1, WINDOW + 1):
        broker.delivered(broker.new(number))
    broker.reconnect()
    assert broker.send(WINDOW, dup=True)


@pytest.mark.parametrize("number", [2, WINDOW + 1])
def test_rule_3_a_copy_is_produced_where_identifiers_went_back(broker: Broker, number: int) -> None:
    broker.counts_upward()
    broker.delivered(broker.new(number, payload=b"again"))
    assert not broker.ledger.counts_upward
    broker.reconnect()
    assert broker.send(WINDOW, dup=True, payload=b"%d" % WINDOW)


def test_rule_3_a_step_back_within_one_read_is_seen(broker: Broker) -> None:
    numbers = [*range(1, WINDOW + 2), 1]
    broker.ledger.receive([Message.of(b"t", 2, number, None, b"") for number in numbers])
    broker.new(WINDOW + 2)
    assert not broker.ledger.counts_upward


def test_rule_3_a_copy_that_is_not_known_says_nothing_about_how_the_broker_counts(broker: Broker) -> None:
    broker.counts_upward()
    assert broker.send(WINDOW + 2, dup=True)
    broker.new(WINDOW + 2, payload=b"new")
    assert broker.ledger.counts_upward


def test_rule_3_one_follows_65535_and_that_is_no_step_back(broker: Broker) -> None:
    for number in (65_534, 65_535, 1, 2):
        broker.delivered(broker.new(number))
    assert broker.ledger.counts_upward


def test_rule_3_what_was_acknowledged_again_has_one_place_in_the_window(broker: Broker) -> None:
    broker.counts_upward()
    broker.send(WINDOW + 1, dup=True, payload=b"%d" % (WINDOW + 1))
    broker.acknowledged()
    broker.reconnect()
    assert broker.send(2, dup=True, payload=b"2") is None


def test_rule_3_what_waits_to_be_acknowledged_again_does_not_leave_the_window(broker: Broker) -> None:
    broker.counts_upward()
    message = broker.new(WINDOW + 2)
    broker.send(2, dup=True, payload=b"2")
    broker.delivered(message, handed_over=False)
    broker.ledger.handed_over(1)
    broker.reconnect()
    assert broker.send(2, dup=True, payload=b"2") is None


def test_rule_3_what_leaves_the_window_takes_no_younger_one_of_its_identifier_along(broker: Broker) -> None:
    for number in (1, 5, 1, 6):
        broker.delivered(broker.new(number))
    assert broker.send(1, dup=True) is None


def test_rule_3_a_broker_that_has_more_in_flight_than_its_window_shows_nothing_by_that(
    broker: Broker,
) -> None:
    messages = [broker.new(number) for number in range(1, 2 * WINDOW + 1)]
    assert broker.acknowledged() == []
    for message in messages:
        broker.delivered(message)
    assert not broker.ledger.counts_upward


@pytest.mark.parametrize("went_back", [False, True])
def test_rule_3_each_session_is_judged_by_itself(broker: Broker, went_back: bool) -> None:
    broker.counts_upward()
    if went_back:
        broker.delivered(broker.new(2, payload=b"again"))
    broker.reconnect(session_present=False)
    assert not broker.ledger.counts_upward
    broker.counts_upward()
    assert broker.ledger.counts_upward


def test_rule_3_what_a_broker_has_in_flight_beyond_its_window_joins(broker: Broker) -> None:
    """Mosquitto does so: 106 with a Receive Maximum of 100."""
    broker.counts_upward()
    for number in range(WINDOW + 2, 2 * WINDOW + 3):
        broker.delivered(broker.new(number, payload=b"%d" % number))
    broker.reconnect()
    for number in range(WINDOW, 2 * WINDOW + 3):
        assert broker.send(number, dup=True, payload=b"%d" % number) is None


def test_rule_3_what_was_acknowledged_two_windows_ago_is_forgotten(broker: Broker) -> None:
    broker.counts_upward()
    for number in range(WINDOW + 2, 2 * WINDOW + 2):
        broker.delivered(broker.new(number))
    broker.reconnect()
    broker.send(2 * WINDOW + 1, dup=True)  # shows that the broker keeps identifiers
    assert broker.send(1, dup=True, payload=b"1")


def test_rule_3_without_receive_maximum_a_constant_stands_for_the_window() -> None:
    broker = Broker(window_known=False)
    broker.delivered(broker.new(UNKNOWN_WINDOW))
    assert not broker.ledger.counts_upward
    broker.delivered(broker.new(UNKNOWN_WINDOW + 1))
    assert broker.ledger.counts_upward


# -- rule 4: in doubt, produce ----------------------------------------------------------------------------


def test_rule_4_dup_0_never_joins(broker: Broker) -> None:
    broker.new(1)
    assert broker.send(1)


def test_rule_4_it_takes_the_place_of_what_had_its_identifier(broker: Broker) -> None:
    old, new = broker.new(1, payload=b"old"), broker.new(1, payload=b"new")
    broker.ledger.settle(old)
    assert broker.acknowledged() == []
    broker.ledger.settle(new)
    assert broker.acknowledged() == [1]


def test_rule_4_it_does_so_when_the_next_identifier_is_taken(broker: Broker) -> None:
    broker.delivered(broker.new(1))
    copy = broker.send(2, dup=True)
    assert copy
    new = broker.new(2, payload=b"new")
    broker.ledger.settle(copy)
    assert broker.acknowledged() == []
    broker.ledger.settle(new)
    assert broker.acknowledged() == [2]


@pytest.mark.parametrize("other", [{"payload": b"w"}, {"topic": b"u"}, {"qos": 2}], ids=str)
def test_rule_4_what_differs_does_not_join(broker: Broker, other: dict[str, int]) -> None:
    broker.new(1)
    assert broker.send(1, dup=True, **other)  # type: ignore[arg-type]


def test_rule_4_nothing_joins_what_a_lost_session_had(broker: Broker) -> None:
    broker.new(1)
    broker.new(2)
    broker.reconnect()
    broker.send(2, dup=True)
    broker.reconnect(session_present=False)
    assert broker.send(1, dup=True)


def test_rule_4_nothing_joins_what_was_before_another_client_had_the_session(broker: Broker) -> None:
    broker.new(1)
    broker.new(2)
    broker.ledger.forget_session()
    broker.reconnect()
    assert broker.send(2, dup=True)


# -- QoS 2 ------------------------------------------------------------------------------------------------


def test_qos_2_joins_until_its_pubrel(broker: Broker) -> None:
    message = broker.new(2, qos=2)
    broker.delivered(message)
    assert message.state == State.ACKED
    broker.reconnect()
    assert broker.send(2, dup=True, qos=2) is None
    assert broker.acknowledged() == [2]


def test_qos_2_after_its_pubrel_the_identifier_is_free(broker: Broker) -> None:
    broker.delivered(broker.new(2, qos=2))
    assert broker.release(2)
    assert not broker.release(2)
    assert broker.send(2, dup=True, qos=2)


def test_qos_2_is_remembered_beyond_the_window(broker: Broker) -> None:
    broker.delivered(broker.new(2, qos=2))
    for number in range(3, 3 * WINDOW):
        broker.delivered(broker.new(number))
    assert broker.send(2, dup=True, qos=2) is None


def test_qos_2_a_pubrec_that_waits_does_not_leave_after_its_pubrel(broker: Broker) -> None:
    """After PUBREL the broker may have given the identifier to another message."""
    broker.delivered(broker.new(1, qos=2))
    message = broker.new(2, qos=2)
    broker.send(1, dup=True, qos=2)
    broker.release(1)
    broker.ledger.settle(message)
    assert broker.acknowledged() == [2]


def test_pubrel_of_a_qos_1_message_releases_nothing(broker: Broker) -> None:
    message = broker.new(1)
    assert not broker.release(1)
    broker.ledger.settle(message)
    assert broker.acknowledged() == [1]


# -- QoS 2 over a stop of the bridge ----------------------------------------------------------------------


def started_again(stopped: Broker, session_present: bool = True) -> Broker:
    """The same session with a bridge that was stopped cleanly and started again."""
    return Broker(session_present=session_present, restored=stopped.ledger.open_identifiers())


def open_identifiers(broker: Broker) -> list[int]:
    return [each.packet_id for each in broker.ledger.open_identifiers()]


def test_open_is_what_is_settled_and_waits_for_its_pubrel_the_oldest_first(broker: Broker) -> None:
    for number in (9, 2, 5):
        broker.delivered(broker.new(number, qos=2))
    broker.delivered(broker.new(6, qos=2), handed_over=False)
    broker.release(2)
    assert open_identifiers(broker) == [9, 5, 6]


def test_what_is_pending_and_what_has_qos_1_is_not_open(broker: Broker) -> None:
    broker.delivered(broker.new(1, qos=1))
    broker.new(2, qos=2)
    assert open_identifiers(broker) == []


def test_what_is_settled_after_the_connection_has_ended_is_open_too(broker: Broker) -> None:
    message = broker.new(2, qos=2)
    broker.ledger.disconnected()
    broker.ledger.settle(message)
    assert open_identifiers(broker) == [2]


def test_what_a_lost_session_had_is_not_open(broker: Broker) -> None:
    broker.delivered(broker.new(2, qos=2))
    broker.reconnect(session_present=False)
    assert open_identifiers(broker) == []


@pytest.mark.parametrize("payload", [b"", b"v", b"x" * 100_000], ids=len)
def test_after_a_clean_stop_a_copy_joins_and_gets_its_pubrec(broker: Broker, payload: bytes) -> None:
    broker.delivered(broker.new(2, qos=2, payload=payload))
    started = started_again(broker)
    assert started.send(2, dup=True, qos=2, payload=payload) is None
    assert started.acknowledged() == [2]
    assert started.send(2, dup=True, qos=2, payload=payload) is None
    assert started.acknowledged() == [2]


def test_after_a_clean_stop_a_copy_is_produced_where_the_broker_numbers_anew(broker: Broker) -> None:
    broker.delivered(broker.new(1, qos=2))
    assert started_again(broker).send(1, dup=True, qos=2)


def test_after_a_clean_stop_pubrel_frees_the_identifier(broker: Broker) -> None:
    broker.delivered(broker.new(2, qos=2))
    started = started_again(broker)
    assert started.release(2)
    assert not started.release(2)
    assert started.send(2, dup=True, qos=2)


def test_after_a_clean_stop_nothing_joins_if_the_session_is_gone(broker: Broker) -> None:
    broker.delivered(broker.new(2, qos=2))
    started = started_again(broker, session_present=False)
    assert started.send(2, dup=True, qos=2)
    assert not started_again(broker, session_present=False).release(2)


@pytest.mark.parametrize("other", [{"payload": b"w"}, {"topic": b"u"}, {"qos": 1}, {"dup": False}], ids=str)
def test_after_a_clean_stop_what_differs_does_not_join(broker: Broker, other: dict[str, int]) -> None:
    broker.delivered(broker.new(2, qos=2))
    assert started_again(broker).send(2, **{"dup": True, "qos": 2, **other})  # type: ignore[arg-type]


def test_what_is_still_open_at_the_next_clean_stop_is_told_again(broker: Broker) -> None:
    for number in (2, 3):
        broker.delivered(broker.new(number, qos=2))
    started = started_again(broker)
    started.release(2)
    assert started.ledger.open_identifiers() == broker.ledger.open_identifiers()[1:]


# -- memory -----------------------------------------------------------------------------------------------


def test_a_large_payload_is_kept_as_its_digest_once_it_is_acknowledged(broker: Broker) -> None:
    payload = b"x" * 100_000
    message = broker.new(2, qos=2, payload=payload)
    broker.delivered(message)
    assert len(message.payload) < 100
    assert broker.send(2, dup=True, qos=2, payload=payload) is None
    assert broker.send(2, dup=True, qos=2, payload=b"y" * 100_000)


def test_a_payload_that_is_still_to_be_produced_is_kept_whole(broker: Broker) -> None:
    payload = b"x" * 100_000
    message = broker.new(2, payload=payload)
    broker.reconnect()
    assert message.payload == payload
    broker.ledger.settle(message)
    assert len(message.payload) < 100


def test_what_is_remembered_is_bounded_by_the_window(broker: Broker) -> None:
    for number in range(1, 1000):
        broker.delivered(broker.new(number))
    assert len(broker.ledger._known) <= 2 * WINDOW


def test_a_large_payload_is_not_kept_for_a_connection_that_has_ended(broker: Broker) -> None:
    message = broker.new(2, payload=b"x" * 100_000)
    broker.delivered(message, handed_over=False)
    broker.ledger.disconnected()
    assert len(message.payload) < 100


def test_what_a_resumed_session_may_send_again_is_remembered_up_to_a_bound_the_newest_first(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_REMEMBERED", 2)
    for number in (2, 3, 4):
        broker.new(number)
    broker.new(2, payload=b"newest")
    broker.reconnect()
    assert broker.send(2, dup=True, payload=b"newest") is None
    assert broker.send(4, dup=True) is None
    assert broker.send(3, dup=True)


def test_what_was_acknowledged_again_is_forgotten_as_such(broker: Broker) -> None:
    broker.counts_upward()
    broker.send(WINDOW + 1, dup=True, payload=b"%d" % (WINDOW + 1))
    broker.acknowledged()
    assert not broker.ledger._again


def test_what_was_to_be_acknowledged_again_and_was_replaced_is_forgotten(broker: Broker) -> None:
    broker.counts_upward()
    broker.send(WINDOW + 1, dup=True, payload=b"%d" % (WINDOW + 1))
    broker.new(WINDOW + 1)
    broker.reconnect()
    assert not broker.ledger._again


def test_what_was_learned_with_a_larger_window_proves_nothing_with_a_smaller_one() -> None:
    """A broker that takes the lowest free identifier exceeds the smaller window, and did not count upward."""
    before = Ledger(1000)
    before.connected(session_present=False, window_known=True)
    before.receive([Message.of(b"t", 2, number, None, b"v") for number in range(1, 301)])
    after = Ledger(100)
    after.recall([], before.facts)
    after.connected(session_present=True, window_known=True)
    assert not after.counts_upward
    same = Ledger(1000)
    same.recall([], before.facts._replace(last_id=1001, highest_id=1001))
    same.connected(session_present=True, window_known=True)
    assert same.counts_upward


def test_what_was_learned_while_the_window_was_unknown_proves_nothing_once_it_is_known() -> None:
    """A broker that takes the lowest free identifier exceeds the smaller window, and did not count upward.

    MQTT 3.1.1 tells no window, so the first connection assumes a large one.
    """
    ledger = Ledger(100)
    ledger.connected(session_present=False, window_known=False)
    ledger.receive([Message.of(b"t", 2, number, None, b"v") for number in range(1, 301)])
    ledger.connected(session_present=True, window_known=True)
    assert not ledger.counts_upward
    ledger.receive([Message.of(b"t", 2, number, None, b"v") for number in range(301, 403)])
    assert ledger.counts_upward


def test_as_many_messages_are_known_on_a_new_connection_as_two_windows_hold() -> None:
    window = 10_000
    ledger = Ledger(window)
    ledger.connected(session_present=False, window_known=True)
    ledger.keeps_identifiers = True
    ledger.receive([Message.of(b"t", 2, number, None, b"v") for number in range(1, window + 1)])
    ledger.disconnected()
    ledger.connected(session_present=True, window_known=True)
    assert ledger.receive([Message.of(b"t", 2 | DUP, number, None, b"v") for number in (1, 2, 3)]) == []


@pytest.mark.parametrize("window", [100, 21_845, 30_000, 65_535])
def test_no_remembered_message_has_an_identifier_that_a_new_one_may_have(window: int) -> None:
    ledger = Ledger(window)
    ledger.connected(session_present=False, window_known=True)
    assert ledger.remembered + window <= 65_535
