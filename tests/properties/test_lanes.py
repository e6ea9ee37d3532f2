"""A lane against a Kafka that refuses, hesitates, loses its producer and finds records it can't take."""

from collections import deque
from random import Random
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.lanes import Lane, LaneState
from bridge.message import Message

LIMIT = 100
PLAN = SimpleNamespace(overhead=10)


class Simulation:
    """Kafka takes batches in order. A bad record fails its batch; an outage fails all there is."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.lane = Lane("t")
        self.sequence = 0
        self.produced: deque[Message] = deque()
        self.stored: list[int] = []
        self.given_up: list[int] = []
        self.bad: set[int] = set()
        self.now = 0.0
        self.forbidden = False

    def produce(self, message: Message) -> None:
        self.produced.append(message)
        assert message in self.lane.in_flight

    def release(self) -> None:
        for message in self.lane.release():
            self.produce(message)

    def arrive(self) -> None:
        self.sequence += 1
        size = self.random.choice((5, 5, 5, 80, 95, 200))
        message = Message(b"t", 2, 1, None, b"x" * size)
        message.sequence, message.plan = self.sequence, PLAN
        if (size == 200 and self.random.random() < 0.5) or self.random.random() < 0.05:
            self.bad.add(self.sequence)
        if self.lane.offer(message):
            self.produce(message)
        else:
            self.release()

    def report(self) -> None:
        batch = [self.produced.popleft() for _ in range(min(len(self.produced), self.random.randint(1, 5)))]
        poisoned = [message for message in batch if message.sequence in self.bad]
        for message in batch:
            if self.forbidden:
                self.lane.failed(message, self.now)
            elif not poisoned:
                self.stored.append(message.sequence)
                self.lane.delivered(message)
            elif self.lane.is_alone(message):
                self.given_up.append(message.sequence)
                self.lane.given_up(message)
            else:
                self.lane.suspect(message)
        self.release()

    def ask(self) -> None:
        self.now += self.random.random()
        if self.lane.state is LaneState.ASKING or self.lane.ask_if_due(self.now):
            if self.random.random() < 0.3:
                self.lane.not_answered(self.now)
            else:
                self.lane.answered(LIMIT)
        self.release()

    def lose_the_producer(self) -> None:
        self.produced.clear()
        self.lane.start_over()
        self.release()

    def step(self) -> None:
        chance = self.random.random()
        if chance < 0.45:
            self.arrive()
        elif chance < 0.75:
            self.report()
        elif chance < 0.95:
            self.ask()
        elif chance < 0.98:
            self.forbidden = not self.forbidden
        else:
            self.lose_the_producer()

    def settle_down(self) -> None:
        self.forbidden = False
        for _ in range(20 * self.sequence + 100):
            self.now += 60
            self.report()
            self.ask()
            if self.lane.state is LaneState.LIVE and not self.lane.in_flight:
                break


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_lane_stores_all_it_can_in_order_and_gives_up_only_what_was_refused_alone(seed: int) -> None:
    simulation = Simulation(Random(seed))
    for _ in range(300):
        simulation.step()
        lane = simulation.lane
        assert set(simulation.produced) == set(lane.in_flight)
        assert not set(lane.in_flight) & set(lane.waiting)
        assert lane.state is not LaneState.LIVE or not lane.waiting
    simulation.settle_down()
    everything = set(range(1, simulation.sequence + 1))
    assert set(simulation.given_up) <= simulation.bad
    assert set(simulation.stored) | set(simulation.given_up) == everything
    assert len(simulation.stored) == len(set(simulation.stored)), "stored twice"
