"""The trees of filters find what comparing each route with each other one finds."""

import random
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.errors import ConfigurationError
from bridge.message import Message, Properties
from bridge.routing import router as router_module
from bridge.routing.filter_tree import FilterTree, OverlapTree
from bridge.routing.router import Router
from bridge.routing.routes import Route, check
from bridge.routing.topics import levels_of, overlaps
from bridge.settings import RouteSettings
from tests.harness.steps import steps
from tests.properties import pairwise

_LEVELS = ["a", "b", "", "+", "+", "{n}@{m}", "{n}-b", "a{n}", "{n}-x@{m}-y", "a@b", "ab", "$a"]
_GROUPS = ["", "", "", "$share/g/", "$share/h/"]
TOPICS = [
    "/".join(levels)
    for depth in (1, 2, 3, 4)
    for levels in product(["a", "b", "", "a@b", "a-b", "$a", "z-x@z-y"], repeat=depth)
    if depth < 4 or levels[0] in ("a", "$a")
]


def _filter(levels: Sequence[str], is_open: bool) -> str:
    """With names that occur once, and `#` for the last level if it is open."""
    named = [level.replace("{n}", f"{{n{i}}}").replace("{m}", f"{{m{i}}}") for i, level in enumerate(levels)]
    return "/".join([*named, "#"] if is_open else named)


_filters = st.builds(
    lambda group, levels, is_open: group + _filter(levels, is_open),
    st.sampled_from(_GROUPS),
    st.lists(st.sampled_from(_LEVELS), min_size=0, max_size=4).filter(lambda levels: levels != [""]),
    st.booleans(),
).filter(lambda text: text.rpartition("$share/g/")[2].rpartition("$share/h/")[2] != "")


def _entries(
    filters: Sequence[str], drops: Sequence[bool] = (), qos: Sequence[int] = ()
) -> list[RouteSettings]:
    entries = []
    for number, text in enumerate(filters):
        values: dict[str, object] = {"name": f"r{number}", "filter": text, "topic": "t"}
        if number < len(drops) and drops[number] and not text.startswith("$share"):
            values = {"name": f"r{number}", "filter": text, "action": "drop"}
        elif number < len(qos):
            values["qos"] = qos[number]
        entries.append(RouteSettings.model_validate(values))
    return entries


def _reachable(entries: Sequence[RouteSettings]) -> list[RouteSettings]:
    """Without the routes that get nothing, so that a Router can be built."""
    kept: list[RouteSettings] = []
    routes: list[Route] = []
    for entry in entries:
        route = check(entry)
        if not any(pairwise.takes_all_of(earlier.source, route.source) for earlier in routes):
            kept.append(entry)
            routes.append(route)
    return kept


def _identifiers_of(identifier: int) -> Message:
    return Message.of(b"t", 2, 1, Properties(subscription_ids=(identifier,)), b"")


def _compare(entries: list[RouteSettings], topics: Sequence[str], refused: Sequence[str] = ()) -> None:
    if all(entry.action == "drop" for entry in entries):
        entries = [RouteSettings(name="other", filter="never/published", topic="t"), *entries]
    router = Router(entries).without(refused)
    routes = router.routes
    expected = pairwise.Subscribed(routes, refused)
    assert router.subscriptions == expected.subscriptions
    assert router.needs_mqtt5 == expected.needs_mqtt5
    identifiers = {one.identifier for one in expected.subscriptions if one.identifier}
    for topic in topics:
        route = pairwise.first_taking(routes, topic)
        if route is None:
            assert router.destination(topic.encode()) == ("", "no route has a filter that matches")
            continue
        plan = router.plan(topic.encode())
        subscription, others = expected.copy_for(route.source, topic)
        assert (plan.route, plan.subscription) == (route.name, subscription)
        assert {one for one in identifiers if not plan.takes(_identifiers_of(one))} == others


@settings(max_examples=150, deadline=None)
@given(
    st.lists(_filters, min_size=1, max_size=12),
    st.lists(st.booleans(), max_size=12),
    st.lists(st.integers(0, 2), min_size=12, max_size=12),
    st.integers(0, 3),
)
def test_the_router_agrees_with_a_comparison_of_all_pairs(
    filters: list[str], drops: list[bool], qos: list[int], refused: int
) -> None:
    entries = _reachable(_entries(filters, drops, qos))
    _compare(entries, random.Random(len(filters)).sample(TOPICS, 150))
    subscribed = [entry.filter for entry in entries if "{" not in entry.filter and entry.action == "produce"]
    _compare(entries, TOPICS[:80], subscribed[:refused])


@settings(max_examples=300, deadline=None)
@given(st.lists(_filters, min_size=2, max_size=12))
@example(["a/{n}@{m}", "a/{p}@{q}", "a/x@y"])
@example(["#", "+/#", "/#", "$a/#"])
def test_a_route_that_gets_nothing_is_told_with_the_first_route_that_takes_its_messages(
    filters: list[str],
) -> None:
    entries = _entries(filters)
    routes = [check(entry) for entry in entries]
    expected = []
    for number, route in enumerate(routes):
        earlier = (one for one in routes[:number] if pairwise.takes_all_of(one.source, route.source))
        if first := next(earlier, None):
            expected.append((route.name, first.name))
    if not expected:
        Router(entries)
        return
    with pytest.raises(ConfigurationError) as caught:
        Router(entries)
    assert [
        (problem.split('"')[1], problem.partition("because route ")[2].split('"')[1])
        for problem in caught.value.problems
    ] == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "+", "+"]), min_size=2, max_size=3), max_size=10))
