"""What the documentation promises for a late Kafka: memory, duplicates after a crash, the rate of a slow
disk, rows that cannot be read, or not yet. The test sets the clock.
"""

import pytest

from bridge.delivery.results import Moved
from bridge.delivery.segment import MOST_MESSAGES, Segment, cut, pack, unpack
from bridge.message import Message
from bridge.spool.store import Backlog
from tests.unit.delivery.world import Clock, World

ROOM, ROOM_BYTES = 8192, 16_000_000
WINDOW = 32


def silent(clock: Clock, *topics: bytes) -> World:
    """Kafka has confirmed that the topics exist, and is silent since."""
    world = World()
    for topic in topics:
        world.receive(topic)
        world.answer("sensors" if topic.startswith(b"s/") else f"iot.{topic[5:].decode()}", 10**6)
    for _ in range(6):
        clock.now += 0.25
        world.turn()
    return world


def publish(world: World, messages: int, topic: bytes = b"s/1", payload: bytes = b"v") -> None:
    for _ in range(messages // WINDOW):
        for _ in range(WINDOW):
            world.receive(topic, payload)
        world.turn()
    world.turn()


def stored(messages: int) -> tuple[dict[int, bytes], Backlog]:
    """Rows that an earlier run has left on disk."""
    left = []
    for number in range(1, messages + 1):
        message = Message.of(b"s/1", 2, 0, None, b"v")
        message.sequence, message.timestamp, message.state = number, 1_700_000_000_000, 1
        left.append(message)
    rows = {segment.first: pack(segment.messages) for segment in cut(left)}
    return rows, Backlog("sensors", messages, 0, messages)


# -- memory ----------------------------------------------------------------------------------------------


def test_of_what_kafka_does_not_confirm_a_bounded_part_is_in_memory_and_the_rest_on_disk_alone(
    clock: Clock,
) -> None:
    world = silent(clock, b"s/1")
    publish(world, 3 * ROOM)
    assert len(world.session.acknowledged) == 3 * ROOM + 1
    assert ROOM <= len(world.kafka.in_flight) < ROOM + MOST_MESSAGES


def test_large_messages_are_bounded_by_their_bytes(clock: Clock) -> None:
    world = silent(clock, b"s/1")
    publish(world, 640, payload=b"x" * 100_000)
    assert len(world.session.acknowledged) == 641
    in_flight = sum(len(message.payload) for message in world.kafka.in_flight)
    assert ROOM_BYTES <= in_flight < ROOM_BYTES + WINDOW * 100_000


def test_topics_that_are_late_together_share_the_bound(clock: Clock) -> None:
    topics = [b"s/1", b"site/a", b"site/b", b"site/c"]
    world = silent(clock, *topics)
    for _ in range(ROOM // WINDOW):
        for topic in topics:
            publish(world, WINDOW, topic)
    assert len(world.kafka.in_flight) < ROOM + len(topics) * MOST_MESSAGES


def test_a_topic_that_becomes_late_after_another_adds_no_more_than_its_share(clock: Clock) -> None:
    world = silent(clock, b"s/1")
    publish(world, 2 * ROOM)
    world.receive(b"site/a")
    world.answer("iot.a", 10**6)
    for _ in range(6):
        clock.now += 0.25
        world.turn()
    publish(world, 2 * ROOM, b"site/a")
    share = (ROOM // 4) * 4 // 5  # four fifths of what the first has left free
    assert ROOM + share <= len(world.kafka.in_flight) < ROOM + share + 2 * MOST_MESSAGES


# -- a crash ---------------------------------------------------------------------------------------------


def test_a_crash_delivers_again_no_more_than_the_rest_of_a_segment_that_was_begun(clock: Clock) -> None:
    world = World()
    world.disk.rows, backlog = stored(3000)
    world.pipeline.take_up([backlog], [])
    world.answer()
    for _ in range(3):
        world.turn()
    confirmed = [world.kafka.in_flight.popleft() for _ in range(1234)]
    world.kafka.delivered += confirmed
    world.turn()
    world.turn()
    held = {message.sequence for message in confirmed}
    again = [m.sequence for row in world.disk.rows.values() for m in unpack(row) if m.sequence in held]
    assert again == list(range(1001, 1235))
    assert len(again) < MOST_MESSAGES


# -- the disk --------------------------------------------------------------------------------------------


def test_one_commit_takes_all_that_came_during_the_one_before(clock: Clock) -> None:
    world = silent(clock, b"s/1")
    world.disk.is_quick = False
    world.receive()
    world.turn()
    world.disk.accepts = False  # the disk is busy
    for _ in range(WINDOW - 1):
        world.receive()
        world.turn()
    world.disk.commit()
    world.disk.accepts = True
    world.turn()
    assert len(world.session.acknowledged) == 2
    segments: list[Segment] = [segment for _, segment, _ in world.disk._writing]
    assert [segment.count for segment in segments] == [WINDOW - 1]
    world.disk.commit()
    world.turn()
    assert len(world.session.acknowledged) == 1 + WINDOW


def test_a_full_spool_says_how_long_emq_s_queue_lasts(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    world = silent(clock, b"s/1")
    for _ in range(100):
        world.receive()
        clock.now += 0.1
        world.turn()
    world.disk.is_quick = False
    world.receive()
    world.turn()
    world.disk.refuse()
    world.turn()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "spool.full" in line]
    assert 90 <= int(line.partition("emq_queue_lasts_seconds=")[2].split()[0]) <= 110


def test_a_dead_letter_that_the_disk_does_not_take_waits_and_is_not_acknowledged(clock: Clock) -> None:
    world = silent(clock, b"s/1")
    world.disk.is_quick = False
    world.receive(b"elsewhere")
    world.turn()
    world.disk.refuse()
    world.turn()
    assert (len(world.session.acknowledged), world.counts.dead_lettered) == (1, 0)
    world.turn()
    world.disk.commit()
    world.turn()
    assert (len(world.session.acknowledged), world.counts.dead_lettered) == (2, 1)


def test_what_cannot_be_read_is_left_to_the_next_start_and_holds_up_nobody(clock: Clock) -> None:
    world = World()
    _, backlog = stored(10)
    world.pipeline.take_up([backlog], [])
    world.receive(payload=b"new")
    world.answer()
    for _ in range(3):
        world.turn()
    assert [message.payload for message in world.kafka.produced] == [b"new"]
    assert (world.counts.unreadable, world.counts.spooled) == (10, 1)


# -- other routes ----------------------------------------------------------------------------------------


def moving(clock: Clock) -> World:
    """It is not yet known which messages on disk belong to which topic."""
    world = World(moves=True)
    world.pipeline.take_up([Backlog("what it was called", 10, 1000, 10)], [])
    return world


def test_while_what_is_on_disk_is_moved_what_comes_goes_there_and_is_acknowledged(clock: Clock) -> None:
    world = moving(clock)
    first = world.receive(payload=b"new")
    world.answer()
    world.turn()
    assert world.session.acknowledged == [1]
    assert not world.kafka.produced
    assert first.sequence > 10
    assert world.kafka.asked == ["sensors"], "the bridge must not ask for the topic's earlier name"


def test_what_was_moved_comes_before_what_came_since(clock: Clock) -> None:
    world = moving(clock)
    world.receive(payload=b"new")
    world.receive(b"site/a")
    world.answer()
    world.answer("iot.a")
    rows, backlog = stored(10)
    world.disk.rows |= rows
    world.disk.results.append(Moved([backlog]))
    for _ in range(4):
        world.turn()
    assert [message.sequence for message in world.kafka.produced if message.topic != b"site/a"] == [
        *range(1, 12)
    ]
    assert len(world.kafka.produced) == 12, "a topic without rows must go on too"
    world.kafka.deliver()
    for _ in range(3):
        world.turn()
    assert not world.disk.rows
    assert (world.counts.restored, world.counts.delivered, world.counts.in_flight) == (10, 12, 0)


def test_a_stop_while_it_is_moved_leaves_it_to_the_next_start(clock: Clock) -> None:
    world = moving(clock)
    world.receive()
    world.turn()
    asked = list(world.kafka.asked)
    world.pipeline.stop_reading()
    world.disk.results.append(Moved([Backlog("another", 10, 1000, 10)]))
    world.turn()
    assert world.pipeline.is_empty
    assert world.kafka.asked == asked
