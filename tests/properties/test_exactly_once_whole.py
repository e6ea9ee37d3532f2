"""All of delivery exactly-once in one process: crashes and faults between any two steps of its threads.

The pipeline with its lanes, ledger and journal, the spool with its database, and the machine that decides
about Kafka's transactions are the real ones. The broker, Kafka, and the producer's thread are models. What
threads do is done here step by step, in an order that chance chooses: a job of the disk thread, a step of the
producer's. The bridge may be killed before and after each of them, the disk may be full or fail, also after
it has written, routes may change, topics may take nothing for a while, and the consumer group may be deleted.

Turns of the loop are made where app.py and Loop.relay make them: messages that come alone make none, and
where nothing is due the bridge sleeps. While it sleeps, nothing may wait for a turn that nobody will make.

The broker's session is never lost, and counts its identifiers upward. So each message of QoS 1 or 2 must be
in Kafka once, in its topic's order; twice only where the bridge could not know better and has said so, or has
forgotten the session because two ends of it left it in doubt.
"""

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.delivery import gathering, lanes, pipeline, segment, spooling
from bridge.delivery.intent import Account, IntentVerdict, Number, Row, rows_of
from bridge.delivery.ledger import Ledger
from bridge.delivery.pipeline import Pipeline
from bridge.delivery.results import Failure, TopicAnswer, Verdict, Written
from bridge.delivery.spooling import Spooling
from bridge.errors import SpoolUnusable
from bridge.kafka import error_verdicts, transactions
from bridge.kafka.transactions import Open, Run, Settle, State, Transactions
from bridge.loop import ACTED, Loop
from bridge.message import DUP, Message, Packet, Release
from bridge.routing.router import MEANING, Router
from bridge.settings import RouteSettings, Settings
from bridge.spool import disk_thread, store
from bridge.spool.disk_thread import DiskThread
from bridge.spool.spool import Spool
from bridge.spool.store import DiskFull, Store
from bridge.status.collector import unaccounted
from tests.unit.delivery.world import Clock

STEPS = 1000
STEPS_TO_DRAIN = 6000
WINDOW = 20
SENSORS = "wxyz"
SITES = ("a", "b")  # the routes lead a sensor's messages to one of these Kafka topics
TIMED_OUT, TOO_LARGE = -192, 10
LIMIT = 1000  # bytes of a record
GROUP, FILE, ROUTES = "the group is deleted", "the file can't be opened", "the routes change"
TROUBLES = ("", "", ROUTES, ROUTES, GROUP, FILE)


class Outside(Clock):
    """The time, and until when the spool's file can't be opened."""

    closed_until = 0.0


class Died(BaseException):
    """The bridge is killed at this step."""


class Kafka:
    """What a read_committed reader sees, and the numbers in the metadata of the group's offsets."""

    def __init__(self) -> None:
        self.records: dict[str, list[bytes]] = {}
        self.numbers: dict[str, Number] = {}
        self.away: set[str] = set()  # topics that take nothing now

    def commit(self, run: Run, spool: str) -> None:
        for message in run.messages:
            self.records.setdefault(message.plan.kafka_topic, []).append(bytes(message.payload))
        self.numbers[spool] = Number(run.number, run.intent.run)


class Broker:
    """A session that counts upward. `flight`: sent, and not acknowledged, in order.

    Each with its topic, flags and payload; None: PUBREC has come, and PUBCOMP has not. `released`: PUBRELs to
    be sent.
    """

    def __init__(self) -> None:
        self.last = 500
        self.queue: deque[tuple[bytes, int, bytes]] = deque()
        self.flight: dict[int, tuple[bytes, int, bytes] | None] = {}
        self.released: deque[int] = deque()
        self.published: list[tuple[str, bytes]] = []  # a sensor, and a payload that is its alone


