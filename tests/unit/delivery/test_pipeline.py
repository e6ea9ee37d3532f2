"""The pipeline between a session that records acknowledgements and a scripted Kafka."""

import time

import pytest
from structlog.testing import capture_logs

from bridge.delivery import pipeline as pipeline_module
from bridge.delivery.lanes import CAUTIOUS_LIMIT
from bridge.delivery.plans import Plans
from bridge.delivery.results import Failure, NoTopicAnswer, TopicAnswer, Verdict
from bridge.message import DUP, NO_TIMESTAMP, Message, Release
from bridge.observe import repeated
from bridge.routing import router as router_module
from bridge.routing.router import Router
from bridge.settings import RouteSettings
from tests.unit.delivery.world import LIMIT, ROUTES, World


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "is_believable", lambda: True)


@pytest.fixture
def world(_clock: None) -> World:
    """A world whose pipeline already asked Kafka about the topic `sensors`."""
    world = World()
    world.receive()
    world.answer()
    world.kafka.deliver()
    world.turn()
    assert world.session.acknowledged == [1]
    return world


# -- the straight way ------------------------------------------------------------------------------------


def test_nothing_is_acknowledged_before_kafka_has_it(world: World) -> None:
    world.receive()
    world.turn()
    assert world.session.acknowledged == [1]
    world.kafka.deliver()
    world.turn()
    assert world.session.acknowledged == [1, 2]
    assert world.pipeline.is_empty


def test_acknowledgements_leave_in_order_of_arrival_whatever_kafka_confirms_first(world: World) -> None:
    for _ in range(3):
        world.receive()
    world.kafka.deliver(4)
    world.turn()
    assert world.session.acknowledged == [1]
    world.kafka.deliver(2)
    world.turn()
    assert world.session.acknowledged == [1, 2]
    world.kafka.deliver()
    world.turn()
    assert world.session.acknowledged == [1, 2, 3, 4]


def test_a_topic_is_asked_about_before_its_first_message_is_produced() -> None:
    world = World()
    for _ in range(3):
        world.receive()
    world.turn()
    assert world.produced == []
    assert world.kafka.asked == ["sensors"]
    world.answer()
    assert world.produced == [1, 2, 3]


def test_each_topic_has_its_own_lane() -> None:
    world = World()
    world.receive(b"site/a")
    world.receive(b"site/b")
    world.answer("iot.b")
    assert world.produced == [2]


def test_a_record_has_the_time_of_receipt(world: World) -> None:
    before = time.time_ns() // 1_000_000
    assert before <= world.receive().timestamp <= time.time_ns() // 1_000_000


def test_a_clock_that_jumps_to_before_this_release_is_noticed_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.receive().timestamp != NO_TIMESTAMP
    monkeypatch.setattr("bridge.delivery.pipeline.time.time_ns", lambda: 0)
    assert world.receive().timestamp == NO_TIMESTAMP


def test_while_the_clock_is_wrong_a_record_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(pipeline_module, "is_believable", lambda: False)
    world.turn()
    assert world.receive().timestamp == NO_TIMESTAMP


# -- what is not produced --------------------------------------------------------------------------------


def test_what_no_route_takes_is_given_up_and_acknowledged_in_its_turn(world: World) -> None:
    world.receive()
    world.receive(b"elsewhere")
    world.turn()
    assert world.session.acknowledged == [1]
    world.kafka.deliver()
    world.turn()
    assert world.session.acknowledged == [1, 2, 3]
    assert world.counts.dead_lettered == 1


def test_what_is_dropped_by_a_route_is_acknowledged(world: World) -> None:
    world.receive(b"s/debug")
    assert world.pipeline.has_work
    world.turn()
    assert world.session.acknowledged == [1, 2]
    assert world.counts.skipped == 1


def test_a_retained_message_is_skipped_where_the_route_says_so() -> None:
    world = World()
    world.receive(b"fresh/1", flags=1)
    world.turn()
    assert world.session.acknowledged == [1]
    assert world.counts.skipped == 1
    assert world.produced == []


def test_an_empty_message_is_skipped_where_the_route_says_so_and_the_others_are_not() -> None:
    world = World()
    for payload in (b"", b"1", b"", b"2"):
        world.receive(b"full/1", payload=payload)
    world.answer("full")
    world.kafka.deliver()
    world.turn()
    assert world.session.acknowledged == [1, 2, 3, 4]
    assert world.counts.skipped == 2
    assert world.produced == [2, 4]


