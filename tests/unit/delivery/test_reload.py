"""Routes that change while messages are in memory, in flight and on disk."""

import pytest

from bridge.delivery.lanes import LaneState
from bridge.settings import RouteSettings
from tests.unit.delivery.world import World


def route(name: str, filter_: str, topic: str | None, **more: object) -> RouteSettings:
    action = "drop" if topic is None else "produce"
    return RouteSettings(name=name, filter=filter_, topic=topic, action=action, **more)


def world(*routes: RouteSettings) -> World:
    found = World(routes=list(routes))
    found.pipeline.subscriptions(())
    return found


def go_live(world: World) -> None:
    for topic in dict.fromkeys(world.kafka.asked):
        lane = world.pipeline._lanes[topic]
        if lane.state is not LaneState.LIVE:
            world.answer(topic)
    world.pipeline.turn()


def topics(world: World) -> list[str]:
    return [message.plan.kafka_topic for message in world.kafka.produced]


def test_what_arrives_after_a_reload_takes_the_new_route_and_what_came_before_keeps_its_topic() -> None:
    it = world(route("s", "s/#", "old"))
    it.receive(b"s/1")
    assert it.pipeline.change_routes([route("s", "s/#", "new")]) == ""
    it.receive(b"s/1")
    go_live(it)
    assert topics(it) == ["old", "new"]
    it.kafka.deliver()
    it.pipeline.turn()
    assert it.session.acknowledged == [1, 2]
    assert it.disk.has_other_routes


def test_what_emq_had_queued_for_a_removed_route_goes_its_way() -> None:
    it = world(route("s", "s/#", "sensors"), route("t", "t/#", "other"))
    assert it.pipeline.change_routes([route("s", "s/#", "sensors")]) == ""
    it.receive(b"t/1")
    go_live(it)
    assert topics(it) == ["other"]
    assert not it.pipeline.counts.dead_lettered


def test_a_topic_that_no_routes_ever_took_becomes_a_dead_letter() -> None:
    it = world(route("s", "s/#", "sensors"))
    it.pipeline.change_routes([route("t", "t/#", "other")])
    it.receive(b"u/1")
    it.pipeline.turn()
    it.disk.commit()
    it.pipeline.turn()
    assert it.pipeline.counts.dead_lettered == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["a/#"], ["a/b"]),  # for a moment the broker has both
        (["a/+/c"], ["a/b/#"]),
        (["a/#"], ["$share/g/a/#"]),
        (["a/+/c", "a/b/+"], ["a/+/c"]),  # identifiers
        (["a/+/c"], ["a/+/c", "a/b/+"]),
    ],
)
def test_filters_that_overlap_during_the_change_need_a_restart(before: list[str], after: list[str]) -> None:
    it = world(*(route(f"r{n}", each, "t") for n, each in enumerate(before)))
    routes = [route(f"r{n}", each, "u") for n, each in enumerate(after)]
    assert it.pipeline.change_routes(routes)
    it.receive(before[0].replace("+", "b").replace("#", "b").encode())
    go_live(it)
    assert topics(it) == ["t"], "nothing has changed"


def test_overlapping_routes_that_only_change_their_topics_need_no_restart() -> None:
    it = world(route("a", "a/+/c", "one"), route("b", "a/b/+", "two"))
    assert it.pipeline.change_routes([route("a", "a/+/c", "three"), route("b", "a/b/+", "two")]) == ""


def test_twenty_reloads_between_two_sets_of_routes_keep_two_routers() -> None:
    it = world(route("s", "s/#", "old"))
    for _ in range(10):
        it.pipeline.change_routes([route("s", "s/#", "new")])
        it.pipeline.change_routes([route("s", "s/#", "old")])
    assert len(it.pipeline._earlier) == 2


def test_rows_on_disk_stay_in_their_topic_after_a_reload() -> None:
    it = world(route("s", "s/#", "old"))
    for _ in range(3):
        it.receive(b"s/1")
    lane = it.pipeline._lanes["old"]
    it.pipeline.change_routes([route("s", "s/#", "new", key="k")])
    message = it.kafka.produced[0] if it.kafka.produced else next(iter(lane.waiting))
    it.pipeline._route_again(message, "old")
    assert message.plan.lane is lane
    assert (message.plan.kafka_topic, message.plan.key) == ("old", b"s/1")
    it.pipeline._route_again(message, "new")
    assert (message.plan.kafka_topic, message.plan.key) == ("new", b"k")
    it.pipeline._route_again(message, "nobodys")
    assert message.plan.kafka_topic == "nobodys"
    assert message.plan.lane is it.pipeline._lanes["nobodys"]
