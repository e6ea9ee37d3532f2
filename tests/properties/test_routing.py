"""Routes against a broker that sends one copy of a message for each subscription that matches."""

import re
from contextlib import suppress
from itertools import product
from typing import Literal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridge.errors import ConfigurationError, Unroutable
from bridge.message import Message, Properties
from bridge.routing.router import MAX_IDENTIFIER, Router
from bridge.routing.routes import SplitLevel
from bridge.routing.topics import Subscription, kafka_legal, matches, split_share, why_bad_kafka_topic
from bridge.settings import RouteSettings

TOPICS = ["/".join(levels) for depth in (1, 2, 3, 4) for levels in product("abz", repeat=depth)]

_patterns = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=3).flatmap(
    lambda levels: st.sampled_from(["/".join(levels), "/".join([*levels[1:], "#"])])
)
_groups = st.sampled_from(["", "", "$share/g/", "$share/h/"])


@st.composite
def route_lists(draw: st.DrawFn) -> list[RouteSettings]:
    """Routes that a Router accepts: routes that would get no message are left out."""
    routes: list[RouteSettings] = []
    for number in range(draw(st.integers(1, 5))):
        pattern, name = draw(_patterns), f"r{number}"
        if draw(st.integers(0, 3)) == 0:
            new = RouteSettings(name=name, filter=pattern, action="drop")
        else:
            levels: list[Literal[0, 1, 2]] = [0, 1, 2]
            qos = draw(st.sampled_from(levels))
            new = RouteSettings(name=name, filter=draw(_groups) + pattern, topic="t", qos=qos)
        try:
            Router([*routes, new])
        except ConfigurationError as error:
            if "gets nothing" in str(error):
                continue
        routes.append(new)
    assume(any(route.action == "produce" for route in routes))
    return routes


def first_match(routes: list[RouteSettings], topic: str) -> RouteSettings | None:
    return next((r for r in routes if matches(split_share(r.filter)[1], topic)), None)


def arriving(router: Router, topic: str) -> list[Subscription]:
    return [s for s in router.subscriptions if matches(split_share(s.filter)[1], topic)]


def copy_by(topic: str, *subscriptions: Subscription) -> Message:
    identifiers = tuple(s.identifier for s in subscriptions if s.identifier is not None)
    return Message.of(topic.encode(), 2, 1, Properties(subscription_ids=identifiers), b"")


within_ci = settings(max_examples=60, deadline=None)


@within_ci
@given(route_lists(), st.booleans())
def test_of_all_copies_of_a_message_exactly_one_is_taken_by_the_first_matching_route(
    routes: list[RouteSettings], shared: bool
) -> None:
    router = Router(routes, shared=shared)
    for topic in TOPICS:
        expected = first_match(routes, topic)
        if expected is None:
            assert not arriving(router, topic)
            continue
        plan = router.plan(topic.encode())
        assert (plan.route, plan.action) == (expected.name, expected.action)
        copies = arriving(router, topic)
        assert [s.filter for s in copies if plan.takes(copy_by(topic, s))] == [plan.subscription][
            : len(copies)
        ]
        if plan.action == "produce":
            assert copies
            assert plan.takes(copy_by(topic, *copies))  # from a broker that sends a single copy


@within_ci
@given(route_lists())
def test_without_need_of_mqtt_5_a_message_comes_once(routes: list[RouteSettings]) -> None:
    router = Router(routes)
    assert (router.needs_mqtt5 is None) == all(s.identifier is None for s in router.subscriptions)
    if router.needs_mqtt5 is None:
        assert all(len(arriving(router, topic)) <= 1 for topic in TOPICS)


@within_ci
@given(route_lists())
def test_a_message_comes_with_at_least_the_qos_its_route_asks_for(routes: list[RouteSettings]) -> None:
    router = Router(routes)
    for topic in TOPICS:
        route = first_match(routes, topic)
        if route is not None and route.action == "produce":
            subscription = router.plan(topic.encode()).subscription
            assert next(s.qos for s in router.subscriptions if s.filter == subscription) >= route.qos


@within_ci
@given(route_lists())
def test_a_filter_that_is_refused_takes_no_message_of_others_with_it(routes: list[RouteSettings]) -> None:
    refused = Router(routes).subscriptions[0].filter
    router = Router(routes, refused={refused})
    assert refused not in [s.filter for s in router.subscriptions]
    for topic in TOPICS:
        if copies := arriving(router, topic):
            plan = router.plan(topic.encode())
            assert sum(plan.takes(copy_by(topic, s)) for s in copies) == 1