def test_many_messages_without_a_route_are_a_few_lines_and_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[dict[str, object]] = []
    monkeypatch.setattr(repeated, "log", lambda _, **fields: lines.append(fields))
    world = World()
    for _ in range(1500):
        world.receive(b"elsewhere/1", qos=0)
    world.turn()
    world.pipeline.log_repeated()
    assert len(lines) == repeated.LINES + 1
    assert lines[-1]["more"] == 1500 - repeated.LINES


def test_a_topic_that_is_no_utf8_is_given_up(world: World) -> None:
    world.receive(b"s/\xff")
    world.turn()
    assert world.session.acknowledged == [1, 2]
    assert world.counts.dead_lettered == 1


def test_what_fails_at_once_is_not_overtaken_by_what_was_read_with_it(world: World) -> None:
    world.kafka.refuses_once = {3: Verdict.NOT_NOW}
    world.pipeline.receive([Message.of(b"s/1", 1 << 1, number, None, b"v") for number in (2, 3, 4)])
    assert world.produced == [1, 2]


# -- copies ----------------------------------------------------------------------------------------------


def test_a_copy_on_the_same_connection_is_not_produced_again(world: World) -> None:
    world.receive()
    world.receive(flags=DUP, number=2)
    assert world.produced == [1, 2]
    assert world.counts.joined == 1


def test_what_came_on_an_earlier_connection_is_never_acknowledged(world: World) -> None:
    world.receive()
    world.pipeline.disconnected()
    world.pipeline.connected(session_present=False, mqtt5=True)
    world.kafka.deliver()
    world.turn()
    assert world.session.acknowledged == [1]
    assert world.pipeline.is_empty


def test_what_was_left_in_the_last_read_of_a_broken_connection_delays_nobody(world: World) -> None:
    world.pipeline.disconnected()
    late = world.receive()
    world.turn()
    world.pipeline.connected(session_present=True, mqtt5=True)
    number = world.receive().packet_id
    world.kafka.deliver(number)
    world.turn()
    assert late.packet_id not in world.session.acknowledged
    assert world.session.acknowledged == [1, number]


