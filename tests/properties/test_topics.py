"""The filter algebra against paho's matcher, and all filters of a small world against all its topics."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.client import Client, topic_matches_sub
from paho.mqtt.enums import MQTTErrorCode

from bridge.routing.topics import covers, matches, overlaps, why_bad_filter

# Enough to distinguish any two filters: the levels that filters name, one ("z") that none names, and one
# level more than any filter has, for topics below a '#'. No topic and no filter is empty.
NAMED, UNNAMED, DEPTH = ("a", "$b", ""), "z", 3
TOPICS = ["/".join(t) for depth in range(1, DEPTH + 2) for t in product((*NAMED, UNNAMED), repeat=depth)]
TOPICS.remove("")
FILTERS = ["/".join(f) for depth in range(1, DEPTH + 1) for f in product((*NAMED, "+"), repeat=depth)]
FILTERS += ["/".join([*f, "#"]) for depth in range(DEPTH) for f in product((*NAMED, "+"), repeat=depth)]
FILTERS.remove("")

MATCHED = {one: frozenset(t for t in TOPICS if topic_matches_sub(one, t)) for one in FILTERS}


def test_every_filter_matches_what_it_matches_for_paho() -> None:
    for one in FILTERS:
        assert {t for t in TOPICS if matches(one, t)} == MATCHED[one], one


def test_a_filter_covers_another_when_it_matches_all_that_the_other_matches() -> None:
    for a, b in product(FILTERS, FILTERS):
        assert covers(a, b) == (MATCHED[a] >= MATCHED[b]), (a, b)


def test_filters_overlap_when_a_topic_matches_both() -> None:
    for a, b in product(FILTERS, FILTERS):
        assert overlaps(a, b) == (not MATCHED[a].isdisjoint(MATCHED[b])), (a, b)


_level = st.text(st.characters(codec="utf-8", exclude_characters="+#/\0"), max_size=4)


@settings(deadline=None)
@given(st.data(), st.lists(_level, min_size=1, max_size=6).filter(lambda levels: levels != [""]))
def test_a_filter_made_of_a_topic_agrees_with_paho_on_it(data: st.DataObject, levels: list[str]) -> None:
    topic = "/".join(levels)
    named = [data.draw(st.sampled_from([level, "+"])) for level in levels]
    cut = data.draw(st.integers(1, len(named)))
    pattern = "/".join(named[:cut] + data.draw(st.sampled_from([[], ["#"]])))
    assert matches(pattern, topic) == topic_matches_sub(pattern, topic)


@given(st.text(alphabet="ab/+#$", max_size=12))
def test_a_filter_is_legal_when_paho_subscribes_it(pattern: str) -> None:
    refused = Client._filter_wildcard_len_check(pattern.encode()) != MQTTErrorCode.MQTT_ERR_SUCCESS
    assert (why_bad_filter(pattern) is not None) == refused