@given(route_lists())
def test_identifiers_are_legal_and_each_is_used_once(routes: list[RouteSettings]) -> None:
    identifiers = [s.identifier for s in Router(routes).subscriptions if s.identifier is not None]
    assert len(set(identifiers)) == len(identifiers)
    assert all(1 <= identifier <= MAX_IDENTIFIER for identifier in identifiers)


@within_ci
@given(st.binary(max_size=12) | st.text(max_size=260).map(lambda text: text.encode(errors="replace")))
def test_any_topic_gets_a_legal_kafka_topic_or_is_unroutable(topic: bytes) -> None:
    routes = [RouteSettings(name="all", filter="#", topic="{topic}")]
    with suppress(Unroutable):
        plan = Router(routes).plan(topic)
        assert why_bad_kafka_topic(plan.kafka_topic) is None
        assert plan.kafka_topic == kafka_legal(topic.decode())
        assert plan.key == topic


@within_ci
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10).map(str.encode),
    st.sampled_from([b"\0", b"+", b"#", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10).map(str.encode),
)
def test_a_topic_that_mqtt_forbids_is_unroutable_whatever_stands_around_it(
    before: bytes, wrong: bytes, behind: bytes
) -> None:
    """Ending the connection, as MQTT demands, would only make the broker resend the message for ever."""
    router = Router(
        [
            RouteSettings(name="all", filter="#", topic="t"),
            RouteSettings(name="sys", filter="$SYS/#", topic="t"),
        ]
    )
    with pytest.raises(Unroutable):
        router.plan(before + wrong + behind)


# -- names that take a part of a level -----------------------------------------------------------------------

_literals = st.text("@-.", min_size=1, max_size=2)
_ends = st.text("@-.", max_size=2)
_levels = st.text("ab@-.", max_size=12)


@given(first=_ends, between=st.lists(_literals, max_size=3), last=_ends, level=_levels)
@settings(max_examples=500, deadline=None)
def test_a_level_is_split_as_a_regular_expression_would(
    first: str, between: list[str], last: str, level: str
) -> None:
    literals = (first, *between, last)
    assume(literals != ("", ""))
    names = tuple(f"n{number}" for number in range(len(literals) - 1))
    expected = re.fullmatch("(.+?)".join(map(re.escape, literals)), level)
    found = SplitLevel(0, literals, names).values(level)
    assert found == (list(expected.groups()) if expected else None)


_parts = st.lists(
    st.sampled_from(["a", "+", "{x}@{y}", "{x}-b", "a@b", "a-b"]), min_size=1, max_size=3
).filter(lambda levels: sum("{" in level for level in levels) < 2)
_SPLIT_TOPICS = [
    "/".join(levels)
    for depth in (1, 2, 3)
    for levels in product(["a", "a@b", "a-b", "@", "b@-b"], repeat=depth)
]


@given(st.lists(_parts, min_size=1, max_size=4))
@within_ci
def test_the_first_route_that_fits_takes_a_topic_and_what_is_refused_got_nothing(
    filters: list[list[str]],
) -> None:
    def fits(levels: list[str], topic: str) -> bool:
        shapes = {"+": ".*", "{x}@{y}": ".+@.+", "{x}-b": ".+-b"}
        found = topic.split("/")
        return len(found) == len(levels) and all(
            re.fullmatch(shapes.get(level, re.escape(level)), text)
            for level, text in zip(levels, found, strict=True)
        )

    routes: list[RouteSettings] = []
    taken: list[list[str]] = []
    for number, levels in enumerate(filters):
        new = RouteSettings(name=f"r{number}", filter="/".join(levels), topic="t")
        try:
            Router([*routes, new])
        except ConfigurationError:
            for topic in _SPLIT_TOPICS:
                assert not fits(levels, topic) or any(fits(before, topic) for before in taken)
            continue
        routes.append(new)
        taken.append(levels)
    router = Router(routes)
    for topic in _SPLIT_TOPICS:
        expected = next(
            (r.name for r, levels in zip(routes, taken, strict=True) if fits(levels, topic)), None
        )
        if expected is None:
            with pytest.raises(Unroutable):
                router.plan(topic.encode())
        else:
            assert router.plan(topic.encode()).route == expected
            assert arriving(router, topic)
