"""Plans that are kept: bounded in bytes, and the oldest gives way."""

import tracemalloc

import pytest

from bridge.delivery.plans import Plans
from bridge.message import Message
from bridge.routing.plan import Plan, plain_plan
from bridge.routing.router import Router
from bridge.settings import RouteSettings

ROUTER = Router(
    [
        RouteSettings(name="skips", filter="skips/#", topic="t", empty="skip"),
        RouteSettings(
            name="named", filter="named/{device}/{rest#}", topic="iot.{device}", key="{device}/{rest}"
        ),
        RouteSettings(name="all", filter="#", topic="t"),
    ]
)


def made(topic: bytes) -> Plan:
    """A plan as it is after its topic's first message."""
    plan = ROUTER.plan(topic)
    plan.headers(Message.of(topic, 2, 1, None, b""))
    return plan


def test_without_room_one_plan_in_eight_is_kept_and_the_oldest_gives_way_to_it() -> None:
    plans = Plans(room=100_000)
    number = 0
    while len(plans.by_key) == number:
        plans.keep(b"%06d" % number, made(b"%06d" % number))
        number += 1
    kept = [*plans.by_key]
    assert kept == [b"%06d" % each for each in range(number - 1)]
    for more in range(1, 20 * number):  # the first one without room has come already
        plans.keep(b"new/%06d" % more, made(b"new/%06d" % more))
        if more % 8 == 7:
            kept = [*kept[-len(plans.by_key) + 1 :], b"new/%06d" % more]
        assert [*plans.by_key] == kept
        assert len(kept) > 0.9 * number


def test_topics_that_come_in_turn_find_plans_though_not_all_have_room() -> None:
    plans = Plans(room=100_000)
    found = 0
    for number in range(10_000):
        topic = b"%06d" % (number % 200)
        if topic in plans.by_key:
            found += 1
        else:
            plans.keep(topic, made(topic))
    assert len(plans.by_key) < 150
    assert found > 10_000 * len(plans.by_key) / 200 / 2


@pytest.mark.parametrize("topic", [b"s/%06d", b"named/%06d/a/b", b"long/%06d/" + 60_000 * b"x"])
def test_plans_take_no_more_memory_than_their_room(topic: bytes) -> None:
    room = 4_000_000
    plans = Plans(room)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(6000 if len(topic) < 100 else 300):
            name = topic % number
            plans.keep(name, made(name))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(plans.by_key) > 20
    assert 0.25 * room < after - before <= room


def test_a_plan_that_is_larger_than_all_room_is_not_kept() -> None:
    plans = Plans(room=1000)
    for number in range(20):
        plans.keep(b"%2d" % number + b"t" * 2000, made(b"t" * 2000))
        assert not plans.by_key
        plans.keep(b"%2d" % number, made(b"t" * 2000))
        assert not plans.by_key


def test_a_plan_that_depends_on_the_payload_is_not_found_by_its_topic_alone() -> None:
    plans = Plans()
    plan = made(b"skips/a")
    plans.keep(b"skips/a", plan)
    assert plans.by_key.get(b"skips/a") is None
    assert plans.skipping(b"skips/a") is plan
    assert plans.of_row(b"skips/a", "t") is plan


def test_messages_on_disk_for_an_earlier_kafka_topic_have_a_plan_of_their_own() -> None:
    plans = Plans()
    now, earlier = made(b"a"), plain_plan(b"a", "earlier")
    plans.keep(b"a", now)
    assert plans.of_row(b"a", "earlier") is None
    plans.keep_of_row(b"a", earlier)
    assert plans.of_row(b"a", "earlier") is earlier
    assert plans.of_row(b"a", "t") is plans.by_key[b"a"] is now
    plans.forget()
    assert not plans.by_key
    assert plans.of_row(b"a", "earlier") is None
