"""Which SUBSCRIBE and UNSUBSCRIBE the bridge sends, and what the subscription record then contains."""

from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.errors import MalformedPacket
from bridge.mqtt.broker_limits import BrokerLimits
from bridge.mqtt.subscription_record import SubscriptionRecord
from bridge.mqtt.subscriptions import Subscriptions
from bridge.routing.topics import Subscription

NOT_AUTHORISED = 0x87


class Session:
    """Records what the bridge sends, and plays the broker's answers."""

    def __init__(self, directory: Path | None, *wanted: Subscription | str) -> None:
        self.wanted = [each if isinstance(each, Subscription) else sub(each) for each in wanted]
        self.covered: list[Subscription] = []  # wanted only while the first of `wanted` is refused
        self.record = SubscriptionRecord(directory, "bridge at broker:1884")
        self.subscriptions = Subscriptions(self._want, self.record)
        self.sent: list[tuple[str, list[str]]] = []
        self.identifiers: dict[int, int | None] = {}  # by the number of the SUBSCRIBE

    def _want(self, refused: Collection[str]) -> Sequence[Subscription]:
        left = [each for each in self.wanted if each.filter not in refused]
        return left if len(left) == len(self.wanted) else left + self.covered

    def send_subscribe(self, subscriptions: list[Subscription]) -> int:
        self.sent.append(("subscribe", [each.filter for each in subscriptions]))
        self.identifiers[len(self.sent)] = subscriptions[0].identifier
        return len(self.sent)

    def send_unsubscribe(self, filters: list[str]) -> int:
        self.sent.append(("unsubscribe", filters))
        return len(self.sent)

    def connect(
        self,
        session_present: bool,
        *,
        mqtt5: bool = False,
        doubt: str = "",
        limits: BrokerLimits | None = None,
    ) -> None:
        self.sent.clear()
        self.subscriptions.connected(session_present, mqtt5, doubt, limits or BrokerLimits())
        self.subscriptions.apply(self)

    def grant(self, number: int, *reasons: int) -> None:
        self.subscriptions.granted(self, number, list(reasons) or [1] * len(self.sent[number - 1][1]))


def sub(name: str, qos: int = 1, identifier: int | None = None) -> Subscription:
    return Subscription(name, qos, identifier)


def live(directory: Path, *wanted: str) -> Session:
    """Return a session whose filters the broker has granted."""
    session = Session(directory, *wanted)
    session.connect(session_present=False)
    session.grant(1)
    return session


def test_a_new_session_asks_for_all_in_one_subscribe(tmp_path: Path) -> None:
    session = Session(tmp_path, "a", "b")
    session.connect(session_present=False)
    assert session.sent == [("subscribe", ["a", "b"])]
    assert not session.subscriptions.settled
    session.grant(1)
    assert session.subscriptions.settled
    assert session.subscriptions.any_granted


OVERLAPPING = sub("a", identifier=1), sub("b", identifier=2), sub("c")


def test_filters_that_overlap_get_identifiers_once_all_are_granted(tmp_path: Path) -> None:
    """A copy with an identifier may be skipped, for another subscription brings it: then that must exist."""
    session = Session(tmp_path, *OVERLAPPING)
    session.connect(session_present=False, mqtt5=True)
    assert session.sent == [("subscribe", ["a", "b", "c"])]
    assert session.identifiers[1] is None
    session.grant(1)
    assert session.sent[1:] == [("subscribe", ["a"]), ("subscribe", ["b"])]
    assert (session.identifiers[2], session.identifiers[3]) == (1, 2)
    session.grant(2)
    assert not session.subscriptions.settled
    session.grant(3)
    assert session.subscriptions.settled
    assert session.record.applied == {"a": (1, 1), "b": (1, 2), "c": (1, 0)}


def test_a_filter_that_is_refused_makes_no_identifier(tmp_path: Path) -> None:
    session = Session(tmp_path, *OVERLAPPING)
    session.connect(session_present=False, mqtt5=True)
    session.wanted[1] = sub("b")  # as routing says where "a" is refused
    session.grant(1, NOT_AUTHORISED, 1, 1)
    assert session.sent[1:] == []
    assert session.subscriptions.settled


@pytest.mark.parametrize(("doubt", "asked"), [("", ["c"]), ("a rival", ["a", "b", "c"])])
def test_a_resumed_session_that_overlaps_has_its_identifiers_unless_in_doubt(
    tmp_path: Path, doubt: str, asked: list[str]
) -> None:
    session = Session(tmp_path, *OVERLAPPING)
    session.connect(session_present=False, mqtt5=True)
    for number in (1, 2, 3):
        session.grant(number)
    session.connect(session_present=True, mqtt5=True, doubt=doubt)
    assert session.sent[0] == ("subscribe", asked)
    assert session.identifiers[1] is None
    assert len(session.sent) == (1 if doubt else 3)


