"""What thousands of Kafka topics cost: lanes visited, questions to Kafka, lines in the log, memory."""

from collections import deque
from collections.abc import Iterator
from random import Random

import pytest
from structlog.testing import capture_logs

from bridge.delivery import pipeline as pipeline_module
from bridge.delivery.coalescing import LONGEST, PATIENCE, TOGETHER
from bridge.delivery.held_lanes import _FEW, MOST_VISITS, HeldLanes
from bridge.delivery.lanes import Lane, LaneState
from bridge.delivery.results import Hold
from bridge.delivery.spooling import ROOM_MESSAGES, ROOM_SIZE
from bridge.message import Message
from tests.unit.delivery.many import Cluster, Rows, join
from tests.unit.delivery.world import Clock, World

MANY = 1000


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The topics of the lanes that turns have visited."""
    topics: list[str] = []
    visit = HeldLanes._visit

    def counted(held: HeldLanes, lane: Lane, now: float) -> None:
        topics.append(lane.topic)
        visit(held, lane, now)

    monkeypatch.setattr(HeldLanes, "_visit", counted)
    return topics


@pytest.fixture
def world(clock: Clock) -> World:
    return join(World(receive_maximum=10_000), Cluster(Random(1)), Rows())


def kafka_of(world: World) -> Cluster:
    assert isinstance(world.kafka, Cluster)
    return world.kafka


def disk_of(world: World) -> Rows:
    assert isinstance(world.disk, Rows)
    return world.disk


def rest(world: World, clock: Clock, seconds: float = 0.0, turn_takes: float = 0.0) -> None:
    """Let everybody answer until nothing more happens, and then until so much time has passed."""
    until = clock.now + seconds
    for _ in range(5000):
        kafka_of(world).answer_all()
        kafka_of(world).report(1.0)
        disk_of(world).finish(works=True)
        due = world.pipeline.turn()
        busy = world.pipeline.has_work or disk_of(world).has_work or disk_of(world).has_reads
        busy = busy or world.kafka.in_flight or world.kafka.delivered or kafka_of(world).has_questions
        if not busy:
            if clock.now >= until:
                world.add_up()
                return
            clock.now = min(until, clock.now + max(due, 0.001))
        else:
            clock.now += turn_takes
    raise AssertionError("it never rests")


def hold(world: World, clock: Clock, why: Hold, topics: int = MANY, messages: int = 1) -> None:
    kafka_of(world).wrong |= {f"iot.{number}": why for number in range(topics)}
    for _ in range(messages):
        for number in range(topics):
            world.receive(b"site/%d" % number)
    rest(world, clock)


def test_what_comes_for_missing_topics_is_acknowledged_without_waiting_for_spool_after(
    world: World, clock: Clock
) -> None:
    before = clock.now
    hold(world, clock, Hold.MISSING)
    assert len(world.session.acknowledged) == MANY
    assert clock.now == before
    world.receive(b"site/1")
    rest(world, clock)
    assert len(world.session.acknowledged) == MANY + 1
    assert clock.now == before


@pytest.mark.parametrize("why", [Hold.MISSING, Hold.FORBIDDEN])
def test_messages_of_topics_that_wait_for_a_person_are_on_disk_alone(
    world: World, clock: Clock, why: Hold
) -> None:
    hold(world, clock, why, messages=3)
    rest(world, clock, 30.0)
    room = world.pipeline._spooling.room
    assert room.stored == 3 * MANY
    assert room.taken_messages == 0


def test_a_turn_visits_no_held_lane_to_which_nothing_has_happened(
    world: World, clock: Clock, visited: list[str]
) -> None:
    hold(world, clock, Hold.MISSING)
    world.receive()
    rest(world, clock)
    visited.clear()
    for _ in range(100):
        world.receive()
        world.kafka.deliver()
        world.pipeline.turn()
    assert visited == []
    assert len(world.kafka.produced) == 101


class Looks:
    """The pipeline's lanes. Counts how often somebody has looked at all of them."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        lanes, spooling = world.pipeline._lanes, world.pipeline._spooling
        watch = spooling.watch

        def counted(now: float, sequence: int, settled: int, _: object, flying: set[Lane]) -> list[Lane]:
            def every() -> Iterator[Lane]:
                self.count += 1
                yield from lanes.values()

            return watch(now, sequence, settled, every(), flying)

        monkeypatch.setattr(spooling, "watch", counted)


