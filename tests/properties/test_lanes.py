"""A lane against a Kafka that refuses, hesitates, loses its producer and finds bad records, a disk that is
slow, full or gone, and a power supply that is cut.
"""

from collections import deque
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.delivery import lanes as lanes_module
from bridge.delivery import segment as segment_module
from bridge.delivery.lanes import Lane, LaneState
from bridge.delivery.room import Room
from bridge.delivery.segment import Segment, Wanted, pack, unpack
from bridge.message import DIGEST_OVER, Digest, Message, digest

LIMIT = 100
PLAN = SimpleNamespace(overhead=10, key=b"k")
ROOM = Room(messages=8, size=400)
IN_A_SEGMENT = 3
LARGE = 60  # bytes of a payload that counts as large
AT_ONCE = 300  # bytes written


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_module, "MOST_MESSAGES", IN_A_SEGMENT)
    monkeypatch.setattr(lanes_module, "_LARGE", LARGE)
    monkeypatch.setattr(segment_module, "MOST_AT_ONCE", AT_ONCE)


class Disk:
    """The rows that survive a power cut: committed, and not deleted."""

    def __init__(self) -> None:
        self.rows: dict[int, bytes] = {}
        self.letters: set[int] = set()
        self.works = True

    def read(self, wanted: Wanted) -> list[Segment]:
        found: list[Segment] = []
        messages, size = wanted.messages, wanted.size
        for first in sorted(self.rows):
            if wanted.after < first <= wanted.last and ((messages > 0 and size > 0) or not found):
                found.append(Segment(unpack(self.rows[first])))
                messages -= found[-1].count
                size -= len(self.rows[first])
        return found

    @property
    def holds(self) -> set[int]:
        return {message.sequence for body in self.rows.values() for message in unpack(body)}