class Cluster:
    """kafka.transactional_cluster.TransactionalCluster, with a producer that does one step at a time."""

    only_reports = True
    is_broken = wants_successor = False

    def __init__(self, world: "World") -> None:
        self.alarm = float("inf")  # when the thread wakes the loop
        self.world, self.kafka, self.chance = world, world.kafka, world.chance
        self.answers: deque[TopicAnswer] = deque()
        self.machine = Transactions(f"run{world.runs}", self._rows_of)
        self.commands: deque[Open | Run] = deque()
        self.intended: dict[Run, str] = {}
        self.asked: list[str] = []
        self._delivered: list[Message] = []
        self._failures: list[Failure] = []

    def _rows_of(self, messages: Iterable[Message]) -> Any:
        return rows_of(messages, lambda message: message.plan.lane.rows.row_of(message))

    @property
    def queued(self) -> int:
        return len(self.machine.queue)

    def use(self, spool: Spool) -> None:
        self.spool = spool
        spool.recall(self.machine.remember)

    def produce(self, messages: Iterable[Message], failed: Callable[[Failure], None]) -> None:
        for message in messages:
            row = message.plan.lane.rows.row_of(message)
            assert row, "produced before it was written"
            assert row.stored, "produced before it was synced"
            self.machine.produce([message], time.monotonic())

    def probe(self, message: Message, failed: Callable[[Failure], None]) -> None:
        self.machine.probe(message, time.monotonic())

    def look_up(self, topic: str) -> None:
        self.asked.append(topic)

    def retire(self) -> None: ...
    def rebuild(self) -> None: ...
    def relay(self) -> None: ...

    def take_delivered(self) -> list[Message]:
        delivered, self._delivered = self._delivered, []
        return delivered

    def take_failures(self) -> list[Failure]:
        failures, self._failures = self._failures, []
        return failures

    def poll(self) -> int:
        while command := self.machine.next(time.monotonic()):
            self._do(command)
        handed = self.machine.take_handed()
        self._delivered += handed.delivered
        for message, why in handed.failed:
            fate = error_verdicts.verdict(why[0]) if why else Verdict.RETURNED
            self._failures.append(Failure(message, fate, "why"))
        return 1 if handed.delivered else 0

    def sleep(self) -> None:
        if self.machine.state in (State.READY, State.CLOSED):
            self.alarm = min(self.alarm, self.machine.due)

    def _do(self, command: Open | Run | Settle) -> None:
        if isinstance(command, Settle):
            self.spool.settle(command.is_committed, lambda: self.machine.settled(time.monotonic()))
            return
        self.commands.append(command)
        if isinstance(command, Run):
            self.spool.intend(command.intent, lambda spool: self._take_intended(command, spool))

    def _take_intended(self, run: Run, spool: str) -> None:
        if spool:
            self.machine.intended(run, spool)
        self.intended[run] = spool

    def step(self) -> None:
        """What the thread of the producer does next, and the one that looks up topics."""
        if self.asked:
            self.answers += [TopicAnswer(topic, exists=True, limit=LIMIT) for topic in self.asked]
            self.asked.clear()
            self.world.must_turn = True
        if not self.commands:
            return
        before = len(self.commands)
        self._step()
        self.world.must_turn |= len(self.commands) != before

    def _step(self) -> None:
        command = self.commands[0]
        if isinstance(command, Open):
            self.commands.popleft()
            self._open()
        elif command in self.intended:
            self.commands.popleft()
            spool = self.intended.pop(command)
            self.intended.clear()
            self._run(command, spool)
        elif self.world.happens(0.02):
            self.commands.popleft()
            self.machine.lost(time.monotonic(), "the disk is slow")

    def _open(self) -> None:
        if self.world.happens(0.1):
            self.machine.lost(time.monotonic(), "no coordinator")
            return
        where = "topic" if self.kafka.numbers else ""
        command = self.machine.opened(dict(self.kafka.numbers), where, time.monotonic())
        verdict = self.machine.verdict
        assert verdict
        self.world.was_said |= verdict.is_loud
        if command:
            self._do(command)
        elif self.machine.memory.confirmed:
            self.spool.confirm(self.machine.memory.confirmed)

    def _run(self, run: Run, spool: str) -> None:
        now = time.monotonic()
        if not spool:
            self.machine.lost(now, "the intent is not on disk", is_slow=True)
            return
        topics = {message.plan.kafka_topic for message in run.messages}
        if late := topics & self.kafka.away:
            if late == topics:
                self.machine.lost(now, "not confirmed")
            else:
                failed = [each for each in run.messages if each.plan.kafka_topic in late]
                self.machine.refused(dict.fromkeys(failed, (TIMED_OUT, "late")), now)
            return
        if bad := {message for message in run.messages if message.payload.startswith(b"BAD")}:
            at_fault = {message.plan.kafka_topic for message in bad}
            beside = {  # of the same batch
                each
                for each in run.messages
                if each.plan.kafka_topic in at_fault and self.chance.random() < 0.5
            }
            self.machine.refused(dict.fromkeys([*bad, *beside], (TOO_LARGE, "too large")), now)
            return
        self._commit(run, spool, now)

    def _commit(self, run: Run, spool: str, now: float) -> None:
        outcome = self.chance.random() / self.world.faults if self.world.faults else 1.0
        if outcome < 0.04:
            self.machine.lost(now, "aborted")
        elif outcome < 0.08:
            self.machine.lost(now, "the request was lost", may_have_committed=True)
        elif outcome < 0.10:
            raise Died
        else:
            self.kafka.commit(run, spool)
            if outcome < 0.14:
                self.machine.lost(now, "the answer was lost", may_have_committed=True)
            elif outcome < 0.18:
                raise Died
            else:
                self.machine.committed(now, may_be_sent_twice=self.chance.random() < 0.1)
                self.spool.confirm(run.number)