@pytest.fixture
def looks(world: World, monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(world, monkeypatch)


def test_no_look_for_late_messages_goes_over_all_lanes_while_kafka_confirms_soon(
    world: World, clock: Clock, looks: Looks
) -> None:
    hold(world, clock, Hold.MISSING)
    world.receive()
    rest(world, clock)
    looks.count = 0
    for _ in range(100):
        world.receive()
        clock.now += 0.1
        world.pipeline.turn()
        world.kafka.deliver()
        world.pipeline.turn()
    assert looks.count == 0


def test_no_look_for_late_messages_goes_over_all_lanes_while_all_that_one_topic_awaits_is_on_disk(
    world: World, clock: Clock, looks: Looks
) -> None:
    """A topic without a leader has messages in flight for as long as that lasts. They are settled."""
    hold(world, clock, Hold.MISSING)
    world.receive()
    world.receive(b"site/leaderless")
    rest(world, clock)
    kafka_of(world).leaderless = {"iot.leaderless"}
    hung = world.receive(b"site/leaderless")
    for _ in range(20):
        clock.now += 0.1
        disk_of(world).finish(works=True)
        world.pipeline.turn()
    assert hung.packet_id in world.session.acknowledged
    assert world.counts.in_flight == 0
    looks.count = 0
    for _ in range(100):
        world.receive()
        clock.now += 0.1
        world.pipeline.turn()
        kafka_of(world).report(1.0)
        world.pipeline.turn()
    assert looks.count == 0


def test_a_late_message_is_found_although_kafka_has_confirmed_soon_before(
    world: World, clock: Clock, looks: Looks
) -> None:
    world.receive(b"site/1")
    world.receive(b"site/2")
    rest(world, clock)
    hung = world.receive(b"site/1")
    for _ in range(20):  # the other topic's messages are confirmed, so that something is always settled
        quick = world.receive(b"site/2")
        world.pipeline.turn()
        clock.now += 0.1
        world.kafka.deliver(quick.packet_id)
        disk_of(world).finish(works=True)
        world.pipeline.turn()
    assert looks.count > 0
    assert hung.packet_id in world.session.acknowledged


def test_a_turn_visits_a_bounded_number_of_lanes_and_the_others_in_the_next_turns(
    world: World, clock: Clock, visited: list[str]
) -> None:
    for number in range(MANY):
        world.receive(b"site/%d" % number)
    kafka_of(world).answer_all()
    turns = 0
    while world.pipeline.has_work:
        visited.clear()
        world.pipeline.turn()
        assert len(visited) <= MOST_VISITS
        turns += 1
    assert turns >= MANY / MOST_VISITS
    assert len(world.kafka.produced) == MANY


def test_a_thousand_missing_topics_are_asked_about_at_a_bounded_rate_and_one_is_as_before(
    world: World, clock: Clock
) -> None:
    hold(world, clock, Hold.MISSING)
    rest(world, clock, 20.0)
    world.kafka.asked.clear()
    rest(world, clock, 60.0)
    assert len(world.kafka.asked) <= 60 * 30
    assert len(set(world.kafka.asked)) == MANY, "each is asked about"
    kafka_of(world).wrong = {"iot.7": Hold.MISSING}
    for number in range(MANY):
        if number != 7:
            kafka_of(world).look_up(f"iot.{number}")  # they are found together
    rest(world, clock, 10.0)
    world.kafka.asked.clear()
    rest(world, clock, 20.0)
    assert world.kafka.asked == 2 * ["iot.7"]


def test_kafka_is_asked_about_missing_topics_although_those_that_had_their_turn_first_exist_now(
    world: World, clock: Clock
) -> None:
    """A person creates 1,000 topics, a few hundred at a time. Each question may find all that exist now."""
    hold(world, clock, Hold.MISSING)
    rest(world, clock, 5.0)
    for number in range(500):
        del kafka_of(world).wrong[f"iot.{number}"]
        kafka_of(world).look_up(f"iot.{number}")  # they are found together
    rest(world, clock, 5.0)
    assert len(world.pipeline.held.lanes) == MANY - 500
    for _ in range(10):
        world.kafka.asked.clear()
        rest(world, clock, 6.0)
        assert len(world.kafka.asked) == 120


def test_topics_that_are_held_for_another_reason_meanwhile_are_asked_about(
    world: World, clock: Clock
) -> None:
    """The first message of each fails for one reason, and those behind it for another one."""
    topics = 3 * _FEW
    for _ in range(2):
        for number in range(topics):
            world.receive(b"site/%d" % number)
        kafka_of(world).answer_all()
        world.pipeline.turn()
    first, behind = list(world.kafka.in_flight)[:topics], list(world.kafka.in_flight)[topics:]
    for messages, why in ((first, Hold.REFUSED), (behind, Hold.FORBIDDEN)):
        world.kafka.in_flight = deque(messages)
        kafka_of(world).wrong = {f"iot.{number}": why for number in range(topics)}
        kafka_of(world).report(1.0)
        while world.kafka._failures or world.pipeline.has_work:
            world.pipeline.turn()
    kafka_of(world).wrong.clear()
    rest(world, clock, 30.0)
    assert world.counts.delivered == 2 * topics
    assert not world.pipeline.held.lanes


def test_a_forbidden_topic_is_asked_about_whichever_others_leave_and_join_the_many(
    world: World, clock: Clock
) -> None:
    """Each question takes a topic out of the many until Kafka refuses its message again."""
    topics = 2 * _FEW
    kafka_of(world).wrong = {f"iot.{number}": Hold.FORBIDDEN for number in range(topics)}
    for number in range(topics):
        world.receive(b"site/%d" % number)
        rest(world, clock, number % 2, turn_takes=0.003)
    rest(world, clock, 60.0, turn_takes=0.003)
    world.kafka.asked.clear()
    rest(world, clock, 30.0, turn_takes=0.003)
    assert len(set(world.kafka.asked)) == topics


def test_a_topic_that_was_found_with_others_goes_on_at_once(world: World, clock: Clock) -> None:
    hold(world, clock, Hold.MISSING)
    rest(world, clock, 5.0)
    now = clock.now
    kafka_of(world).wrong.clear()
    for number in range(MANY):
        kafka_of(world).look_up(f"iot.{number}")
    rest(world, clock)
    assert clock.now == now
    assert world.counts.delivered == MANY
    rest(world, clock, 1.0)
    assert not world.pipeline.held.lanes


def test_a_topic_that_works_drains_although_many_forbidden_ones_have_a_backlog(
    world: World, clock: Clock
) -> None:
    hold(world, clock, Hold.FORBIDDEN, topics=100, messages=300)
    rest(world, clock, 60.0)
    kafka_of(world).is_silent = True
    world.receive()
    kafka_of(world).answer_all()
    for _ in range(8):
        clock.now += 0.25
        disk_of(world).finish(works=True)
        world.pipeline.turn()
    for _ in range(2 * ROOM_MESSAGES):
        world.receive()
        if world.pipeline.counts.received % 100 == 0:
            disk_of(world).finish(works=True)
            world.pipeline.turn()
    kafka_of(world).is_silent = False
    rest(world, clock, 5.0)
    assert len(kafka_of(world).stored["sensors"]) == 2 * ROOM_MESSAGES + 1


def test_the_memory_of_all_late_lanes_together_is_bounded(world: World, clock: Clock) -> None:
    payload = bytes(4000)
    for number in range(MANY):
        world.receive(b"site/%d" % number)
    rest(world, clock)
    for round_ in range(20):
        for number in range(MANY):
            world.receive(b"site/%d" % number, payload)
        for _ in range(30):
            clock.now += 0.2 if round_ == 0 else 0.0
            disk_of(world).finish(works=True)
            world.pipeline.turn()
    in_memory = [
        len(each.payload) for lane in world.pipeline.lanes for each in (*lane.in_flight, *lane.waiting)
    ]
    assert len(world.session.acknowledged) == 21 * MANY
    assert sum(in_memory) <= 2 * ROOM_SIZE
    rest(world, clock, 5.0)
    assert world.counts.delivered == 21 * MANY
    assert not any(disk_of(world).by_topic.values())


def test_thousands_of_topics_are_a_few_lines_in_the_log(world: World, clock: Clock) -> None:
    with capture_logs() as said:
        hold(world, clock, Hold.MISSING)
        rest(world, clock, 55.0)
    assert len(said) <= 10, [(str(line["event"]), line.get("topics")) for line in said]
    missing = [line for line in said if line["event"] == "kafka.topic_missing"]
    assert sum(line.get("topics", 1) for line in missing) == MANY
    assert all(line["way_out"] == "create it" for line in missing)


# -- lanes that are forgotten -----------------------------------------------------------------------------


@pytest.fixture
def forgets(world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world with many LIVE lanes, which forgets those that are not in use."""
    monkeypatch.setattr(pipeline_module, "_LANES", 0)
    for number in range(100):
        world.receive(b"site/%d" % number)
    rest(world, clock)
    return world


def test_lanes_of_topics_that_are_not_in_use_are_forgotten(forgets: World, clock: Clock) -> None:
    for _ in range(4):
        forgets.receive(b"site/1")
        rest(forgets, clock, 60.0)
    assert [lane.topic for lane in forgets.pipeline.lanes] == ["iot.1"]


def test_as_many_lanes_are_forgotten_as_there_are_too_many_the_longest_idle_first(
    forgets: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each message of a sensor that reports every few minutes would ask Kafka about its topic."""
    monkeypatch.setattr(pipeline_module, "_LANES", 99)
    rest(forgets, clock, 70.0)
    monkeypatch.setattr(pipeline_module, "_LANES", 90)
    for number in (*range(5), 7):
        forgets.receive(b"site/%d" % number)
    rest(forgets, clock, 70.0)
    gone = {f"iot.{number}" for number in range(100)} - {lane.topic for lane in forgets.pipeline.lanes}
    assert gone == {"iot.5", "iot.6", *(f"iot.{number}" for number in range(8, 16))}


def test_a_few_lanes_are_never_forgotten(world: World, clock: Clock) -> None:
    for number in range(100):
        world.receive(b"site/%d" % number)
    rest(world, clock, 600.0)
    assert len(world.pipeline.lanes) == 100


def test_a_message_for_a_forgotten_lane_goes_the_way_of_a_new_one(forgets: World, clock: Clock) -> None:
    rest(forgets, clock, 180.0)
    assert not forgets.pipeline.lanes
    for payload in (b"1", b"2", b"3"):
        forgets.receive(b"site/1", payload)
    rest(forgets, clock)
    assert kafka_of(forgets).stored["iot.1"] == [b"v", b"1", b"2", b"3"]
    (lane,) = forgets.pipeline.lanes
    assert lane.state is LaneState.LIVE


def test_a_lane_with_messages_or_rows_is_not_forgotten(forgets: World, clock: Clock) -> None:
    kafka_of(forgets).is_silent = True
    forgets.receive(b"site/1")
    for _ in range(20):
        clock.now += 30.0
        disk_of(forgets).finish(works=True)
        forgets.pipeline.turn()
    assert [lane.topic for lane in forgets.pipeline.lanes] == ["iot.1"]
    kafka_of(forgets).is_silent = False
    rest(forgets, clock, 10.0)
    assert kafka_of(forgets).stored["iot.1"] == [b"v", b"v"]


def test_a_lane_whose_segment_is_still_being_written_is_not_forgotten(forgets: World, clock: Clock) -> None:
    """Kafka confirms its messages while the disk hangs."""
    message: Message = forgets.receive(b"site/1")
    for _ in range(8):
        clock.now += 0.25
        forgets.pipeline.turn()
    assert disk_of(forgets).has_work
    kafka_of(forgets).report(1.0)
    for _ in range(20):
        clock.now += 30.0
        forgets.pipeline.turn()
    assert message.plan.lane.state is LaneState.LIVE
    rest(forgets, clock, 10.0)
    assert not any(disk_of(forgets).by_topic.values())


def test_reports_of_messages_that_come_one_by_one_wait_until_a_few_messages_are_unacknowledged(
    world: World, clock: Clock
) -> None:
    pipeline = world.pipeline
    world.receive(b"s/1")
    rest(world, clock)
    pipeline.handed_over(1)
    for _ in range(100):
        clock.now += 0.005
        world.receive(b"s/1")
        pipeline.watch_by(clock.now)
        kafka_of(world).deliver()
        assert pipeline.relay(0.0)
        pipeline.handed_over(1)
    assert clock.now < pipeline.relay_at <= clock.now + PATIENCE
    for number in range(TOGETHER + 1):
        assert pipeline.relay_at > clock.now, number
        clock.now += 0.001
        world.receive(b"s/1")
        kafka_of(world).deliver()
    assert pipeline.relay_at < clock.now, "now they are taken together"
    before = len(world.session.acknowledged)
    assert pipeline.relay(0.0)
    assert len(world.session.acknowledged) == before + TOGETHER + 1


def test_single_reports_of_many_topics_are_taken_together_and_batches_of_one_at_once(
    world: World, clock: Clock
) -> None:
    for number in range(MANY):
        world.receive(b"site/%d" % number)
    rest(world, clock)
    for number in range(MANY):
        world.receive(b"site/%d" % number)
    for _ in range(100):
        clock.now += 0.001
        kafka_of(world).deliver(kafka_of(world).in_flight[0].packet_id)
        assert world.pipeline.relay(0.0)
    assert clock.now < world.pipeline.relay_at <= clock.now + LONGEST
    rest(world, clock, 1.0)
    for _ in range(100):
        clock.now += 0.01
        for _ in range(50):
            world.receive(b"site/1")
        kafka_of(world).deliver()
        assert world.pipeline.relay(0.0)
    assert world.pipeline.relay_at < clock.now
