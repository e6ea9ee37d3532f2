"""The filter algebra against paho's matcher, and against trying every topic of a small world."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import Client, MQTTErrorCode, topic_matches_sub

from bridge.topics import covers, matches, overlaps, why_bad_filter

# Three names are enough to tell any two filters of that alphabet apart: "a" and "$b" that filters can name, and
# one ("z") that none names. One level more than any filter has shows what lies below a '#'.
DEPTH = 3
WORLD = [
    "/".join(levels)
    for depth in range(1, DEPTH + 2)
    for levels in product(("a", "$b", "", "z"), repeat=depth)
]
WORLD.remove("")  # a topic has at least one character

_levels = st.lists(st.sampled_from(["a", "$b", "", "+"]), min_size=1, max_size=DEPTH)
_plain = _levels.map("/".join)
filters = st.one_of(
    _plain,
    st.lists(st.sampled_from(["a", "$b", "", "+"]), max_size=DEPTH - 1).map(
        lambda levels: "/".join([*levels, "#"])
    ),
).filter(bool)

within_ci = settings(max_examples=300, deadline=None)


@given(filters)
def test_every_generated_filter_is_a_legal_one(pattern: str) -> None:
    assert why_bad_filter(pattern) is None


@within_ci
@given(filters)
def test_matches_agrees_with_paho_on_every_topic_of_a_small_world(pattern: str) -> None:
    assert [t for t in WORLD if matches(pattern, t)] == [t for t in WORLD if topic_matches_sub(pattern, t)]


@within_ci
@given(filters, filters)
def test_a_filter_covers_another_when_it_matches_all_that_the_other_matches(a: str, b: str) -> None:
    assert covers(a, b) == all(matches(a, topic) for topic in WORLD if matches(b, topic))


@within_ci
@given(filters, filters)
def test_filters_overlap_when_a_topic_matches_both(a: str, b: str) -> None:
    assert overlaps(a, b) == any(matches(a, topic) and matches(b, topic) for topic in WORLD)


@given(filters, filters)
def test_a_filter_overlaps_what_it_covers(a: str, b: str) -> None:
    assert not covers(a, b) or overlaps(a, b)


@given(st.text(alphabet="ab/+#$", max_size=12))
def test_a_filter_is_legal_as_paho_sees_it(pattern: str) -> None:
    accepted = (
        bool(pattern)
        and Client._filter_wildcard_len_check(pattern.encode()) == MQTTErrorCode.MQTT_ERR_SUCCESS
    )
    assert (why_bad_filter(pattern) is None) == accepted