def test_a_connection_may_break_in_the_middle_of_a_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel does not accept the PUBCOMP."""
    monkeypatch.setattr(world.session, "complete", lambda *_: world.pipeline.disconnected())
    first, second = (Message.of(b"s/1", 1 << 1, number, None, b"v") for number in (2, 3))
    world.pipeline.receive([first, Release(9), second])
    assert world.produced == [1, 2, 3]
    world.kafka.deliver()
    world.turn()
    world.pipeline.connected(session_present=True, mqtt5=True)
    world.turn()
    assert world.session.acknowledged == [1]
    assert world.pipeline.is_empty


def test_pubrel_is_always_completed(world: World) -> None:
    number = world.receive(qos=2).packet_id
    world.kafka.deliver()
    world.turn()
    world.pipeline.receive([Release(number), Release(number)])
    assert world.session.completed == [(number, True), (number, False)]


# -- QoS 0 -----------------------------------------------------------------------------------------------


def test_qos_0_beyond_its_bound_is_dropped_and_counted() -> None:
    world = World(qos0_messages=2)
    for _ in range(3):
        world.receive(qos=0)
    assert world.counts.dropped == {"qos0_limit": 1}
    world.answer()
    world.kafka.deliver()
    world.turn()
    assert world.pipeline.is_empty
    world.receive(qos=0)
    assert world.counts.dropped.total() == 1


def test_qos_0_is_bounded_in_bytes_of_topics_and_payloads() -> None:
    world = World(qos0_bytes=100)
    world.receive(payload=b"x" * 97, qos=0)
    world.receive(payload=b"", qos=0)
    assert world.counts.dropped.total() == 1
    world.answer()
    world.kafka.deliver()
    world.turn()
    world.receive(payload=b"x" * 97, qos=0)
    assert world.counts.dropped.total() == 1


def test_qos_0_that_is_skipped_or_given_up_takes_no_room() -> None:
    world = World(qos0_messages=1)
    for topic in (b"s/debug", b"elsewhere", b"s/debug"):
        world.receive(topic, qos=0)
        world.turn()
    assert not world.counts.dropped


def test_the_bound_of_qos_0_is_none_for_qos_1() -> None:
    world = World(qos0_messages=0)
    world.receive(qos=1)
    assert not world.counts.dropped


# -- what Kafka can't take now ---------------------------------------------------------------------------


def after(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.monotonic() + seconds
    monkeypatch.setattr(pipeline_module.time, "monotonic", lambda: now)


def test_a_missing_topic_is_asked_about_again_and_its_messages_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.disk.accepts = False  # the message waits in memory
    world.receive()
    world.kafka.answers.append(TopicAnswer("sensors", exists=False, way_out="create it"))
    assert 0 < world.turn() <= 0.5
    assert world.kafka.asked == ["sensors"]
    after(monkeypatch, 0.6)
    world.turn()
    assert world.kafka.asked == ["sensors"] * 2
    world.answer()
    assert world.produced == [1]


def test_a_kafka_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.receive()
    world.kafka.answers.append(NoTopicAnswer("sensors", "timed out"))
    world.turn()
    after(monkeypatch, 0.6)
    world.turn()
    assert world.kafka.asked == ["sensors"] * 2


def test_what_failed_for_now_is_produced_again_in_its_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.receive()
    world.receive()
    world.kafka.fail(Verdict.NOT_NOW)
    world.turn()
    world.receive()
    assert world.produced == [1, 2, 3]
    after(monkeypatch, 0.6)
    world.turn()
    world.answer()
    assert world.produced == [1, 2, 3, 2]  # alone, to test whether Kafka accepts it now
    world.kafka.deliver()
    world.turn()
    assert world.produced == [1, 2, 3, 2, 3, 4]
    world.kafka.deliver()
    world.turn()
    assert world.session.acknowledged == [1, 2, 3, 4]


@pytest.mark.parametrize("verdict", [Verdict.NOT_NOW, Verdict.INVALID, Verdict.TOO_LARGE])
def test_what_kafka_stored_behind_a_refused_batch_is_logged(verdict: Verdict) -> None:
    """Its reports may come in the same turn."""
    world = World()
    for _ in range(2):
        world.receive()
    world.answer()
    refused = list(world.kafka.in_flight)
    for _ in range(3):
        world.receive()
    world.kafka.in_flight.clear()
    world.kafka._failures += [Failure(each, verdict, "why") for each in refused]
    world.kafka.delivered += world.kafka.produced[2:]
    with capture_logs() as said:
        world.turn()
    (line,) = [line for line in said if line["event"] == "kafka.reordered"]
    assert (line["topic"], line["messages"]) == ("sensors", 3)
    assert world.counts.delivered == 3


@pytest.mark.parametrize("verdict", [Verdict.NOT_NOW, Verdict.INVALID, Verdict.TOO_LARGE])
def test_what_is_refused_at_once_ends_neither_the_loop_nor_the_message(
    world: World, monkeypatch: pytest.MonkeyPatch, verdict: Verdict
) -> None:
    world.kafka.refuses = verdict
    world.receive()
    world.turn()
    world.kafka.refuses = None
    after(monkeypatch, 0.6)
    for _ in range(3):
        world.turn()
        world.answer()
        world.kafka.deliver()
    world.turn()
    assert world.session.acknowledged == [1, 2]


def test_one_topic_that_is_held_holds_no_other(world: World) -> None:
    world.receive(b"site/missing", qos=0)
    world.receive(qos=0)
    assert len(world.kafka.produced) == 2


def test_while_a_topic_is_held_the_loop_sleeps(world: World) -> None:
    world.receive()
    world.kafka.fail(Verdict.NOT_NOW)
    world.turn()
    assert 0 < world.turn() <= 0.5
    assert not world.pipeline.has_work


# -- what Kafka can never take ---------------------------------------------------------------------------


def test_what_exceeds_the_limit_goes_alone(world: World) -> None:
    world.receive()
    world.receive(payload=b"x" * 2 * LIMIT)
    world.receive()
    assert world.produced == [1, 2]
    world.kafka.deliver()
    world.turn()
    assert world.produced == [1, 2, 3]
    assert world.kafka.probed == [3]
    world.kafka.deliver()
    world.turn()
    assert world.produced == [1, 2, 3, 4]


def test_a_large_message_on_an_idle_topic_does_not_wait_for_anything(world: World) -> None:
    world.receive(payload=b"x" * 2 * LIMIT)
    assert world.pipeline.has_work
    world.turn()
    assert world.produced == [1, 2]


def test_what_is_too_large_alone_is_given_up_and_acknowledged(world: World) -> None:
    world.receive(payload=b"x" * 2 * LIMIT)
    world.turn()
    world.kafka.fail(Verdict.TOO_LARGE)
    world.turn()
    assert world.session.acknowledged == [1, 2]
    assert world.counts.dead_lettered == 1


def test_what_is_refused_in_company_is_tried_alone_before_it_is_given_up(world: World) -> None:
    for _ in range(3):
        world.receive()
    world.kafka.fail(Verdict.INVALID)
    world.turn()
    assert world.counts.dead_lettered == 0
    for number in (2, 3, 4):
        assert world.produced[-1] == number
        if number == 3:
            world.kafka.fail(Verdict.INVALID)
        else:
            world.kafka.deliver()
        world.turn()
    assert world.counts.dead_lettered == 1
    assert world.session.acknowledged == [1, 2, 3, 4]


def test_a_limit_that_was_lowered_is_asked_for(world: World) -> None:
    world.receive()
    world.kafka.fail(Verdict.TOO_LARGE)
    world.turn()
    assert world.kafka.asked == ["sensors"] * 2


def test_no_answer_about_the_limit_of_a_lane_that_goes_on_is_not_said_to_hold_it(world: World) -> None:
    world.receive()
    world.kafka.fail(Verdict.TOO_LARGE)
    world.kafka.answers.append(NoTopicAnswer("sensors", "timed out"))
    with capture_logs() as logged:
        world.turn()
    assert "kafka.lane_held" not in [entry["event"] for entry in logged]


def test_a_timestamp_that_is_refused_is_left_out(world: World) -> None:
    message = world.receive()
    world.kafka.fail(Verdict.BAD_TIMESTAMP)
    world.turn()
    world.kafka.fail(Verdict.BAD_TIMESTAMP)  # refused alone too
    world.turn()
    assert message.timestamp == NO_TIMESTAMP
    world.kafka.deliver()
    world.turn()
    assert world.counts.dead_lettered == 0
    assert world.session.acknowledged == [1, 2]


def test_a_wrong_clock_is_said_once_and_later_records_go_without_timestamp(world: World) -> None:
    """Each of them would be refused, alone, and sent again: a tenth of the speed."""
    world.receive()
    with capture_logs() as said:
        world.kafka.fail(Verdict.BAD_TIMESTAMP)
        world.turn()
        world.kafka.fail(Verdict.BAD_TIMESTAMP)
        world.turn()
        world.kafka.deliver()
        world.turn()
        later = [world.receive() for _ in range(3)]
    (line,) = [line for line in said if line["event"] == "kafka.timestamps_refused"]
    assert line["topic"] == "sensors"
    assert "clock" in line["reason"]
    assert "LogAppendTime" in line["reason"]
    assert line["record_timestamp"].startswith("20")
    assert list(world.kafka.in_flight) == later, "nothing is alone"
    assert {message.timestamp for message in later} == {NO_TIMESTAMP}


def refuse_the_clock(world: World) -> None:
    """A message alone is refused for its timestamp, and taken without one."""
    world.receive()
    for _ in range(2):
        world.kafka.fail(Verdict.BAD_TIMESTAMP)
        world.turn()
    world.kafka.deliver()
    world.turn()


def test_a_clock_that_was_set_gives_records_their_timestamps_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_the_clock(world)
    after(monkeypatch, 61.0)
    world.turn()
    tried = world.receive()
    world.turn()
    assert tried.timestamp > 0
    world.kafka.deliver()
    world.turn()
    assert world.receive().timestamp > 0
    with capture_logs() as said:
        after(monkeypatch, 61.0)
        world.turn()
    assert [line["event"] for line in said] == ["kafka.timestamps_taken"]


def test_a_record_without_a_timestamp_does_not_prove_that_the_topic_takes_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_the_clock(world)
    monkeypatch.setattr(pipeline_module, "is_believable", lambda: False)
    after(monkeypatch, 61.0)
    world.turn()
    with capture_logs() as said:
        world.receive()
        world.turn()
        world.kafka.deliver()
        after(monkeypatch, 61.0)
        world.turn()
    assert "kafka.timestamps_taken" not in [line["event"] for line in said]


def test_what_waited_too_long_is_no_wrong_clock(world: World) -> None:
    message = world.receive()
    message.timestamp -= 86_400_000
    with capture_logs() as said:
        world.kafka.fail(Verdict.BAD_TIMESTAMP)
        world.turn()
        world.kafka.fail(Verdict.BAD_TIMESTAMP)
        world.turn()
    assert "waited on disk" in next(line["reason"] for line in said if "timestamps" in line["event"])
    world.kafka.deliver()
    world.turn()
    assert world.receive().timestamp > 0


def test_a_topic_that_does_not_tell_its_limit_has_kafkas_default() -> None:
    world = World()
    world.receive(payload=b"x" * (CAUTIOUS_LIMIT - 500))
    world.receive(payload=b"x" * CAUTIOUS_LIMIT)
    world.answer(limit=None)
    assert world.produced == [1]


# -- another producer --------------------------------------------------------------------------------------


def test_a_producer_that_is_lost_loses_nothing(world: World) -> None:
    world.receive()
    world.receive(b"s/2", qos=0)
    world.kafka.fail(Verdict.PRODUCER_LOST)
    world.turn()
    assert world.session.acknowledged == [1]
    world.kafka.is_broken = True
    world.turn()
    assert world.kafka.rebuilt == 1
    assert world.produced == [1, 2, 0, 2, 0]
    world.kafka.deliver()
    world.turn()
    assert world.session.acknowledged == [1, 2]
    assert world.pipeline.is_empty


def test_a_successor_waits_for_what_is_in_flight_of_the_same_topic(world: World) -> None:
    world.receive()
    world.receive(b"site/a")
    world.kafka.wants_successor = True
    world.answer("iot.a")
    assert world.kafka.retired == 1
    assert world.produced == [1, 2, 3]
    world.receive()
    assert world.produced == [1, 2, 3]
    assert world.turn() > 0
    world.kafka.deliver(2)
    world.turn()
    assert world.produced == [1, 2, 3, 4]


# -- plans -------------------------------------------------------------------------------------------------


def test_topics_without_end_take_no_memory_without_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.pipeline, "_plans", Plans(room=10_000))
    for number in range(25):
        world.receive(b"s/%d" % number)
    assert 1 <= len(world.pipeline._plans.by_key) <= 12
    world.kafka.deliver()
    world.turn()
    assert world.pipeline.is_empty


def test_a_filter_that_is_refused_makes_other_plans(world: World) -> None:
    subscriptions = world.pipeline.subscriptions(refused=())
    assert "s/#" in {each.filter for each in subscriptions}
    assert "s/#" not in {each.filter for each in world.pipeline.subscriptions(refused=("s/#",))}
    assert not world.pipeline._plans.by_key


def test_a_connection_compares_no_routes_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 10,000 routes that takes half a second, in which no message flows."""
    before = world.pipeline.subscriptions(refused=())
    refusing = world.pipeline.subscriptions(refused=("s/#",))
    monkeypatch.delattr(router_module, "_widest")
    assert world.pipeline.subscriptions(refused=("s/#",)) is refusing
    assert world.pipeline.subscriptions(refused=()) is before
    assert world.pipeline.subscriptions(refused=("s/#",)) is refusing


def test_a_reload_compares_no_routes_in_the_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    routes = [*ROUTES, RouteSettings(name="more", filter="more/#", topic="more")]
    router = Router(routes)
    monkeypatch.delattr(router_module, "_widest")
    assert world.pipeline.change_routes(routes, router) == ""
    assert "more/#" in {each.filter for each in world.pipeline.subscriptions(refused=())}


def test_limits_that_are_lowered_again_and_again_leave_nothing_in_memory() -> None:
    world = World()
    world.receive()
    world.answer(limit=1000)
    world.kafka.deliver()
    world.turn()
    for limit in (900, 899, 898):
        for _ in range(50):
            world.receive(payload=b"x" * 100)
        world.kafka.fail(Verdict.TOO_LARGE)
        world.turn()
        world.answer(limit=limit)
        while world.kafka.in_flight or world.kafka.delivered:
            world.kafka.deliver()
            world.turn()
    assert len(world.pipeline._lanes["sensors"]._cleared) <= 50