class Simulation:
    """Kafka takes batches in order. A bad record fails its batch; an outage fails all batches."""

    def __init__(self, random: Random, refuses: bool) -> None:
        self.random = random
        self.refuses = refuses
        self.disk = Disk()
        self.sequence = 0
        self.stored: list[int] = []
        self.given_up: set[int] = set()
        self.bad: set[int] = set()
        self.acked: set[int] = set()
        self.gone: set[int] = set()  # only in memory at the power cut: EMQ still has them
        self.replayed: set[int] = set()
        self.now = 0.0
        self.forbidden = False
        self.needs_a_person = random.random() < 0.5
        self.settling = False
        self.start()

    def start(self) -> None:
        self.room = Room(ROOM.messages, ROOM.size)
        self.lane = Lane("t", self.room)
        self.produced: deque[Message] = deque()
        self.writing: deque[Segment] = deque()
        self.bodies: dict[Segment, bytes] = {}
        self.to_bury: deque[Message] = deque()
        self.wanted: list[Segment] | None = None
        self.was_seen_to = self.was_late = False
        self.in_memory = 0
        self.moving = False
        self.old = dict(self.disk.rows)
        if self.random.random() < 0.5:  # the routes have changed, and the move takes a while
            self.moving = True
            self.lane.rows.expect()
        else:
            self.find()

    def find(self) -> None:
        self.moving = False
        messages = sum(len(unpack(body)) for body in self.old.values())
        self.lane.rows.found(messages, max(self.old, default=0))

    def produce(self, message: Message) -> None:
        assert message in self.lane.in_flight
        assert type(message.payload) is not Digest, "a message that will be produced has lost its payload"
        if len(message.payload) > LARGE:
            flying = sum(len(each.payload) for each in self.lane.in_flight) - len(message.payload)
            assert flying < ROOM.size, "more bytes are twice in memory than allowed"
        if self.refuses and self.random.random() < 0.02:
            self.lane.failed(message, self.now, self.needs_a_person)  # fails at once
        else:
            self.produced.append(message)

    def see_to(self) -> None:
        """Act as the pipeline does at each turn; a turn handles several events."""
        if not self.settling and self.random.random() < 0.5:
            return
        for message in self.lane.release():
            self.produce(message)
        if wanted := self.lane.wants_rows():
            assert self.wanted is None, "asked for twice"
            self.wanted = self.disk.read(wanted)
        if not self.writing:  # the disk accepts one job at a time
            segments = self.lane.take_unwritten()
            size = sum(len(message.payload) for segment in segments for message in segment.messages)
            assert size <= AT_ONCE or sum(segment.count for segment in segments) == 1
            for segment in segments:
                self.bodies[segment] = pack(segment.messages)
                self.writing.append(segment)
            self.was_seen_to = True
        for segment in self.lane.rows.take_done():
            del self.disk.rows[segment.first]

    def settle(self, message: Message) -> None:
        """Act as the ledger does: it no longer needs the payload."""
        message.state = 1
        self.acked.add(message.sequence)
        if type(message.payload) is bytes and message.qos and len(message.payload) > DIGEST_OVER:
            message.payload = digest(message.payload)

    def arrive(self) -> None:
        self.sequence += 1
        size = self.random.choice((5, 5, 5, 80, 85, 200, 1100))
        message = Message.of(b"t", self.random.choice((0, 2, 4)), 1, None, b"x" * size)
        message.sequence, message.plan = self.sequence, PLAN
        if self.refuses and self.random.random() < (0.5 if size == 200 else 0.05):
            self.bad.add(self.sequence)
        if self.lane.offer(message):
            self.produce(message)
        else:
            self.see_to()

    def report(self) -> None:
        batch = [self.produced.popleft() for _ in range(min(len(self.produced), self.random.randint(1, 5)))]
        poisoned = [message for message in batch if message.sequence in self.bad]
        for message in batch:
            if self.forbidden:
                self.lane.failed(message, self.now, self.needs_a_person)
            elif not poisoned:
                self.stored.append(message.sequence)
                self.lane.delivered([message])
                self.settle(message)
            elif self.lane.is_alone(message):
                self.lane.given_up(message)
                self.to_bury.append(message)
            else:
                self.lane.suspect(message)
        self.see_to()

    def write(self) -> None:
        """The disk thread has finished its job."""
        if not self.disk.works:
            self.lane.refused(list(self.writing))
            self.writing.clear()
        taken, left = list(self.writing), []
        if not self.settling and self.random.random() < 0.3:  # the other messages do not fit
            part = self.random.randint(0, len(taken))
            taken, left = taken[:part], taken[part:]
        self.writing.clear()
        for segment in taken:
            self.disk.rows[segment.first] = self.bodies.pop(segment)
        for segment in taken:
            messages = segment.messages
            self.lane.committed(segment)
            assert not segment.messages, "a written message is still in memory"
            for message in messages:
                self.settle(message)
        if left:
            self.lane.refused(left)
        while self.disk.works and self.to_bury:
            message = self.to_bury.popleft()
            self.given_up.add(message.sequence)
            self.lane.dead_lettered(message)
            self.settle(message)
        self.see_to()

    def read(self) -> None:
        if self.moving and (self.settling or self.random.random() < 0.2):
            self.find()
        if self.wanted is not None:
            for segment in self.wanted:
                for message in segment.messages:
                    message.plan = PLAN
            self.lane.read(self.wanted)
            self.wanted = None
        self.see_to()

    def ask(self) -> None:
        self.now += self.random.random()
        if self.lane.state is LaneState.ASKING or self.lane.ask_if_due(self.now):
            if self.random.random() < 0.3:
                self.lane.not_answered(self.now, self.needs_a_person)
            else:
                self.lane.answered(LIMIT)
        self.see_to()

    def watch(self) -> None:
        self.lane.watch(self.sequence - self.random.randint(0, 10))
        self.see_to()

    def lose_the_producer(self) -> None:
        self.produced.clear()
        self.lane.start_over()
        self.see_to()

    def cut_power(self) -> None:
        everything = set(range(1, self.sequence + 1)) - self.gone
        safe = self.disk.holds | set(self.stored) | self.given_up
        assert self.acked <= safe, "acknowledged, but neither in Kafka nor on disk"
        replayed = self.disk.holds & (set(self.stored) | self.given_up)
        in_memory = {message.sequence for message in self.lane.in_flight}
        if not self.moving:
            assert self.lane.spooled >= len(self.disk.holds - replayed - self.given_up - in_memory)
        self.replayed |= replayed
        self.gone |= everything - safe
        self.start()

    def step(self) -> None:
        self.in_memory = len(self.lane.in_flight) + len(self.lane.waiting)
        self.was_late, self.was_seen_to = self.lane.late, False
        chance = self.random.random()
        if chance < 0.40:
            self.arrive()
        elif chance < 0.60:
            self.report()
        elif chance < 0.70:
            self.ask()
        elif chance < 0.80:
            self.write()
        elif chance < 0.88:
            self.read()
        elif chance < 0.94:
            self.watch()
        elif chance < 0.97:
            self.forbidden = self.refuses and not self.forbidden
            self.needs_a_person = self.random.random() < 0.5
        elif chance < 0.98:
            self.disk.works = not self.disk.works
        elif chance < 0.985:
            self.lane.drain()
            self.see_to()
        else:
            self.lose_the_producer()

    def check(self) -> None:
        lane = self.lane
        in_memory = (*lane.in_flight, *lane.waiting, *lane.behind)
        assert set(self.produced) == set(lane.in_flight)
        places = [message.sequence for message in in_memory]
        assert len(places) == len(set(places)), "a message is in two places"
        assert not any(message.state for message in lane.behind), "a message is on disk and in memory"
        taken = (len(lane.in_flight) + len(lane.waiting), lane._size)
        if lane.state is LaneState.LIVE:
            taken = (0, 0)
        taken = (taken[0] + lane._asked[0], taken[1] + lane._asked[1])
        assert (self.room.taken_messages, self.room.taken_size) == taken, "the room is counted wrongly"
        assert self.room.stored == lane.spooled
        if lane.state is LaneState.LIVE:
            assert not any((lane.waiting, lane.behind, lane.spools, lane._unwritten))
        else:
            assert lane._size == sum(len(message.payload) for message in (*lane.in_flight, *lane.waiting))
        if lane.late and self.was_late:  # at most one segment above the limit, besides earlier ones
            assert (
                len(lane.in_flight) + len(lane.waiting) <= max(self.in_memory, ROOM.messages) + IN_A_SEGMENT
            )
        if self.was_seen_to and self.writing:
            under_way = {message for segment in self.writing for message in segment.messages}
            under_way.update(lane._unwritten)
            for message in in_memory if lane.late else lane.behind:
                assert message.state or message in under_way, "a late message is not on its way to the disk"
        if self.moving:
            assert not self.produced, "produced before the lane knows which message is first"
        elif not self.replayed:
            assert lane.spooled == len(self.disk.holds - set(self.stored) - self.given_up)

    def settle_down(self) -> None:
        self.forbidden, self.disk.works, self.settling, self.refuses = False, True, True, False
        for _ in range(20 * self.sequence + 100):
            self.now += 60
            self.report()
            self.ask()
            self.write()
            self.read()
            self.lane.watch(self.sequence)
            self.see_to()
            if self.lane.state is LaneState.LIVE and not self.lane.in_flight:
                break
        else:
            raise AssertionError(f"never LIVE again: {self.lane.state}")