def test_a_filter_that_comes_to_overlap_is_granted_before_identifiers_are_given(tmp_path: Path) -> None:
    session = Session(tmp_path, "a", "b")
    session.connect(session_present=False, mqtt5=True)
    session.grant(1)
    session.wanted = [sub("a", identifier=1), sub("b"), sub("new", identifier=3)]
    session.connect(session_present=True, mqtt5=True)
    assert session.sent == [("subscribe", ["b", "new"])]
    session.grant(1)
    assert session.sent[1:] == [("subscribe", ["a"]), ("subscribe", ["new"])]


def test_without_identifiers_at_the_broker_overlapping_filters_are_subscribed_all_the_same(
    tmp_path: Path,
) -> None:
    session = Session(tmp_path, *OVERLAPPING)
    session.connect(session_present=False, mqtt5=True, limits=BrokerLimits(subscription_identifiers=False))
    session.grant(1)
    assert session.sent == [("subscribe", ["a", "b", "c"])]
    assert session.subscriptions.settled


@pytest.mark.parametrize(
    ("limits", "forbidden"),
    [
        (BrokerLimits(wildcards=False), ["a/#", "b/+", "$share/g/+"]),
        (BrokerLimits(shared_subscriptions=False), ["$share/g/c", "$share/g/+"]),
    ],
)
def test_what_connack_forbids_is_not_asked_for_and_said(
    tmp_path: Path, limits: BrokerLimits, forbidden: list[str]
) -> None:
    """The broker would end the connection, again and again (MQTT 5, 3.2.2.3.11 and 3.2.2.3.13)."""
    names = ["a/#", "b/+", "c", "$share/g/c", "$share/g/+"]
    session = Session(tmp_path, *names)
    with capture_logs() as lines:
        session.connect(session_present=False, mqtt5=True, limits=limits)
    assert session.sent == [("subscribe", [name for name in names if name not in forbidden])]
    assert [line["filter"] for line in lines if line["event"] == "mqtt.subscribe_refused"] == forbidden
    session.grant(1)
    assert session.subscriptions.some_refused
    session.subscriptions.ask_again(session)
    assert len(session.sent) == 1


def test_on_mqtt_5_a_resumed_session_is_asked_for_all_whatever_is_on_record(tmp_path: Path) -> None:
    """Another client may have unsubscribed it since; Retain Handling 1 brings no retained message again."""
    live(tmp_path, "a")
    session = Session(tmp_path, "a")
    session.connect(session_present=True, mqtt5=True)
    assert session.sent == [("subscribe", ["a"])]
    assert not session.subscriptions.any_granted
    session.grant(1)
    assert session.subscriptions.any_granted


def test_a_subscribe_that_changes_nothing_writes_nothing_to_disk(tmp_path: Path) -> None:
    """A sync takes a second on a slow SD card, and there is one SUBSCRIBE at each connect."""
    live(tmp_path, "a")
    session = Session(tmp_path, "a")
    (tmp_path / "subscriptions.json").unlink()
    session.connect(session_present=True, mqtt5=True)
    session.grant(1)
    assert not (tmp_path / "subscriptions.json").exists()


def test_a_subscription_that_is_refused_later_is_not_taken_off(tmp_path: Path) -> None:
    """It still brings messages, and the refusal may be that of a user database that is away."""
    live(tmp_path, "a", "b")
    session = Session(tmp_path, "a", "b")
    session.connect(session_present=True, mqtt5=True)
    session.grant(1, 1, NOT_AUTHORISED)
    assert session.sent == [("subscribe", ["a", "b"])]
    assert session.record.uncertain == {"b"}
    session.subscriptions.ask_again(session)
    session.grant(2)
    assert list(session.record.applied) == ["a", "b"]
    assert not session.record.uncertain


def test_on_3_1_1_a_resumed_session_is_asked_for_all_where_there_is_a_doubt(tmp_path: Path) -> None:
    live(tmp_path, "a")
    session = Session(tmp_path, "a")
    session.connect(session_present=True, doubt="another client may have had it")
    assert session.sent == [("subscribe", ["a"])]
    assert not session.subscriptions.settled