class World:
    """One history. `step` does one thing that may happen next.

    `trouble`: where the group is deleted, or the file can't be opened at a start, the bridge forgets what it
    knew. In other histories nothing excuses a second copy but a session that the ledger forgets. Where routes
    change, what has waited on disk comes behind newer messages of its new topic.
    """

    def __init__(self, seed: int, directory: Path, clock: Outside, trouble: str | None) -> None:
        self.chance = Random(seed)
        self.directory, self.clock = directory, clock
        self.kafka, self.broker = Kafka(), Broker()
        self.faults = 0.0  # 0.0: nothing fails
        self.trouble = self.chance.choice(TROUBLES) if trouble is None else trouble
        self.was_said = False  # that messages may be doubled
        self.opened_late = False
        self.site = SITES[0]
        self.runs = 0
        self.turns_at_once = 0
        self.start()

    def happens(self, chance: float) -> bool:
        return self.chance.random() < chance * self.faults

    # -- the bridge ------------------------------------------------------------------------------------

    def _routes(self) -> list[RouteSettings]:
        return [
            RouteSettings(name="site", filter="site/{name}", topic=f"{self.site}.{{name}}"),
            RouteSettings(name="skipped", filter="skipped/#", action="drop"),
        ]

    def start(self) -> None:
        self.runs += 1
        if self.trouble == FILE and self.happens(0.15):
            self.clock.closed_until = self.clock.now + self.chance.choice([1, 6, 12])
            self.opened_late = True
        self.loop = Loop()
        its = Settings(
            mqtt={"host": "h", "receive_maximum": WINDOW},
            kafka={"bootstrap_servers": "k:9092", "delivery": "exactly-once"},
            routes=self._routes(),
            spool={"keep_free": 0},
        )
        router = Router(its.routes)
        self.cluster = Cluster(self)
        routes = f"{MEANING} {self.site}"
        self.spool = Spool(
            its.spool, self.directory, self.loop, routes, router.destination, "session", keeps_journal=True
        )
        self.jobs: deque[Any] = deque()
        disk: Any = self.spool.disk
        disk.thread, disk.give, disk.stand = True, self.jobs.append, self._stand
        self.disk = disk
        self.spool._busy = False
        self.cluster.use(self.spool)
        self.pipeline = Pipeline(its, router, self.cluster, self.spool)
        self.pipeline.take_up(self.spool.backlogs, self.spool.identifiers, self.spool.recalled)
        self.pipeline.session = self
        self.is_connected = self.must_disconnect = False
        self.must_turn = True  # something was posted to the loop, or the session is not calm
        self.turn_at = 0.0

    def _stand(self, standing: Any, forgets: bool) -> None:
        while self.jobs:
            self.disk_step(fails=False)
        wanted = disk_thread._Stand(standing, forgets)
        self.disk._stand(wanted)
        if wanted.error:
            raise wanted.error

    def kill(self) -> None:
        file = self.disk._file
        if file.store:
            file.store._db.close()
        if file._lock is not None:
            os.close(file._lock)
        self.loop.close()
        if self.trouble == ROUTES and self.chance.random() < 0.3:
            self.site = self.chance.choice(SITES)
        self.start()

    def disk_step(self, fails: bool = True) -> None:
        if not self.jobs:
            goes_on = self.disk._moving or self.disk._unread or not self.disk._was_opened
            if goes_on and self.clock.now >= self.disk._go_on_at:
                self.disk._go_on()
            return
        job = self.jobs.popleft()
        outcome = self.chance.random() / self.faults if self.faults and fails else 1.0
        with pytest.MonkeyPatch.context() as patch:
            if outcome < 0.03:
                patch.setattr(Store, "write", _writes_and_raises(Store.write))
            elif outcome < 0.08:
                error = DiskFull("full") if outcome < 0.06 else SpoolUnusable("input/output error")
                patch.setattr(Store, "write", _raises(error))
            results = self.disk._do(job)
        if 0.08 < outcome < 0.11:
            raise Died  # after the commit, before anybody hears of it
        self.loop.post(partial(self.disk._done, results))

    # -- the session -----------------------------------------------------------------------------------

    def acknowledge(self, messages: list[Message]) -> bool:
        if self.is_connected:
            for message in messages:
                if self.happens(0.1):
                    self.must_disconnect = True  # it is lost with the connection
                elif message.flags & 0x04:
                    self.broker.flight[message.packet_id] = None
                    self.broker.released.append(message.packet_id)
                else:
                    self.broker.flight.pop(message.packet_id, None)
            self.pipeline.handed_over(len(messages))
        return True

    def complete(self, packet_id: int, known: bool) -> None:
        if self.is_connected:
            if self.happens(0.1):
                self.must_disconnect = True
            else:
                self.broker.flight.pop(packet_id, None)

    def connect(self) -> None:
        try:
            self.pipeline.connecting()
            self.pipeline.connected(session_present=True, mqtt5=True)
        except SpoolUnusable:
            return
        self.is_connected, self.must_disconnect = True, False
        self.pipeline.subscribed()
        self.broker.released.clear()
        packets: list[Packet] = []
        for packet_id, sent in self.broker.flight.items():
            if sent:
                topic, flags, payload = sent
                packets.append(Message.of(topic, flags | DUP, packet_id, None, payload))
            else:
                packets.append(Release(packet_id))
        if packets:
            self._receive(packets)

    def disconnect(self) -> None:
        if self.is_connected:
            self.is_connected = False
            self.pipeline.disconnected()

    def publish(self) -> None:
        for _ in range(self.chance.randrange(1, 12)):
            number = len(self.broker.published)
            sensor = self.chance.choice(SENSORS)
            bad = b"BAD " if self.chance.random() < 0.01 else b""
            padding = self.chance.choice([0, 20, 200, *[LIMIT + 100] * (self.chance.random() < 0.05)])
            payload = b"%s%d %s" % (bad, number, b"." * padding)
            if self.chance.random() < 0.05:
                self.broker.queue.append((b"skipped/1", 2, payload))
            else:
                self.broker.queue.append((b"site/" + sensor.encode(), self.chance.choice([2, 2, 4]), payload))
                self.broker.published.append((sensor, payload))

    def send(self) -> None:
        broker = self.broker
        sent: list[Packet] = []
        most = self.chance.choice([1, 1, 3, WINDOW])
        while self.is_connected and len(sent) < most and not self.must_disconnect:
            packet: Packet
            if broker.released:
                packet = Release(broker.released.popleft())
            elif broker.queue and len(broker.flight) < WINDOW:
                broker.last = broker.last % 65535 + 1
                topic, flags, payload = broker.flight[broker.last] = broker.queue.popleft()
                packet = Message.of(topic, flags, broker.last, None, payload)
            else:
                break
            if self.happens(0.02):
                self.must_disconnect = True  # it is lost with the connection
            else:
                sent.append(packet)
        if sent:
            self._receive(sent)

    def _receive(self, packets: list[Packet]) -> None:
        """As Loop.relay does: no turn follows unless something is to be done at once."""
        self.pipeline.receive(packets)
        if not self.pipeline.has_work:
            self.turn_at = min(self.turn_at, self.pipeline.watch_by(self.clock.now))
        else:
            self.must_turn = True

    # -- steps -----------------------------------------------------------------------------------------

    def step(self) -> None:
        self.clock.now += self.chance.choice([0.001, 0.01, 0.05, 0.2, 1.0])
        try:
            if self.must_disconnect or (self.is_connected and self.happens(0.005)):
                self.disconnect()
                self.must_turn = True
            if not self.is_connected and self.chance.random() < 0.3:
                self.connect()
                self.must_turn = True
            self._do_one_thing()
            self.must_turn |= bool(self.loop.wait(0) & ACTED)
            now = self.clock.now
            if now >= self.cluster.alarm:
                self.cluster.alarm, self.must_turn = float("inf"), True
            if self.must_turn or now >= self.turn_at:
                self._turn()
            self._sleep()
        except Died:
            self.kill()

    def _turn(self) -> None:
        self.must_turn = False
        self.turn_at = self.clock.now + self.pipeline.turn()
        if self.pipeline.has_work:
            self.turn_at = self.clock.now
            self.turns_at_once += 1
            assert self.turns_at_once < 1000, "the loop never sleeps"
        else:
            self.turns_at_once = 0
            self.cluster.sleep()

    def _sleep(self) -> None:
        """What waits for a turn gets one in time, although nothing else happens."""
        assert not unaccounted(self.pipeline), "the counts do not add up"
        machine, now = self.cluster.machine, self.clock.now
        wakes_at = min(self.turn_at, self.cluster.alarm)
        if self.must_turn or wakes_at <= now:
            return
        if machine.state is State.READY and machine.queue:
            assert wakes_at <= now + transactions.GATHER, "no transaction will begin"
        if self.spool.accepts and (self.pipeline._spooling._writers or self.spool.releases):
            assert wakes_at <= now + gathering.MOMENT + 1e-6, "nobody will write what waits"

    def _do_one_thing(self) -> None:
        what = self.chance.random()
        if what < 0.18:
            self.send()
        elif what < 0.38:
            self.disk_step()
        elif what < 0.58:
            self.cluster.step()
        elif self.faults and what < 0.70:
            self.publish()
        elif self.faults and what < 0.705:
            raise Died
        elif self.faults and self.trouble == ROUTES and what < 0.71:
            self.site = self.chance.choice(SITES)
            assert not self.pipeline.change_routes(self._routes())
            self.must_turn = True
        elif self.faults and what < 0.72:
            self.kafka.away ^= {f"{self.chance.choice(SITES)}.{self.chance.choice(SENSORS)}"}
        elif self.faults and self.trouble == GROUP and what < 0.73:
            on_disk = self.disk._file.store
            if on_disk and on_disk.memory.confirmed:  # before, nobody can know that a number is missing
                self.kafka.numbers.clear()

    def begin_well(self) -> None:
        """The bridge learns how the broker counts."""
        while len(self.broker.published) <= 2 * WINDOW:
            self.publish()
        self._drain()
        self.faults = 1.0

    def end_well(self) -> None:
        """From now on nothing fails, and all is delivered."""
        self.faults = 0.0
        self.kafka.away.clear()
        self._drain()
        for _ in range(60):  # rows are deleted a little later
            self.step()
        with sqlite3.connect(self.directory / Store.FILE) as database:
            self.letters = {bytes(row[0]) for row in database.execute("SELECT payload FROM dead_letters")}
            (self.rows,) = database.execute("SELECT count(*) FROM segments").fetchone()
        self.loop.close()

    def _drain(self) -> None:
        for _ in range(STEPS_TO_DRAIN):
            self.step()
            if self._is_done:
                return
        held = [(lane.topic, lane.state, lane.undelivered) for lane in self.pipeline.lanes]
        raise AssertionError(f"it does not come to an end: {self.cluster.machine}, {held}")

    @property
    def _is_done(self) -> bool:
        return not (
            self.broker.queue
            or self.broker.flight
            or self.jobs
            or not self.cluster.machine.is_empty
            or not self.disk._was_opened
            or self.pipeline._spooling._moves
            or any(lane.has_messages for lane in self.pipeline.lanes)
        )

    def judge(self, forgotten: int) -> None:
        """Raise AssertionError with what has happened to a message that must not."""
        records = self.kafka.records
        found = [payload for payloads in records.values() for payload in payloads]
        kept = {*found, *self.letters}
        lost = [payload for _, payload in self.broker.published if payload not in kept]
        assert not lost, f"lost: {lost[:3]}"
        assert not self.rows, "rows stay on disk"
        if forgotten or self.was_said or self.opened_late:
            return
        doubled = {payload for payload in found if found.count(payload) > 1} if _has_two(found) else None
        assert not doubled, f"doubled: {sorted(doubled or ())[:3]}"
        for topic, payloads in records.items() if self.trouble != ROUTES else ():
            numbers = [int(payload.removeprefix(b"BAD ").split()[0]) for payload in payloads]
            assert all(one < next_one for one, next_one in pairwise(numbers)), f"{topic}: in another order"


