"""Delivery exactly-once, as the pipeline decides it: all through the disk, and copies join after a kill."""

import pytest

from bridge.delivery import pipeline
from bridge.delivery.journal import Standing
from bridge.delivery.lanes import LaneState
from bridge.delivery.results import NoTopicAnswer, TopicAnswer
from bridge.message import DUP
from bridge.settings import RouteSettings
from tests.unit.delivery.world import LIMIT, ROUTES, Clock, World


def _world(**settings: object) -> World:
    world = World(delivery="exactly-once", **settings)
    world.disk.is_quick = False
    world.receive(number=900)  # a lane asks Kafka about its topic first
    world.answer()
    _commit(world)
    return world


def _commit(world: World) -> None:
    world.turn()
    world.disk.commit()
    world.turn()


def _killed(world: World, **settings: object) -> World:
    after = World(delivery="exactly-once", after=world, session_present=True, **settings)
    after.disk.is_quick = False
    after.answer()
    return after


def test_a_message_is_acknowledged_and_produced_once_it_is_on_disk(clock: Clock) -> None:
    world = _world()
    world.receive(number=901)
    world.turn()
    assert 901 not in world.session.acknowledged
    assert 901 not in world.produced
    _commit(world)
    assert world.session.acknowledged == [900, 901]
    assert world.produced == [900, 901]


def test_all_goes_through_the_disk_whether_kafka_is_late_or_not(clock: Clock) -> None:
    world = _world()
    world.kafka.deliver()
    world.turn()
    world.turn()
    (lane,) = world.pipeline.lanes
    assert lane.state is LaneState.SPOOLING
    assert not lane.late
    assert not lane.spooled
    world.receive(number=901)
    clock.now += 0.5
    world.turn()
    assert world.produced == [900]
    _commit(world)
    assert world.produced == [900, 901]


def test_messages_stay_in_order_when_the_disk_refuses_some(clock: Clock) -> None:
    world = _world()
    world.receive(number=901)
    world.turn()
    world.receive(number=902)
    world.disk.refuse()
    world.turn()
    _commit(world)
    _commit(world)
    assert world.produced == [900, 901, 902]
    assert world.session.acknowledged == [900, 901, 902]


def test_qos_0_goes_through_the_disk_too(clock: Clock) -> None:
    world = _world()
    world.receive(qos=0)
    world.turn()
    assert world.produced == [900]
    _commit(world)
    assert world.produced == [900, 0]


def test_pubcomp_waits_until_the_disk_has_the_pubrel(clock: Clock) -> None:
    world = _world()
    world.receive(number=901, qos=2)
    _commit(world)
    world.release(901)
    world.turn()
    assert world.session.completed == []
    _commit(world)
    assert world.session.completed == [(901, True)]


def test_a_pubrel_of_a_connection_that_has_ended_gets_no_pubcomp(clock: Clock) -> None:
    world = _world()
    world.receive(number=901, qos=2)
    _commit(world)
    world.release(901)
    world.turn()
    world.pipeline.disconnected()
    world.connect(session_present=True)
    world.disk.commit()
    world.turn()
    assert world.session.completed == []
    world.release(901)  # the broker sends it again
    _commit(world)
    assert world.session.completed == [(901, False)]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_resend_joins_after_a_kill(clock: Clock, qos: int) -> None:
    world = _world()
    for number in (901, 902, 903):
        world.receive(number=number, qos=qos)
    _commit(world)
    world.kafka.deliver()
    world.turn()
    after = _killed(world)
    for number in (902, 903):
        after.receive(number=number, qos=qos, flags=DUP)
    after.receive(number=904, qos=qos)
    after.answer()
    _commit(after)
    assert after.counts.joined == 2
    assert after.session.acknowledged == [902, 903, 904]
    assert after.produced == [904]


def test_what_was_not_on_disk_is_taken_again_after_a_kill(clock: Clock) -> None:
    world = _world()
    world.receive(number=901)
    world.turn()
    after = _killed(world)
    after.receive(number=901, flags=DUP)
    _commit(after)
    assert after.counts.joined == 0
    assert after.session.acknowledged == [901]


def test_a_message_with_other_content_never_joins_after_a_kill(clock: Clock) -> None:
    world = _world()
    world.receive(number=901, payload=b"on")
    _commit(world)
    after = _killed(world)
    after.receive(number=901, payload=b"off", flags=DUP)
    assert after.counts.joined == 0