def test_on_3_1_1_a_resumed_session_that_has_them_is_asked_for_nothing(tmp_path: Path) -> None:
    live(tmp_path, "a")
    session = Session(tmp_path, "a")
    session.connect(session_present=True)
    assert session.sent == []
    assert session.subscriptions.settled


def test_a_resumed_session_of_which_nothing_is_on_record_is_asked_for_all(tmp_path: Path) -> None:
    session = Session(tmp_path, "a")
    session.connect(session_present=True)
    assert session.sent == [("subscribe", ["a"])]


def test_a_death_before_suback_leaves_no_record_of_what_was_asked(tmp_path: Path) -> None:
    live(tmp_path, "a")
    Session(tmp_path, "a").connect(session_present=False)  # the broker sends no SUBACK
    session = Session(tmp_path, "a")
    session.connect(session_present=True)
    assert session.sent == [("subscribe", ["a"])]


@pytest.mark.parametrize("changed", [sub("a", qos=2), sub("a", identifier=5)], ids=["qos", "identifier"])
def test_what_is_wanted_otherwise_is_asked_for_again_and_not_taken_off(
    tmp_path: Path, changed: Subscription
) -> None:
    live(tmp_path, "a")
    session = Session(tmp_path, changed)
    session.connect(session_present=True)
    assert session.sent == [("subscribe", ["a"])]
    session.grant(1)
    assert session.sent == [("subscribe", ["a"])]


def test_what_the_settings_no_longer_name_is_taken_off(tmp_path: Path) -> None:
    live(tmp_path, "a", "b")
    session = Session(tmp_path, "a")
    session.connect(session_present=True)
    assert session.sent == [("unsubscribe", ["b"])]
    assert not session.subscriptions.settled
    session.subscriptions.taken_off(session, 1, [0])
    assert session.subscriptions.settled
    assert list(session.record.applied) == ["a"]


@pytest.mark.parametrize(("reasons", "again"), [([0x87], True), ([0x11], False), ([], False)])
def test_what_the_broker_does_not_take_off_is_tried_again(
    tmp_path: Path, reasons: list[int], again: bool
) -> None:
    live(tmp_path, "a", "b")
    session = Session(tmp_path, "a")
    session.connect(session_present=True)
    session.subscriptions.taken_off(session, 1, reasons)
    assert session.subscriptions.settled
    session.sent.clear()
    session.connect(session_present=True)
    assert session.sent == ([("unsubscribe", ["b"])] if again else [])


def test_a_death_before_unsuback_takes_it_off_again(tmp_path: Path) -> None:
    live(tmp_path, "a", "b")
    Session(tmp_path, "a").connect(session_present=True)
    session = Session(tmp_path, "a")
    session.connect(session_present=True)
    assert session.sent == [("unsubscribe", ["b"])]


def test_what_was_asked_for_and_perhaps_granted_is_taken_off_too(tmp_path: Path) -> None:
    live(tmp_path, "a")
    Session(tmp_path, "a", "b").connect(session_present=True)  # SUBSCRIBE of b without a SUBACK
    session = Session(tmp_path, "a")
    session.connect(session_present=True)
    assert session.sent == [("unsubscribe", ["b"])]


def test_narrower_filters_stay_until_the_wider_one_is_granted(tmp_path: Path) -> None:
    live(tmp_path, "s/+")
    session = Session(tmp_path, "#")
    session.connect(session_present=True)
    assert session.sent == [("subscribe", ["#"])]
    session.grant(1)
    assert session.sent[1:] == [("unsubscribe", ["s/+"])]


def test_a_refused_filter_keeps_the_others_working(tmp_path: Path) -> None:
    session = Session(tmp_path, "a", "b")
    session.connect(session_present=False)
    session.grant(1, 1, NOT_AUTHORISED)
    assert session.subscriptions.settled
    assert session.subscriptions.some_refused
    assert list(session.record.applied) == ["a"]


def test_what_a_refused_filter_covered_is_asked_for_itself(tmp_path: Path) -> None:
    session = Session(tmp_path, "#")
    session.covered = [sub("s/+")]
    session.connect(session_present=False)
    session.grant(1, NOT_AUTHORISED)
    assert session.sent[1:] == [("subscribe", ["s/+"])]


def test_while_a_wide_filter_is_refused_a_reconnect_leaves_no_gap(tmp_path: Path) -> None:
    session = Session(tmp_path, "#")
    session.covered = [sub("s/+")]
    session.connect(session_present=False)
    session.grant(1, NOT_AUTHORISED)
    session.grant(2)
    session.connect(session_present=True)
    session.grant(1, NOT_AUTHORISED)
    assert session.sent == [("subscribe", ["#"])]
    assert session.subscriptions.settled
    assert session.subscriptions.any_granted


