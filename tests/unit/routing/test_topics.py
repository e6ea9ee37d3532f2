"""MQTT's filters and Kafka's topic names, tested with the examples of their specifications."""

import pytest

from bridge.routing.topics import (
    KAFKA_NAME_LENGTH,
    MAX_UTF8,
    covers,
    kafka_legal,
    matches,
    overlaps,
    split_share,
    why_bad_filter,
    why_bad_kafka_topic,
    why_bad_topic,
)


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("#", "/"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("$SYS/#", "$SYS/broker/uptime"),
        ("$SYS/+", "$SYS/broker"),
    ],
)
def test_a_topic_matches(pattern: str, topic: str) -> None:
    assert matches(pattern, topic)


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("#", "$SYS/broker/uptime"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("Accounts", "ACCOUNTS"),
        ("a", "a/"),
    ],
)
def test_a_topic_does_not_match(pattern: str, topic: str) -> None:
    assert not matches(pattern, topic)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [("#", "a/+"), ("a/#", "a"), ("a/#", "a/+/#"), ("+/+", "a/+"), ("+/#", "#"), ("#", "+/#"), ("a", "a")],
)
def test_a_filter_covers_a_narrower_one(wide: str, narrow: str) -> None:
    assert covers(wide, narrow)


@pytest.mark.parametrize(
    ("one", "other"), [("a/+", "+/b"), ("a/b", "a/#"), ("#", "$SYS/#"), ("a/+", "a/+/#"), ("+/#", "$SYS/a")]
)
def test_a_filter_does_not_cover_what_reaches_beyond_it(one: str, other: str) -> None:
    assert not covers(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [("a/+", "+/b"), ("a/#", "+/b/c"), ("a/#", "a"), ("a/+/c", "a/b/#")]
)
def test_filters_overlap(one: str, other: str) -> None:
    assert overlaps(one, other)
    assert overlaps(other, one)


@pytest.mark.parametrize(("one", "other"), [("a/+", "b/+"), ("a", "a/+/#"), ("#", "$SYS/#"), ("+", "+/+")])
def test_filters_without_a_common_topic_do_not_overlap(one: str, other: str) -> None:
    assert not overlaps(one, other)
    assert not overlaps(other, one)


@pytest.mark.parametrize(
    "pattern", ["#", "+", "/", "a//b", "+/+/#", "$SYS/#", "Wohnzimmer/Tür", " ", "a" * MAX_UTF8]
)
def test_a_filter_that_mqtt_allows(pattern: str) -> None:
    assert why_bad_filter(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "empty"),
        ("a/#/b", "only at the end"),
        ("a/b#", "a whole level"),
        ("a+/b", "a whole level"),
        ("a\0b", "null character"),
        ("ü" * MAX_UTF8, "65535 bytes"),
        ("a/\ud800", "UTF-8"),
        ("$queue/a", "$share/<group>/<filter>"),
        ("$exclusive/a", "$exclusive/ is not standard MQTT"),
    ],
)
def test_a_filter_that_would_not_work_says_why(pattern: str, why: str) -> None:
    assert why in (why_bad_filter(pattern) or "")


def test_a_shared_subscription_is_its_group_and_its_filter() -> None:
    assert split_share("$share/bridges/sensors/#") == ("bridges", "sensors/#")


def test_a_plain_filter_has_no_group() -> None:
    assert split_share("$shared/a") == (None, "$shared/a")


@pytest.mark.parametrize(
    "text", ["$share", "$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/{g}/a"]
)
def test_a_shared_subscription_without_group_or_filter_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="shared subscription"):
        split_share(text)


@pytest.mark.parametrize("name", ["iot", "iot.kitchen", "A-b_c.9", "...", "a" * KAFKA_NAME_LENGTH])
def test_a_kafka_topic_that_kafka_allows(name: str) -> None:
    assert why_bad_kafka_topic(name) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        (".", "'.'"),
        ("..", "'..'"),
        ("a/b", "'/'"),
        ("küche", "'ü'"),
        ("a" * (KAFKA_NAME_LENGTH + 1), "250 characters"),
        ("__consumer_offsets", "Kafka uses this name itself"),
    ],
)
def test_a_kafka_topic_that_kafka_refuses_says_why(name: str, why: str) -> None:
    assert why in (why_bad_kafka_topic(name) or "")


def test_slashes_become_dots_and_what_kafka_does_not_allow_becomes_a_hyphen() -> None:
    assert kafka_legal("zigbee2mqtt/Living room/Tür:1") == "zigbee2mqtt.Living-room.T-r-1"


@pytest.mark.parametrize("topic", ["a", "/", "a//b", "$SYS/broker", "Wohnzimmer/Tür", " ", "a" * MAX_UTF8])
def test_a_topic_that_is_allowed(topic: str) -> None:
    assert why_bad_topic(topic) is None


@pytest.mark.parametrize(("topic", "why"), [("a/\0", "null"), ("a/+/b", "'+'"), ("a+", "'+'"), ("#", "'#'")])
def test_a_topic_that_no_message_may_have(topic: str, why: str) -> None:
    assert why in (why_bad_topic(topic) or "")