def _has_two(payloads: list[bytes]) -> bool:
    return len(set(payloads)) < len(payloads)


def _raises(error: Exception) -> Callable[..., None]:
    def write(*_: object, **__: object) -> None:
        raise error

    return write


def _writes_and_raises(write: Callable[..., None]) -> Callable[..., None]:
    """The commit is on disk, although it was reported as failed."""

    def write_and_raise(*its: object, **named: object) -> None:
        write(*its, **named)
        raise SpoolUnusable("input/output error")

    return write_and_raise


def _log_nothing(*_: object, **__: object) -> None: ...


@contextmanager
def small_limits(clock: Outside) -> Iterator[list[int]]:
    """The bridge with limits so small that each is met. Yields how often the ledger forgot something."""
    forgotten = [0]
    forget_session, open_store = Ledger.forget_session, Store.__init__

    def forget(ledger: Ledger) -> None:
        forgotten[0] += bool(ledger._known)
        forget_session(ledger)

    def init(opened: Store, directory: Path) -> None:
        if clock.now < clock.closed_until:
            raise SpoolUnusable("permission denied")
        open_store(opened, directory)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", clock.monotonic)
        for module, name, value in (
            (segment, "MOST_MESSAGES", 5),
            (lanes, "MOST_MESSAGES", 5),
            (spooling, "ROOM_MESSAGES", 30),
            (spooling, "ROOM_SIZE", 6000),
            (pipeline, "_LANES", 2),
            (pipeline, "_LOOK_AT_CLOCK_EVERY", 3.0),
            (transactions, "MOST_MESSAGES", 24),
            (transactions, "MOST_BYTES", 100_000),
            (transactions, "_MOST_HALVED", 2),
            (store, "_WORTH_REMOVING", 1),
            (store, "_REMOVE_EVERY", 0.5),
            (store, "_REASSIGN_AT_ONCE", 3),
        ):
            patch.setattr(module, name, value)
        for name in (
            "delivery.pipeline",
            "delivery.spooling",
            "observe.many_topics",
            "observe.repeated",
            "spool.database_file",
            "spool.disk_thread",
        ):
            patch.setattr(f"bridge.{name}.log", _log_nothing)
        patch.setattr(DiskThread, "begin", lambda disk, now: float("inf"))
        patch.setattr(Ledger, "forget_session", forget)
        patch.setattr(Store, "__init__", init)
        yield forgotten