def test_a_released_identifier_never_joins_after_a_kill(clock: Clock) -> None:
    world = _world()
    world.receive(number=901, qos=2)
    _commit(world)
    world.release(901)
    _commit(world)
    after = _killed(world)
    after.receive(number=901, qos=2, flags=DUP)
    assert after.counts.joined == 0


def test_a_dead_letter_is_kept_once_although_it_comes_again_after_a_kill(clock: Clock) -> None:
    world = _world()
    world.receive(b"nowhere/1", number=901)
    _commit(world)
    assert world.counts.dead_lettered == 1
    after = _killed(world)
    after.receive(b"nowhere/1", number=901, flags=DUP)
    _commit(after)
    assert after.counts.joined == 1
    assert after.disk.letters == []


def test_a_lost_session_is_forgotten_on_disk_before_the_bridge_subscribes(clock: Clock) -> None:
    world = _world()
    world.pipeline.disconnected()
    world.connect(session_present=False)
    assert world.disk.standings[-2:] == [(Standing.ASKED, False), (Standing.KNOWN, True)]
    assert not world.disk.received


def test_a_session_that_another_client_has_used_is_forgotten_on_disk(clock: Clock) -> None:
    world = _world()
    world.pipeline.taken_over()
    assert world.disk.standings[-1][1]
    assert not world.disk.received


def test_the_default_mode_takes_up_what_exactly_once_has_left(clock: Clock) -> None:
    world = _world()
    world.receive(number=901, qos=2)
    world.receive(number=902)
    _commit(world)
    after = World(after=world, session_present=True)
    after.receive(number=901, qos=2, flags=DUP)
    after.receive(number=902, flags=DUP)
    assert after.counts.joined == 2


def test_a_stop_leaves_rows_their_names(clock: Clock) -> None:
    """The intent of a transaction names a row by its first message."""
    world = _world()
    world.receive(number=901)
    world.receive(number=902)
    _commit(world)
    before = dict(world.disk.rows)
    world.kafka.deliver(901)
    world.turn()
    world.pipeline.leave()
    world.disk.commit()
    assert world.disk.rows == before


def test_a_topic_without_messages_is_forgotten_where_there_are_too_many(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_LANES", 0)
    world = _world()
    for _ in range(3):
        clock.now += 61
        world.turn()
    assert [lane.topic for lane in world.pipeline.lanes] == ["sensors"]  # Kafka has not confirmed its message
    world.kafka.deliver()
    for _ in range(5):
        clock.now += 61
        world.turn()
    assert not world.pipeline.lanes
    assert not world.pipeline.held.lanes
    world.receive(number=901)
    world.answer()
    _commit(world)
    assert world.produced == [900, 901]


def test_a_message_that_is_on_disk_is_in_flight_and_may_be_late_until_kafka_has_it(clock: Clock) -> None:
    world = _world()
    (lane,) = world.pipeline.lanes
    assert world.session.acknowledged == [900]
    assert not world.pipeline.is_empty, "a stop waits for its transaction"
    for _ in range(15):
        clock.now += 0.1
        world.turn()
    assert lane.late
    world.kafka.deliver()
    for _ in range(15):
        clock.now += 0.1
        world.turn()
    assert world.pipeline.is_empty
    assert not lane.late


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside another topic"])
def test_a_held_lane_is_seen_to_wait_although_nothing_of_it_is_in_flight(clock: Clock, others: bool) -> None:
    """All that it has is on disk and acknowledged."""
    other = RouteSettings(name="other", filter="o/#", topic="o")
    world = World(delivery="exactly-once", routes=[*ROUTES, other])
    world.receive()
    held = next(iter(world.pipeline.lanes))
    for _ in range(25):
        clock.now += 0.1
        if others:
            world.receive(b"o/1")
        for topic in world.kafka.asked:
            exists = TopicAnswer(topic, exists=True, limit=LIMIT)
            world.kafka.answers.append(exists if topic == "o" else NoTopicAnswer(topic, "no leader"))
        world.kafka.asked.clear()
        for _ in range(3):
            world.turn()
            world.kafka.deliver()
    assert world.pipeline.is_empty, "a stop does not wait for it"
    assert held.state is LaneState.HELD
    assert held.undelivered == 1
    assert held.waits, "the page and the metrics count it"


def test_a_large_message_that_was_read_back_is_produced_although_nothing_else_happens(clock: Clock) -> None:
    """It is alone, so no report has the lane visited once more."""
    world = _world()
    world.kafka.deliver()
    world.turn()
    world.receive(number=901, payload=b"x" * (LIMIT + 1))
    _commit(world)
    for _ in range(3):
        world.turn()
    assert world.kafka.probed == [901]
