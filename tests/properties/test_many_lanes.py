"""The pipeline with hundreds of Kafka topics: topics that are missing, forbidden or unanswered, a Kafka that
confirms nothing for a while or fails what is in flight, a disk that is slow or full, and power cuts.
"""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.delivery import held_lanes, pipeline, spooling
from bridge.delivery.lanes import LAST_RETRY, Lane, LaneState
from bridge.delivery.results import Hold
from bridge.delivery.segment import unpack
from tests.unit.delivery.many import Cluster, Rows, join
from tests.unit.delivery.world import Clock, World

TOPICS = 300
VISITS, LANES = 20, 15  # in a turn
ROOM_MESSAGES, ROOM_SIZE = 60, 6_000
LARGEST = 400  # bytes of a payload
SEGMENT = 500  # messages
CLOCK = Clock()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pipeline, spooling):
        monkeypatch.setattr(module, "time", CLOCK)
    monkeypatch.setattr(pipeline, "is_believable", lambda: True)
    monkeypatch.setattr(pipeline, "_LANES", 20)
    monkeypatch.setattr(held_lanes, "MOST_VISITS", VISITS)
    monkeypatch.setattr(spooling, "MOST_LANES", LANES)
    monkeypatch.setattr(spooling, "ROOM_MESSAGES", ROOM_MESSAGES)
    monkeypatch.setattr(spooling, "ROOM_SIZE", ROOM_SIZE)


class Chain:
    def __init__(self, random: Random, topics: int) -> None:
        self.random, self.topics = random, topics
        self.disk, self.kafka = Rows(), Cluster(random)
        self.disk_works = True
        self.number = 0
        self.sent: dict[str, list[bytes]] = {}
        self.sent_by_number: dict[int, tuple[str, bytes]] = {}
        self.doubled: set[bytes] = set()  # on disk at a power cut, although Kafka had them
        self.start()

    def start(self) -> None:
        self.world = join(World(receive_maximum=10_000), self.kafka, self.disk)
        self.pipeline = self.world.pipeline
        visit = self.pipeline._held._visit
        self.visits = 0

        def counted(lane: Lane, now: float) -> None:
            self.visits += 1
            visit(lane, now)

        self.pipeline._held._visit = counted  # type: ignore[method-assign]
        self.pipeline.take_up(self.disk.backlogs(), [])

    def cut_power(self) -> None:
        """What was not acknowledged is sent again by the broker, in order."""
        on_disk = {
            m.payload for rows in self.disk.by_topic.values() for body in rows.values() for m in unpack(body)
        }
        in_kafka = {payload for stored in self.kafka.stored.values() for payload in stored}
        acknowledged = set(self.world.session.acknowledged)
        lost = [
            self.sent_by_number[number]
            for number in acknowledged
            if self.sent_by_number[number][1] not in on_disk | in_kafka
        ]
        assert not lost, "acknowledged, but neither on disk nor in Kafka"
        again = [each for number, each in sorted(self.sent_by_number.items()) if number not in acknowledged]
        self.doubled |= on_disk & in_kafka
        self.doubled |= {payload for _, payload in again} & (on_disk | in_kafka)
        self.sent_by_number.clear()
        kafka, self.kafka = self.kafka, Cluster(self.random)
        self.kafka.stored, self.kafka.wrong = kafka.stored, kafka.wrong
        rows, self.disk = self.disk.by_topic, Rows()
        self.disk.by_topic = rows
        self.start()
        for topic, payload in again:
            self.receive(topic, payload)

    def arrive(self) -> None:
        topic = f"iot.{self.random.randrange(self.topics)}"
        self.number += 1
        payload = b"%d:" % self.number + b"x" * self.random.choice((1, 1, 20, LARGEST - 10))
        self.sent.setdefault(topic, []).append(payload)
        self.receive(topic, payload)

    def receive(self, topic: str, payload: bytes) -> None:
        message = self.world.receive(f"site/{topic[4:]}".encode(), payload)
        self.sent_by_number[message.packet_id] = (topic, payload)

    def turn(self) -> None:
        self.visits = 0
        self.pipeline.turn()
        self.world.add_up()
        assert self.visits <= VISITS, "a turn visits too many lanes"
        self.check()

    def check(self) -> None:
        room = self.pipeline._spooling.room
        not_live = [each for each in self.pipeline.lanes if each.state not in pipeline._ARE_AT_REST]
        assert set(self.pipeline.held.lanes) >= set(not_live)
        assert not any(each.state is LaneState.FORGOTTEN for each in self.pipeline.lanes)
        in_memory = sum(len(each.in_flight) + len(each.waiting) for each in not_live)
        asked = sum(each._asked[0] for each in not_live)
        assert room.taken_messages == in_memory + asked
        assert room.stored == sum(each.spooled for each in self.pipeline.lanes)
        held = {each for each in not_live if each.state is LaneState.HELD and not each.is_stirred}
        assert all(map(self.is_asked_about, held)), "a held lane would never be asked about"
        on_disk_too = sum(each.rows.kept for each in not_live)
        # What is acknowledged, and in memory all the same. A read brings one segment too many at most.
        assert on_disk_too <= 2 * ROOM_MESSAGES + SEGMENT
        alone = [
            message.sequence
            for each in self.pipeline.lanes
            for message in (*each.in_flight, *each.waiting, *each.behind)
            if not message.state
        ]
        settled = self.pipeline._settled
        assert min(alone, default=settled + 1) > settled, "nobody would find this message late"

    def is_asked_about(self, lane: Lane) -> bool:
        """Whether the held lane has its time; or its turn, as one of many that are held for one reason."""
        held = self.pipeline.held
        if lane.retry_at < float("inf"):
            return any(due == lane.due >= lane.retry_at and each is lane for due, _, each in held._due)
        why = held.why(lane)
        lanes = held._held[why.hold] if why else {}
        in_turn = lane in lanes and len(lanes) > held_lanes._FEW and held._group_at <= CLOCK.now + 2.0
        return in_turn and lane.due <= CLOCK.now + LAST_RETRY

    def step(self) -> None:
        random, kafka = self.random, self.kafka
        chance = random.random()
        if chance < 0.6:
            for _ in range(random.randint(1, 12)):
                self.arrive()
        elif chance < 0.65:
            topic = f"iot.{random.randrange(self.topics)}"
            kafka.wrong[topic] = random.choice((Hold.MISSING, Hold.FORBIDDEN, Hold.REFUSED, Hold.UNANSWERED))
        elif chance < 0.68:
            for topic in random.sample(sorted(kafka.wrong), min(20, len(kafka.wrong))):
                del kafka.wrong[topic]
        elif chance < 0.70:
            kafka.is_silent = not kafka.is_silent
        elif chance < 0.72:
            self.disk_works = not self.disk_works
        elif chance < 0.725:
            kafka.is_broken = True
        elif chance < 0.73:
            kafka.wants_successor = True
        if random.random() < 0.6:
            self.disk.finish(self.disk_works)
        if random.random() < 0.7 and not kafka.is_silent:
            kafka.report(random.choice((0.3, 0.9)))
        if random.random() < 0.5:
            kafka.answer_all()
        CLOCK.now += random.choice((0.01, 0.1, 0.5, 30.0))
        self.turn()

    def settle_down(self) -> None:
        self.kafka.is_silent, self.disk_works = False, True
        self.kafka.wrong.clear()
        for _ in range(20_000):
            CLOCK.now += 1.0
            self.kafka.answer_all()
            self.kafka.report(1.0)
            self.disk.finish(works=True)
            self.turn()
            if not self.pipeline.held.lanes and self.pipeline.is_empty and not self.pipeline.has_work:
                return
        states = [each.state.name for each in self.pipeline.held.lanes]
        raise AssertionError(f"never LIVE again: {states}")


