"""Topics whose partitions have no leader keep what librdkafka has of them. Other topics go on."""

from random import Random

import pytest

from bridge.delivery.lanes import LaneState
from tests.unit.delivery.many import Cluster, Rows, join
from tests.unit.delivery.world import Clock, World


def run(world: World, kafka: Cluster, disk: Rows, clock: Clock, seconds: float, step: float = 0.25) -> None:
    until = clock.now + seconds
    while clock.now < until:
        for _ in range(400):
            kafka.answer_all()
            kafka.report(1.0)
            disk.finish(True)
            world.pipeline.turn()
            if not (world.pipeline.has_work or disk.has_work or disk.has_reads or kafka.delivered):
                break
        clock.now += step


@pytest.mark.parametrize(
    ("dead", "each", "size", "at_once"),
    [(40, 1000, 100, 500), (20, 20, 900_000, 1), (400, 60, 100, 20), (60, 300, 3000, 80)],
)
def test_after_a_restart_a_topic_is_drained_beside_many_that_have_no_leader(
    clock: Clock, dead: int, each: int, size: int, at_once: int
) -> None:
    kafka, disk = Cluster(Random(1)), Rows()
    topics = [b"site/%d" % number for number in range(dead)] + [b"site/good"]
    world = join(World(receive_maximum=60_000), kafka, disk)
    for topic in topics:
        world.receive(topic)
    run(world, kafka, disk, clock, 2)
    kafka.leaderless = {topic.replace(b"site/", b"iot.").decode() for topic in topics}  # all of Kafka is away
    for _ in range(each // at_once):
        for topic in topics:
            for _ in range(at_once):
                world.receive(topic, b"x" * size)
        run(world, kafka, disk, clock, 2)
    kafka.in_flight.clear()  # the bridge ends
    kafka.leaderless.remove("iot.good")
    world = join(World(receive_maximum=60_000), kafka, disk)
    world.pipeline.take_up(disk.backlogs(), [])
    room = world.pipeline._spooling.room

    for _ in range(60):
        run(world, kafka, disk, clock, 5)
        assert room.taken_messages <= 5 * room.messages
        assert room.taken_size <= 5 * room.size
    good = world.pipeline._lanes["iot.good"]
    assert (good.undelivered, good.state) == (0, LaneState.LIVE)

    kafka.leaderless.clear()
    run(world, kafka, disk, clock, 60)
    assert world.pipeline.counts.in_flight == world.pipeline.spooled == 0
    assert all(len(kafka.stored[topic]) == 1 + each // at_once * at_once for topic in kafka.stored)


def test_large_messages_of_many_topics_fit_into_the_room(clock: Clock) -> None:
    """All lanes share it, also those that are not late yet, and rows are read within it."""
    kafka, disk = Cluster(Random(1)), Rows()
    world = join(World(receive_maximum=60_000), kafka, disk)
    topics = [b"site/%d" % number for number in range(120)]
    for topic in topics:
        world.receive(topic)
    run(world, kafka, disk, clock, 2)
    kafka.is_silent = True
    for topic in topics * 2:
        world.receive(topic, b"x" * 2_000_000)
    room = world.pipeline._spooling.room
    flying = sum(len(message.payload) for message in kafka.in_flight)
    assert flying <= room.size + 2_000_000
    run(world, kafka, disk, clock, 60)
    kafka.in_flight.clear()  # the bridge ends
    world = join(World(receive_maximum=60_000), kafka, disk)
    world.pipeline.take_up(disk.backlogs(), [])
    room = world.pipeline._spooling.room
    run(world, kafka, disk, clock, 60)
    held = sum(len(message.payload) for message in kafka.in_flight)
    assert held <= 5 * room.size

    kafka.is_silent = False
    run(world, kafka, disk, clock, 120)
    assert all(len(kafka.stored[topic.replace(b"site/", b"iot.").decode()]) == 3 for topic in topics)