def test_filters_whose_identifiers_would_be_the_same_get_them_in_the_same_order(
    filters: list[list[str]],
) -> None:
    entries = _reachable(_entries(["x", *("/".join(levels) for levels in filters)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(router_module, "MAX_IDENTIFIER", 11)
        _compare(entries, ["a/b", "b/c", "a/b/c"])


def _many(seed: int, number: int) -> list[str]:
    """Filters of every kind that is hard for a tree: many that differ in one level, or in a part of one."""
    source = random.Random(seed)
    kinds = (
        lambda i: f"a/+/x{i}",
        lambda i: f"+/y{i % 40}",
        lambda i: f"x{i % 30}/+",
        lambda i: f"x{i % 30}/z{i}/#",
        lambda i: f"a/{{n}}@t{i}/up",
        lambda i: f"a/{{n}}-m{i}-{{m}}/up",
        lambda i: f"a/q{i}{{n}}/up",
        lambda i: f"$share/g{i % 3}/s/+/{i}",
        lambda i: f"$share/g{i % 3}/s/{i % 7}/+",
        lambda i: f"+/+/w{i}/#",
        lambda i: f"d/{{n}}@{i % 5}/{{k}}-{i}",
        lambda i: f"$SYS/{i}/+",
    )
    return [source.choice(kinds)(source.randrange(number)) for _ in range(number)]


def _topics_of(filters: Sequence[str], seed: int) -> list[str]:
    source = random.Random(seed)
    found = []
    for text in filters:
        text = text.removeprefix("$share/g0/").removeprefix("$share/g1/").removeprefix("$share/g2/")
        levels = text.replace("{n}", "v").replace("{m}", "w").replace("{k}", "u").split("/")
        levels = [source.choice(["a", "x1", "y1", "z"]) if level in ("+", "#") else level for level in levels]
        if source.random() < 0.2:
            levels[source.randrange(len(levels))] = "other"
        found.append("/".join(levels))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_hundreds_of_routes_agree_with_a_comparison_of_all_pairs(seed: int) -> None:
    entries = _reachable(_entries(_many(seed, 400), [seed % 2 == 1 and i % 5 == 0 for i in range(400)]))
    assert len(entries) > 200
    filters = [entry.filter for entry in entries]
    _compare(entries, _topics_of(filters, seed))
    subscribed = [one.filter for one in Router(entries).subscriptions]
    _compare(entries, _topics_of(filters, seed)[:100], subscribed[:20])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "", "+", "$a"]), min_size=1, max_size=4), max_size=10),
    st.data(),
)
def test_the_first_filter_that_overlaps_is_found(filters: list[list[str]], data: st.DataObject) -> None:
    patterns = ["/".join([*levels, "#"] if data.draw(st.booleans()) else levels) for levels in filters]
    tree = OverlapTree()
    for number, pattern in enumerate(patterns):
        tree.add(levels_of(pattern), number)
    for number, pattern in enumerate(patterns):
        others = [i for i, one in enumerate(patterns) if i != number and overlaps(one, pattern)]
        assert tree.first_beside(levels_of(pattern), number) == (others[0] if others else None)
        assert tree.first_beside(levels_of(pattern)) == min([*others, number])


@given(
    st.lists(st.text("ab", max_size=3), max_size=30, unique=True),
    st.integers(1, 40),
    st.text("ab\n", max_size=40),
)
def test_an_identifier_does_not_depend_on_how_it_is_computed(
    subscriptions: list[str], highest: int, made_of: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(router_module, "MAX_IDENTIFIER", 30 + highest)
        found = router_module._identifiers(subscriptions, made_of)
        assert found == pairwise.identifiers_of(subscriptions, made_of)


def test_a_search_takes_as_long_with_many_filters_as_with_few() -> None:
    """Counted in steps of Python, because a busy machine makes seconds mean nothing."""
    assert _steps_of_a_search(4000) <= 1.2 * _steps_of_a_search(40)


def _steps_of_a_search(number: int) -> int:
    tree = FilterTree()
    kinds = ("a/+/x{}", "+/y{}/#", "x{}/+/up", "a/{}/+")
    for i in range(number):
        tree.add(levels_of(kinds[i % 4].format(i)), i)
        tree.add(["a", ("", f"@t{i}"), "up"], number + i)
        tree.add(["a", ("", f"-m{i}-", ""), "up"], 2 * number + i)
    return steps(
        lambda: [tree.first_taking(topic) for topic in ("a/b/x0", "z/y1/q/r", "a/v@t7/up", "a/v-m7-w/up")]
    )


def test_routes_that_overlap_are_found_in_time_that_grows_with_the_routes() -> None:
    """10,000 routes took minutes when each was compared with each other one."""

    def routes(number: int) -> list[RouteSettings]:
        half = range(number // 2)
        return _entries([f"x{i}/z{i}" for i in half] + [f"+/y{i}" for i in half])

    few, many = routes(100), routes(800)
    assert steps(lambda: Router(many)) < 10 * steps(lambda: Router(few))