def run(seed: int, *, power_cuts: bool, wrong_from_the_start: bool) -> Chain:
    random = Random(seed)
    chain = Chain(random, random.choice((3, 30, TOPICS)))
    if wrong_from_the_start:
        chain.kafka.wrong = {f"iot.{number}": Hold.MISSING for number in range(1, TOPICS)}
    for _ in range(150):
        if power_cuts and random.random() < 0.02:
            chain.cut_power()
        chain.step()
    chain.settle_down()
    assert not any(chain.disk.by_topic.values()), "a delivered message is still on disk"
    assert chain.world.counts.in_flight == 0
    room = chain.pipeline._spooling.room
    assert (room.taken_messages, room.taken_size, room.stored) == (0, 0, 0)
    for topic, sent in chain.sent.items():
        stored = chain.kafka.stored[topic]
        assert set(stored) == set(sent), f"{topic}: a message is lost"
        first = list(dict.fromkeys(stored))
        assert first == sent, f"{topic}: the order is wrong"
        doubled = {each for each in stored if stored.count(each) > 1}
        assert doubled <= chain.doubled, f"{topic}: a message is doubled"
    return chain


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), missing=st.booleans())
def test_hundreds_of_topics_arrive_once_and_in_order_whatever_happens_to_some(
    seed: int, missing: bool
) -> None:
    run(seed, power_cuts=False, wrong_from_the_start=missing)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), missing=st.booleans())
def test_power_cuts_lose_nothing_of_hundreds_of_topics(seed: int, missing: bool) -> None:
    run(seed, power_cuts=True, wrong_from_the_start=missing)