def test_a_refused_filter_is_asked_for_again_later(tmp_path: Path) -> None:
    session = Session(tmp_path, "#")
    session.covered = [sub("s/+")]
    session.connect(session_present=False)
    session.grant(1, NOT_AUTHORISED)
    session.grant(2)
    session.subscriptions.ask_again(session)
    assert session.sent[2:] == [("subscribe", ["#"])]
    session.grant(3)
    assert session.sent[3:] == [("unsubscribe", ["s/+"])]
    assert not session.subscriptions.some_refused


def test_a_refusal_that_stays_is_not_asked_about_in_a_circle(tmp_path: Path) -> None:
    session = Session(tmp_path, "#")
    session.connect(session_present=False)
    for number in (1, 2, 3):
        session.grant(number, NOT_AUTHORISED)
        assert session.subscriptions.settled
        assert len(session.sent) == number
        session.subscriptions.ask_again(session)


@pytest.mark.parametrize("reasons", [(1,), (1, 1, 1)])
def test_a_suback_that_does_not_fit_is_malformed(tmp_path: Path, reasons: tuple[int, ...]) -> None:
    session = Session(tmp_path, "a", "b")
    session.connect(session_present=False)
    with pytest.raises(MalformedPacket):
        session.grant(1, *reasons)
    assert len(session.sent) == 1


def test_a_lower_qos_than_asked_for_is_not_asked_for_again(tmp_path: Path) -> None:
    session = Session(tmp_path, sub("a", qos=2))
    session.connect(session_present=False)
    session.grant(1, 0)
    session.connect(session_present=True)
    assert session.sent == []


def test_answers_to_what_was_not_asked_change_nothing(tmp_path: Path) -> None:
    session = Session(tmp_path, "a")
    session.connect(session_present=False)
    with pytest.raises(MalformedPacket):
        session.grant(7, 1)
    session.subscriptions.taken_off(session, 7, [])
    assert not session.subscriptions.any_granted


def test_a_session_is_expected_where_one_is_on_record(tmp_path: Path) -> None:
    assert not Session(tmp_path, "a").subscriptions.expects_session
    live(tmp_path, "a")
    assert Session(tmp_path, "a").subscriptions.expects_session


# -- reload ------------------------------------------------------------------------------------------


def test_a_reload_subscribes_the_new_filter_before_it_unsubscribes_the_old_one(tmp_path: Path) -> None:
    session = live(tmp_path, "a", "b")
    session.wanted = [sub("b"), sub("c")]
    session.subscriptions.wanted_changed(session)
    assert session.sent[1:] == [("subscribe", ["c"])]
    session.grant(2)
    assert session.sent[2:] == [("unsubscribe", ["a"])]
    session.subscriptions.taken_off(session, 3, [0])
    assert session.subscriptions.settled
    assert session.record.applied.keys() == {"b", "c"}
    assert not session.record.uncertain


def test_a_filter_that_a_second_reload_brings_back_is_subscribed_again(tmp_path: Path) -> None:
    session = live(tmp_path, "a", "b")
    session.wanted = [sub("a")]
    session.subscriptions.wanted_changed(session)
    assert session.sent[1:] == [("unsubscribe", ["b"])]
    session.wanted = [sub("a"), sub("b")]
    session.subscriptions.wanted_changed(session)
    assert len(session.sent) == 2, "the UNSUBACK may not be taken for an answer about the new subscription"
    session.subscriptions.taken_off(session, 2, [0])
    assert session.sent[2:] == [("subscribe", ["b"])]
    session.grant(3)
    assert session.record.applied.keys() == {"a", "b"}


def test_a_reload_while_a_subscribe_is_unanswered_waits_for_the_answer(tmp_path: Path) -> None:
    session = Session(tmp_path, "a")
    session.connect(session_present=False)
    session.wanted = [sub("b")]
    session.subscriptions.wanted_changed(session)
    assert session.sent == [("subscribe", ["a"])]
    session.grant(1)
    assert session.sent[1:] == [("subscribe", ["b"])]
    session.grant(2)
    assert session.sent[2:] == [("unsubscribe", ["a"])]


def test_a_reload_that_changes_the_qos_subscribes_the_same_filter_again(tmp_path: Path) -> None:
    session = live(tmp_path, "a")
    session.wanted = [sub("a", qos=2)]
    session.subscriptions.wanted_changed(session)
    session.grant(2)
    assert session.sent[1:] == [("subscribe", ["a"])]
    assert session.record.applied == {"a": (2, 0)}
