"""Which messages are written to disk, acknowledged, and read back. The test sets the clock."""

import pytest

from bridge.delivery.results import Verdict
from bridge.delivery.segment import pack, unpack
from bridge.message import OpenIdentifier
from bridge.spool.store import Backlog
from tests.unit.delivery.world import LIMIT, Clock, World


@pytest.fixture
def world(clock: Clock) -> World:
    """A world whose topic `sensors` is LIVE and whose identifier 1 is settled."""
    world = World()
    world.receive()
    world.answer()
    world.kafka.deliver()
    world.turn()
    return world


def late(world: World, clock: Clock) -> None:
    """Kafka confirms nothing for longer than spool.after."""
    for _ in range(6):
        world.turn()
        clock.now += 0.25
    world.turn()


def test_what_kafka_has_not_confirmed_in_time_is_acknowledged_once_it_is_on_disk(
    world: World, clock: Clock
) -> None:
    world.disk.is_quick = False
    world.receive()
    world.receive()
    late(world, clock)
    assert world.session.acknowledged == [1]
    world.disk.commit()
    world.turn()
    assert world.session.acknowledged == [1, 2, 3]
    assert world.counts.spooled == 2
    assert world.counts.in_flight == 0


def test_a_topic_that_fills_each_commit_leaves_the_next_one_to_the_others(world: World, clock: Clock) -> None:
    world.receive(b"site/a")
    world.answer("iot.a")
    world.disk.is_small = True
    world.receive(qos=0)
    late(world, clock)
    waits = world.receive(b"site/a")
    world.disk.is_quick = False
    for _ in range(4):
        world.receive(qos=0)
        world.turn()
        world.disk.commit()
    world.turn()
    assert waits.packet_id in world.session.acknowledged


def test_what_kafka_confirms_in_time_never_sees_the_disk(world: World, clock: Clock) -> None:
    for _ in range(20):
        world.receive()
        world.turn()
        clock.now += 0.3
        world.kafka.deliver()
        world.turn()
    assert not world.disk.rows
    assert not world.disk.deleted


def test_while_kafka_is_late_what_comes_is_written_at_once(world: World, clock: Clock) -> None:
    world.receive()
    late(world, clock)
    world.receive()
    world.turn()
    assert world.session.acknowledged == [1, 2, 3]


def test_a_delivery_deletes_the_row_and_the_lane_is_live_again(world: World, clock: Clock) -> None:
    world.receive()
    late(world, clock)
    assert len(world.disk.rows) == 1
    world.kafka.deliver()
    late(world, clock)
    assert not world.disk.rows
    assert world.counts.spooled == 0
    world.receive()
    assert world.produced == [1, 2, 3]


def test_acknowledgements_stay_in_order_over_lanes_that_are_late_and_lanes_that_are_not(
    world: World, clock: Clock
) -> None:
    world.receive(b"site/a")
    world.receive()
    world.answer("iot.a")
    world.kafka.deliver(3)
    world.turn()
    assert world.session.acknowledged == [1]
    late(world, clock)
    assert world.session.acknowledged == [1, 2, 3]


def test_a_disk_that_refuses_leaves_things_as_they_are_and_is_tried_again(
    world: World, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    world.disk.is_quick = False
    world.receive()
    late(world, clock)
    world.disk.refuse()
    world.turn()
    assert world.session.acknowledged == [1]
    assert "spool.full" in capsys.readouterr().out
    world.turn()
    world.disk.commit()
    world.turn()
    assert world.session.acknowledged == [1, 2]


def test_qos_0_that_is_on_disk_takes_no_room(clock: Clock) -> None:
    world = World(qos0_messages=2)
    world.receive()
    world.answer()
    for _ in range(2):
        world.receive(qos=0)
    late(world, clock)
    world.receive(qos=0)
    assert not world.counts.dropped
    world.kafka.deliver()  # which must not settle it a second time
    world.turn()
    for _ in range(3):
        world.receive(qos=0)
    assert world.counts.dropped.total() == 1


def test_what_the_last_run_has_left_comes_before_what_is_new(clock: Clock) -> None:
    world = World()
    old = World().receive()
    old.state = 1
    world.disk.rows[old.sequence] = pack([old])
    world.pipeline.take_up([Backlog("sensors", 1, 100, old.sequence)], [])
    world.receive(payload=b"new")
    world.answer()
    world.turn()
    world.turn()
    assert [message.payload for message in world.kafka.produced] == [b"v", b"new"]
    assert world.kafka.produced[1].sequence > world.kafka.produced[0].sequence


def test_identifiers_of_the_last_run_join(clock: Clock) -> None:
    world = World()
    first = World()
    message = first.receive(qos=2, number=7)
    first.answer()
    first.kafka.deliver()
    first.turn()
    identifiers = first.pipeline.open_identifiers
    assert identifiers == [OpenIdentifier(7, message.topic, identifiers[0].digest)]
    world.pipeline.disconnected()
    world.pipeline.take_up([], identifiers)
    world.pipeline.connected(session_present=True, mqtt5=True)
    world.receive(qos=2, number=7, flags=0x08)
    assert world.counts.joined == 1


def test_a_dead_letter_of_what_was_on_disk_takes_its_row_along(world: World, clock: Clock) -> None:
    world.receive(payload=b"x" * 2 * LIMIT)
    late(world, clock)
    assert len(world.disk.rows) == 1
    world.kafka.fail(Verdict.TOO_LARGE)
    world.turn()
    world.turn()
    assert not world.disk.rows
    assert world.disk.letters == [("why", b"x" * 2 * LIMIT)]
    assert (world.counts.spooled, world.counts.dead_lettered, world.counts.in_flight) == (0, 1, 0)


def test_a_stop_reads_nothing_more(clock: Clock) -> None:
    world = World()
    old = World().receive()
    world.disk.rows[old.sequence] = pack([old])
    world.pipeline.take_up([Backlog("sensors", 1, 100, old.sequence)], [])
    world.pipeline.stop_reading()
    world.answer()
    world.turn()
    assert not world.kafka.produced
    assert world.pipeline.is_empty


def test_a_clean_stop_leaves_on_disk_only_what_kafka_does_not_hold(world: World, clock: Clock) -> None:
    for payload in (b"one", b"two", b"three"):
        world.receive(payload=payload)
    late(world, clock)
    assert len(world.disk.rows) == 1
    world.kafka.deliver(2)
    world.turn()
    world.pipeline.leave()
    world.disk.commit()
    (body,) = world.disk.rows.values()
    assert [message.payload for message in unpack(body)] == [b"two", b"three"]


def test_a_clean_stop_replaces_a_row_whose_first_message_kafka_does_not_hold(
    world: World, clock: Clock
) -> None:
    for payload in (b"one", b"two", b"three"):
        world.receive(payload=payload)
    late(world, clock)
    world.kafka.deliver(3)
    world.turn()
    world.pipeline.leave()
    world.disk.commit()
    (body,) = world.disk.rows.values()
    assert [message.payload for message in unpack(body)] == [b"one", b"three"]
