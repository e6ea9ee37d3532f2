"""What is allowed, but was probably not meant: the warnings of `bridge config`."""

from typing import Any

import pytest

from bridge.errors import ConfigurationError
from bridge.routing.advice import meant_by, warnings
from bridge.routing.router import Router
from bridge.settings import RouteSettings


def advice(**route: Any) -> list[str]:
    entries = [RouteSettings(**{"name": "r", "filter": "a/{x}", "topic": "out", **route})]
    return said_of(*entries)


def said_of(*entries: RouteSettings) -> list[str]:
    return list(warnings(entries, Router(entries).routes))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sensors/*/temp", "sensors/+/temp"),
        ("sensors/%/temp", "sensors/+/temp"),
        ("sensors/**", "sensors/#"),
        ("^a/.*$", "a/#"),
        ("^sensors/.*/temp$", "sensors/+/temp"),
        ("sensors.*.temp", "sensors/+/temp"),
        ("sensors.>", "sensors/#"),
        ("sensors/>", "sensors/#"),
        (" sensors/temp ", "sensors/temp"),
        ("sensors/ temp", "sensors/temp"),
        ("$share/g/sensors/*", "$share/g/sensors/+"),
    ],
)
def test_a_filter_in_another_language_is_told_what_was_meant(written: str, meant: str) -> None:
    (said,) = advice(filter=written)
    assert f'if you mean "{meant}", write that' in said


@pytest.mark.parametrize(
    "filter_", ["a/+/b", "#", "/a//b", "zigbee2mqtt/Living room", "50%/x", "a/{x}/b", "a.b/c"]
)
def test_a_filter_of_mqtt_is_taken_as_it_is(filter_: str) -> None:
    assert meant_by(filter_) is None
    assert advice(filter=filter_) == []


@pytest.mark.parametrize("topic", ["{x}", "{topic}", "{x}.{topic}", "_{x}"])
def test_a_topic_without_text_of_its_own_is_warned_of(topic: str) -> None:
    (said,) = advice(topic=topic)
    assert "whoever publishes chooses the whole name" in said
    assert f'as in "mqtt.{topic}"' in said


def test_a_topic_with_text_of_its_own_is_none_to_warn_of() -> None:
    assert advice(topic="iot.{x}") == []


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("${x}", "write {x}, without the '$' before it"),
        ("%{x}", "write {x}, without the '%' before it"),
        ("{{x}}", "write {x}, with one brace on each side"),
        ("{{ .x }}", "write {x}, with one brace on each side"),
    ],
)
def test_names_marked_as_elsewhere_are_warned_of_in_a_key(key: str, meant: str) -> None:
    (said,) = advice(key=key)
    assert said.endswith(meant)


def test_json_in_a_key_is_none_to_warn_of() -> None:
    assert advice(key='{{"device":"{x}"}}') == []


@pytest.mark.parametrize(
    ("wrong", "way_out"),
    [
        ({"topic": "${topic}"}, "write {topic}, without the '$' before it"),
        ({"topic": "iot.{{x}}"}, "write {x}, with one brace on each side"),
        (
            {"topic": "{topic[1]}"},
            "name the level in the filter, as in sensors/{site}/temp, and write {site}",
        ),
        ({"key": "{1}"}, "name the level in the filter, as in sensors/{site}/temp, and write {site}"),
        (
            {"key": "{dev-eui}"},
            "a name is made of letters a-z, digits and _, and begins with no digit; known: {x}, {topic}",
        ),
        ({"filter": "a/{dev-eui}"}, "begins with no digit; write {dev_eui}"),
        ({"filter": "a/${x}"}, "write {x}, without the '$' before it"),
        ({"filter": "a/{{x}}"}, "write {x}, with one brace on each side"),
    ],
)
def test_what_can_never_work_is_refused_with_the_form_that_does(wrong: dict[str, str], way_out: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        advice(**wrong)
    assert way_out in str(refused.value)


def test_a_name_that_takes_a_part_of_a_level_wants_a_route_for_the_rest() -> None:
    part = RouteSettings(name="ttn", filter="v3/{app}@{tenant}/up", topic="ttn")
    rest = RouteSettings(name="rest", filter="v3/+/up", action="drop")
    (said,) = said_of(part)
    assert 'filter = "v3/+/up" and action = "drop"' in said
    assert said_of(part, rest) == []
