"""Spool and Kafka in the mode exactly-once: crashes, lost answers and late requests between any two steps.

The model of Kafka has what librdkafka's protocol has: epochs that fence, transactions that are atomic, with
their offsets, and EndTxn requests that arrive late. The model of the bridge around transactions.py does one
step of a transaction at a time, and the disk one job at a time, in any order that the threads allow. The disk
is a real database. At the end a `read_committed` reader has each message once, in order.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.delivery.intent import Number, from_metadata, rows_of, to_metadata
from bridge.delivery.segment import Segment, Wanted, cut, pack
from bridge.kafka.transactions import Open, Run, Settle, State, Transactions
from bridge.message import Message
from bridge.spool.store import Store

TOPICS = ("a", "b", "c")
PLANS = {topic: SimpleNamespace(kafka_topic=topic) for topic in TOPICS}
ALL = Wanted(0, 2**44 - 1, 10**6, 10**9)


def name(message: Message) -> int:
    """What a reader knows a message by. Sequence numbers come again once nothing is on disk."""
    return int(message.topic)


class Fenced(Exception):
    pass


@dataclass
class ModelKafka:
    """One transactional id. `records` and `offsets` are what a read_committed reader sees."""

    epoch: int = 0
    records: dict[str, list[int]] = field(default_factory=lambda: {topic: [] for topic in TOPICS})
    offsets: dict[str, str] = field(default_factory=dict)
    opened: list[tuple[str, int]] = field(default_factory=list)  # records of the open transaction
    opened_offset: tuple[str, str] | None = None
    late: list[int] = field(default_factory=list)  # epochs of EndTxn (commit) that may still arrive
    missing: set[str] = field(default_factory=set)

    def init(self) -> int:
        self.epoch += 1
        self._drop()
        return self.epoch

    def produce(self, epoch: int, topic: str, number: int) -> None:
        self._require(epoch)
        self.opened.append((topic, number))

    def send_offset(self, epoch: int, topic: str, metadata: str) -> None:
        self._require(epoch)
        self.opened_offset = topic, metadata

    def commit(self, epoch: int) -> None:
        self._require(epoch)
        for topic, number in self.opened:
            self.records[topic].append(number)
        if self.opened_offset:
            self.offsets[self.opened_offset[0]] = self.opened_offset[1]
        self._drop()

    def arrive_late(self, index: int) -> None:
        epoch = self.late.pop(index % len(self.late))
        if epoch == self.epoch:
            self.commit(epoch)

    def _drop(self) -> None:
        self.opened, self.opened_offset = [], None

    def _require(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise Fenced


class Bridge:
    """One run, from its start to its crash. It knows nothing but what is on disk and in Kafka."""

    def __init__(self, directory: Path, kafka: ModelKafka, run: str, poison: set[int], mutant: str) -> None:
        self.kafka = kafka
        self.mutant = mutant
        self.poison = poison
        self.store = Store(directory)
        self.last = max((each.last for each in self.store.backlogs()), default=0)
        self.sequence = self.last
        self.segments: dict[Message, Segment] = {}
        self.machine = Transactions(run, lambda messages: rows_of(messages, self.segments.get))
        self.jobs: deque[Callable[[], None]] = deque()  # of the disk thread
        self.steps: deque[Callable[[], None]] = deque()  # of the transaction's thread
        self.epoch = 0
        self.intended = ""
        self.numbers: dict[str, Number] = {}
        self.now = 0.0
        self.in_flight: dict[str, list[Message]] = {topic: [] for topic in TOPICS}
        self.waiting: dict[str, list[Message]] = {topic: [] for topic in TOPICS}
        self.held: set[str] = set()
        self.is_settled = False
        self.rows_left: dict[Segment, int] = {}
        self.done: list[tuple[str, Segment]] = []
        self.machine.remember(self.store.memory)
        if not self.store.memory.is_open:
            self._load()

    def _load(self) -> None:
        """What is on disk from before the start."""
        self.is_settled = True
        for topic in TOPICS:
            segments, damaged = self.store.read(topic, replace(ALL, last=self.last))
            assert not damaged
            self.waiting[topic][:0] = [
                self._known(each, topic) for each in segments for each in self._in(each)
            ]

    def _in(self, segment: Segment) -> list[Message]:
        self.rows_left[segment] = segment.count
        for message in segment.messages:
            self.segments[message] = segment
        return list(segment.messages)

    def _known(self, message: Message, topic: str) -> Message:
        message.plan = PLANS[topic]
        return message

    # -- messages and the disk

    def write(self, topic: str, ids: list[int]) -> None:
        messages = []
        for each in ids:
            message = Message.of(b"%d" % each, 2, 1, None, b"x")
            self.sequence += 1
            message.sequence, message.timestamp, message.plan = self.sequence, 0, PLANS[topic]
            messages.append(message)
        for segment in cut(messages):
            self.store.write([(topic, segment, pack(segment.messages))])
            self.waiting[topic] += self._in(segment)

    def release(self) -> None:
        """The lanes hand over what may be produced."""
        if not self.is_settled:
            return
        for topic in TOPICS:
            if topic in self.held or (self.in_flight[topic] and self._next_is_poison(topic)):
                continue
            while self.waiting[topic] and not (self.in_flight[topic] and self._next_is_poison(topic)):
                message = self.waiting[topic].pop(0)
                self.in_flight[topic].append(message)
                self.machine.produce([message], self.now)
                if name(message) in self.poison:
                    break

    def _next_is_poison(self, topic: str) -> bool:
        waiting, flying = self.waiting[topic], self.in_flight[topic]
        return bool(waiting and name(waiting[0]) in self.poison) or any(
            name(each) in self.poison for each in flying
        )

    def take_handed(self) -> None:
        handed = self.machine.take_handed()
        for message in handed.delivered:
            topic = message.plan.kafka_topic
            assert self.in_flight[topic][0] is message, "delivered in the order of arrival"
            self.in_flight[topic].pop(0)
            self._finished(message)
        for message, why in handed.failed:
            topic = message.plan.kafka_topic
            self.in_flight[topic].remove(message)
            if why and name(message) in self.poison:
                self._finished(message)  # a dead letter
            else:
                self.waiting[topic].append(message)
        for topic in TOPICS:
            self.waiting[topic].sort(key=lambda message: message.sequence)

    def _finished(self, message: Message) -> None:
        segment = self.segments.pop(message)
        self.rows_left[segment] -= 1
        if not self.rows_left[segment]:
            self.done.append((message.plan.kafka_topic, segment))

    # -- the loop's turn

    def turn(self) -> None:
        self.now += 1.0
        self.take_handed()
        self.release()
        match self.machine.next(self.now):
            case Open():
                steps = [self._fence, self._read, self._take]
                if self.mutant == "reads before it fences":
                    steps = [self._read, self._fence, self._take]
                self.steps += steps
            case Run() as run:
                self._start(run)
            case None:
                pass

    def _start(self, run: Run) -> None:
        self.intended = ""
        done, self.done = self.done, []
        if self.mutant == "deletes before the commit returned":
            done += [(each.plan.kafka_topic, self.segments[each]) for each in run.messages]

        def write() -> None:
            self.store.write((), done=done, intent=run.intent)
            self.machine.intended(run, self.store.memory.spool)
            if self.machine.running is run:
                self.intended = self.store.memory.spool

        self.jobs.append(write)
        for message in run.messages:
            self.steps.append(lambda message=message: self._produce(run, message))
        self.steps.append(lambda: self._send_offset(run))
        self.steps.append(lambda: self._commit(run, "prompt"))

    def delete(self) -> None:
        """Rows are deleted in a job of their own where no transaction follows."""
        done, self.done = self.done, []
        confirmed = self.machine.memory.confirmed
        self.jobs.append(lambda: self.store.write((), done=done, confirmed=confirmed))

    # -- the thread's steps

    def _fence(self) -> None:
        self.epoch = self.kafka.init()

    def _read(self) -> None:
        self.numbers = from_metadata(self.kafka.offsets.values())

    def _take(self) -> None:
        numbers = self.numbers
        memory = self.machine.memory
        if self.mutant == "takes none for its own number" and memory.spool not in numbers:
            numbers[memory.spool] = Number(memory.number, memory.run)
        command = self.machine.opened(numbers, "", self.now)
        if isinstance(command, Settle):

            def settle() -> None:
                self.store.settle(command.is_committed)
                self._load()
                self.machine.settled(self.now)

            self.jobs.append(settle)

    def _produce(self, run: Run, message: Message) -> None:
        topic = message.plan.kafka_topic
        if name(message) in self.poison or topic in self.kafka.missing:
            failures = {
                each: (10, "refused")
                for each in run.messages
                if name(each) in self.poison or each.plan.kafka_topic in self.kafka.missing
            }
            self.steps.clear()
            self.held |= {each.plan.kafka_topic for each in failures}
            self.machine.refused(failures, self.now)
            return
        self._asked(lambda: self.kafka.produce(self.epoch, topic, name(message)))

    def _send_offset(self, run: Run) -> None:
        if not self.intended and self.mutant != "commits before the intent is synced":
            self.steps.appendleft(lambda: self._send_offset(run))  # it waits
            return
        number = Number(run.number, run.intent.run)
        spool = self.intended or self.machine.memory.spool
        text = to_metadata(spool, number, self.numbers)
        self._asked(lambda: self.kafka.send_offset(self.epoch, run.offset_topic, text))

    @property
    def is_empty(self) -> bool:
        return self.machine.is_empty and not any([*self.waiting.values(), *self.in_flight.values()])

    def commit(self, how: str) -> None:
        assert self.machine.running
        self._commit(self.machine.running, how)

    def _commit(self, run: Run, how: str) -> None:
        if how == "prompt":
            self._asked(lambda: self.kafka.commit(self.epoch), may_have_committed=True)
            if self.machine.running is run:
                self.machine.committed(self.now, may_be_sent_twice=False)
        elif how == "sent twice":
            self._asked(lambda: self.kafka.commit(self.epoch), may_have_committed=True)
            self.kafka.late.append(self.epoch)
            if self.machine.running is run:
                self.machine.committed(self.now, may_be_sent_twice=self.mutant != "keeps the producer")
        elif how == "answer lost":
            self._asked(lambda: self.kafka.commit(self.epoch), may_have_committed=True)
            if self.machine.running is run:
                self.machine.lost(self.now, may_have_committed=True)
        else:
            self.kafka.late.append(self.epoch)
            self.machine.lost(self.now, may_have_committed=True)

    def _asked(self, call: Callable[[], None], *, may_have_committed: bool = False) -> None:
        try:
            call()
        except Fenced:
            self.steps.clear()
            self.machine.lost(self.now, may_have_committed=may_have_committed, is_fenced=True)

    def lose(self) -> None:
        """The producer fails before the commit was tried."""
        self.steps.clear()
        self.machine.lost(self.now, may_have_committed=False)

    def next_is_commit(self) -> bool:
        return self.machine.state is State.RUNNING and len(self.steps) == 1


class SpoolAndKafka:
    """One history: `step` does one thing that may happen, chosen by chance."""

    def __init__(self, directory: Path, chance: Random, mutant: str) -> None:
        self.directory = directory
        self.chance = chance
        self.mutant = mutant
        self.kafka = ModelKafka()
        self.runs, self.ids = count(), count(1)
        self.poison: set[int] = set()
        self.written: dict[str, list[int]] = {topic: [] for topic in TOPICS}
        self.start()
        self.weights = {
            self.write: 6,
            self.turn: 12,
            self.disk_job: 12,
            self.delete: 3,
            self.thread_step: 40,
            self.late_request: 4,
            self.late_request_hits: 4,
            self.producer_fails: 1,
            self.another_bridge: 1,
            self.topic_goes_or_comes: 1,
            self.try_held_lanes: 3,
            self.delete_group: 2,
            self.kill: 2,
        }

    def step(self) -> None:
        (what,) = self.chance.choices(list(self.weights), list(self.weights.values()))
        what()

    def start(self) -> None:
        run = f"run{next(self.runs)}"
        self.bridge = Bridge(self.directory, self.kafka, run, self.poison, self.mutant)

    def write(self) -> None:
        topic = self.chance.choice(TOPICS)
        ids = [next(self.ids) for _ in range(self.chance.randint(1, 3))]
        if self.chance.random() < 0.05:
            self.poison.add(self.chance.choice(ids))
        self.bridge.write(topic, ids)
        self.written[topic] += [each for each in ids if each not in self.poison]

    def turn(self) -> None:
        self.bridge.turn()

    def disk_job(self) -> None:
        if self.bridge.jobs:
            self.bridge.jobs.popleft()()

    def delete(self) -> None:
        if self.bridge.done:
            self.bridge.delete()

    def thread_step(self) -> None:
        bridge = self.bridge
        if not bridge.next_is_commit():
            if bridge.steps:
                bridge.steps.popleft()()
        else:
            bridge.steps.clear()
            how = self.chance.choice(
                ("prompt", "prompt", "prompt", "sent twice", "answer lost", "request late")
            )
            bridge.commit(how)

    def late_request(self) -> None:
        if self.kafka.late:
            self.kafka.arrive_late(self.chance.randrange(len(self.kafka.late)))

    def late_request_hits(self) -> None:
        if self.kafka.late and self.kafka.opened:
            self.kafka.arrive_late(-1)

    def producer_fails(self) -> None:
        if self.bridge.machine.state is State.RUNNING:
            self.bridge.lose()

    def another_bridge(self) -> None:
        self.kafka.init()

    def topic_goes_or_comes(self) -> None:
        self.kafka.missing ^= {self.chance.choice(TOPICS)}

    def try_held_lanes(self) -> None:
        self.bridge.held.clear()

    def delete_group(self) -> None:
        """Only while no message's fate depends on the number: else the bridge produces it again."""
        bridge = self.bridge
        is_sure = bridge.machine.state is State.READY and not bridge.jobs
        if is_sure and not bridge.store.memory.is_open and not self.kafka.late:
            self.kafka.offsets.clear()

    def kill(self) -> None:
        self.bridge.store.close()
        self.start()

    def end_well(self) -> None:
        """From now on nothing fails, and all messages are delivered."""
        self.kafka.missing.clear()
        for _ in range(500):
            bridge = self.bridge
            bridge.held.clear()
            bridge.now += 1000.0
            bridge.turn()
            while bridge.jobs:
                bridge.jobs.popleft()()
            while bridge.steps:
                self.bridge.steps.popleft()()
            bridge.take_handed()
            if bridge.is_settled and bridge.is_empty:
                return
        raise AssertionError("it does not come to an end")


def simulate(seed: int, mutant: str = "", steps: int = 150) -> SpoolAndKafka:
    with TemporaryDirectory(dir="/dev/shm") as directory:
        world = SpoolAndKafka(Path(directory), Random(seed), mutant)
        try:
            for _ in range(steps):
                world.step()
            world.end_well()
        finally:
            world.bridge.store.close()
    return world


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_reader_has_each_message_once_and_in_order(seed: int) -> None:
    world = simulate(seed)
    assert world.kafka.records == world.written


MUTANTS = {
    "deletes before the commit returned": "lost",
    "takes none for its own number": "lost",
    "reads before it fences": "doubled",
    "commits before the intent is synced": "doubled",
    "keeps the producer": "doubled",
}


@pytest.mark.parametrize(("mutant", "harm"), MUTANTS.items())
def test_a_mutant_is_caught(mutant: str, harm: str) -> None:
    for seed in range(2000):
        world = simulate(seed, mutant)
        for topic in TOPICS:
            found, written = world.kafka.records[topic], world.written[topic]
            lost, doubled = set(written) - set(found), len(found) > len(set(found))
            if lost if harm == "lost" else doubled:
                return
    pytest.fail(f"no history shows that the mutant has {harm} messages")