def live(seed: int, trouble: str | None = None) -> None:
    """One history. Raises AssertionError if a message is lost, or doubled without an excuse."""
    clock = Outside()
    with TemporaryDirectory(dir="/dev/shm") as directory, small_limits(clock) as forgotten:
        world = World(seed, Path(directory), clock, trouble)
        world.begin_well()
        for _ in range(STEPS):
            world.step()
        world.end_well()
        world.judge(forgotten[0])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_nothing_is_lost_and_nothing_doubled_without_an_excuse(seed: int) -> None:
    live(seed)


# -- the model notices a broken bridge -----------------------------------------------------------------


def _deletes_a_row_before_its_commit_has_returned(patch: pytest.MonkeyPatch) -> None:
    write = Account.write

    def too_early(account: Account, intent: Any, count: Callable[[Row], int]) -> list[Row]:
        return [*write(account, intent, count), *intent.rows]

    patch.setattr(Account, "write", too_early)


def _takes_no_number_for_nothing_committed(patch: pytest.MonkeyPatch) -> None:
    judge = transactions.judge

    def in_silence(memory: Any, numbers: Any) -> IntentVerdict:
        return judge(memory, numbers) if memory.spool in numbers else IntentVerdict.NOT_COMMITTED

    patch.setattr(transactions, "judge", in_silence)


