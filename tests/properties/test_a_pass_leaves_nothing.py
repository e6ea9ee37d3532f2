"""After a pass (`Pipeline.relay`) that says True, a turn has nothing to do, with any lanes held or late."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.delivery import held_lanes, pipeline, spooling
from bridge.delivery.results import Hold, Refused, Written
from tests.unit.delivery.many import Cluster, Rows, join
from tests.unit.delivery.world import Clock, World

TOPICS = [*(b"site/%d" % number for number in range(8)), b"s/1", b"s/debug", b"full/1", b"nowhere"]


class OneJob(Rows):
    """As spool.Spool: it takes nothing while its thread has a job."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = False

    @property
    def accepts(self) -> bool:
        return not self.busy

    @accepts.setter
    def accepts(self, value: bool) -> None:
        """Set by the base class at its start; `busy` decides here."""

    def turn(self, now: float, gathers: bool = False) -> float:
        self.busy = self.busy or bool(self._writing or self._writing_letters or self._reads)
        return 60.0

    def finish(self, works: bool) -> None:
        letters, self._writing_letters = self._writing_letters, []
        super().finish(works)
        if letters:
            result = Written([], letters) if works else Refused([], letters, is_full=True, reason="full")
            self.results.append(result)
        self.busy = False


class Bridge:
    """A pipeline whose turns and passes are made as the loop makes them."""

    def __init__(self, random: Random, clock: Clock) -> None:
        self.random, self.clock = random, clock
        self.kafka, self.disk = Cluster(random), OneJob()
        self.world = join(World(receive_maximum=10_000), self.kafka, self.disk)
        self.pipeline = self.world.pipeline
        self.due = 0.0
        self.turn()

    def turn(self) -> None:
        for _ in range(2000):
            lasts = self.pipeline.turn()
            if not self.pipeline.has_work:
                self.due = self.clock.now + lasts
                return
        raise AssertionError("the loop spins")

    def done(self) -> tuple[object, ...]:
        """What a turn changes outside."""
        rows = sum(len(rows) for rows in self.disk.by_topic.values())
        at_the_disk = len(self.disk._writing), len(self.disk._writing_letters), len(self.disk._reads), rows
        return (
            len(self.kafka.produced),
            len(self.kafka.asked),
            at_the_disk,
            len(self.world.session.acknowledged),
            self.kafka.retired,
            self.kafka.rebuilt,
        )

    def receive(self) -> None:
        calm = self.pipeline.is_calm
        for _ in range(self.random.choice([1, 1, 3])):
            payload = self.random.choice([b"", b"v", b"x" * 300])
            self.world.receive(self.random.choice(TOPICS), payload, qos=self.random.choice([0, 1, 1, 2]))
        if calm and not self.pipeline.has_work:
            self.due = min(self.due, self.pipeline.watch_by(self.clock.now))
        else:
            self.turn()

    def report(self) -> None:
        calm = self.pipeline.is_calm
        self.kafka.report(self.random.random())
        if calm and self.pipeline.relay(0.0):
            assert self.pipeline.is_calm
            before = self.done()
            if self.clock.now < self.due:
                self.pipeline.turn()
                assert self.done() == before
                assert not self.pipeline.has_work
        self.turn()

    def step(self) -> None:
        self.clock.now += self.random.choice([0, 0, 0.001, 0.01, 0.3])
        if self.clock.now >= self.due:
            self.turn()
        kind = self.random.random()
        if kind < 0.45:
            self.receive()
        elif kind < 0.75:
            self.report()
        elif kind < 0.85:
            self.kafka.answer_all()
            self.turn()
        elif kind < 0.95:
            self.disk.finish(self.random.random() < 0.9)
            self.turn()
        elif kind < 0.97:
            wrong = f"iot.{self.random.randrange(8)}", self.random.choice(list(Hold))
            self.kafka.wrong = dict([wrong]) if self.random.random() < 0.7 else {}
        elif kind < 0.98:
            self.kafka.is_silent = not self.kafka.is_silent
        else:
            self.kafka.wants_successor = kind < 0.99
            self.kafka.is_broken = not self.kafka.wants_successor
            self.turn()
        self.world.add_up()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_after_a_pass_that_says_true_a_turn_has_nothing_to_do(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random, clock = Random(seed), Clock()
    for module in (pipeline, spooling):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(pipeline, "is_believable", lambda: True)
    monkeypatch.setattr(pipeline, "_LANES", random.choice([3, 1000]))
    monkeypatch.setattr(held_lanes, "MOST_VISITS", random.choice([2, 100]))
    monkeypatch.setattr(spooling, "MOST_LANES", random.choice([2, 128]))
    monkeypatch.setattr(spooling, "ROOM_MESSAGES", 20)
    monkeypatch.setattr(spooling, "ROOM_SIZE", 2000)
    bridge = Bridge(random, clock)
    for _ in range(200):
        bridge.step()

    bridge.kafka.wrong = {}
    bridge.kafka.is_silent = False
    ends = clock.now + 400
    while clock.now < ends:  # all troubles have ended, so everything goes to Kafka
        bridge.kafka.answer_all()
        bridge.kafka.report(1.0)
        bridge.disk.finish(works=True)
        bridge.turn()
        clock.now += 0.5
    assert bridge.pipeline.counts.in_flight == bridge.pipeline.spooled == 0
    room = bridge.pipeline._spooling.room
    assert (room.taken_messages, room.taken_size) == (0, 0)
    assert not any(bridge.disk.by_topic.values())