def _run(seed: int, *, power_cuts: bool = False, refuses: bool = True) -> Simulation:
    simulation = Simulation(Random(seed), refuses)
    for _ in range(300):
        if power_cuts and simulation.random.random() < 0.02:
            simulation.cut_power()
        simulation.step()
        simulation.check()
    simulation.settle_down()
    everything = set(range(1, simulation.sequence + 1))
    assert simulation.given_up <= simulation.bad
    assert set(simulation.stored) | simulation.given_up == everything - simulation.gone
    assert not simulation.disk.rows, "a delivered message is still on disk"
    assert simulation.acked == everything - simulation.gone
    return simulation


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
@example(seed=3250)  # waits for a person and becomes late while what is behind is written
def test_a_lane_stores_all_it_can_and_gives_up_only_what_was_refused_alone(seed: int) -> None:
    simulation = _run(seed)
    assert len(simulation.stored) == len(set(simulation.stored)), "a message is stored twice"


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_after_a_power_cut_what_was_acknowledged_is_there_and_only_what_had_a_row_comes_twice(
    seed: int,
) -> None:
    simulation = _run(seed, power_cuts=True)
    doubled = {each for each in simulation.stored if simulation.stored.count(each) > 1}
    assert doubled <= simulation.replayed


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), power_cuts=st.booleans())
def test_order_is_kept_over_disk_and_memory_whatever_the_disk_and_the_producer_do(
    seed: int, power_cuts: bool
) -> None:
    """If Kafka refuses one of several in flight, those behind it are stored before it is retried."""
    first = list(dict.fromkeys(_run(seed, power_cuts=power_cuts, refuses=False).stored))
    assert first == sorted(first)