def _takes_no_number_for_its_own(patch: pytest.MonkeyPatch) -> None:
    judge = transactions.judge

    def committed(memory: Any, numbers: Any) -> IntentVerdict:
        return judge(memory, numbers) if memory.spool in numbers else IntentVerdict.COMMITTED

    patch.setattr(transactions, "judge", committed)


def _acknowledges_before_the_disk_has_it(patch: pytest.MonkeyPatch) -> None:
    write = Spool.write

    def settle_first(spool: Spool, topic: str, segments: Any) -> None:
        write(spool, topic, segments)
        for each in segments:
            for message in each.messages:
                message.state = 1

    patch.setattr(Spool, "write", settle_first)


def _tells_what_it_writes_before_it_is_written(patch: pytest.MonkeyPatch) -> None:
    do = DiskThread._do

    def tell_first(disk: DiskThread, job: Any) -> list[Any]:
        disk._take_result(Written(*job.split()))
        return [each for each in do(disk, job) if not isinstance(each, Written)]

    patch.setattr(DiskThread, "_do", tell_first)


def _forgets_when_a_wait_ends(patch: pytest.MonkeyPatch) -> None:
    turn = Spooling.turn

    def sleep_on(its: Spooling, now: float) -> float:
        turn(its, now)
        return float("inf")

    patch.setattr(Spooling, "turn", sleep_on)


def _makes_no_turn_for_what_comes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Spooling, "takes_along", lambda its, _lane: its._through_disk)


def _sets_no_alarm_for_what_is_produced_after_poll(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Cluster, "sleep", lambda _: None)


@pytest.mark.parametrize(
    ("breaks", "trouble", "notices"),
    [
        (_deletes_a_row_before_its_commit_has_returned, "", "lost"),
        (_takes_no_number_for_nothing_committed, GROUP, "doubled"),
        (_takes_no_number_for_its_own, GROUP, "lost"),
        (_acknowledges_before_the_disk_has_it, "", "produced before it was synced"),
        (_tells_what_it_writes_before_it_is_written, "", "lost"),
        (_forgets_when_a_wait_ends, "", "nobody will write what waits"),
        (_makes_no_turn_for_what_comes, "", "the counts do not add up"),
        (_sets_no_alarm_for_what_is_produced_after_poll, "", "no transaction will begin"),
    ],
)
def test_the_model_notices_a_bridge_that(
    breaks: Callable[[pytest.MonkeyPatch], None],
    trouble: str,
    notices: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaks(monkeypatch)
    with pytest.raises(AssertionError, match=notices):
        _live_again_and_again(trouble)


def _live_again_and_again(trouble: str) -> None:
    for seed in range(300):
        live(seed, trouble)
