"""MQTT to the disk with delivery exactly-once: a broker, the ledger, the journal, the disk, and power cuts.

The power may fail between any two steps: before each write of the disk and after it, before and after each
acknowledgement, PUBREL, PUBCOMP, CONNECT and CONNACK. All topics and payloads are equal, so only the rules
prevent that one message is taken for another. The broker's session is the judge: it knows which message an
identifier means, which no bridge can know.

A message is *lost* when the broker sees it acknowledged and the disk never held it. It is *doubled* when it
is written to disk twice. That what is on disk reaches Kafka once is test_transactions.py's.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.delivery.journal import Journal, Journaled, JournalRow, Recalled, Standing, recalled
from bridge.delivery.ledger import Facts, Ledger
from bridge.errors import SpoolUnusable
from bridge.message import DUP, Message, Packet, Release
from tests.harness.model_session import Identifiers, ModelSession, Sending

WINDOW = 4
STEPS = 700
PUBLISH, PUBREL, PUBACK, PUBREC, PUBCOMP = "PUBLISH", "PUBREL", "PUBACK", "PUBREC", "PUBCOMP"


class PowerCut(Exception):
    pass


class Disk:
    """What survives a power cut. Each change is one synced commit, all of it or nothing."""

    def __init__(self) -> None:
        self.stored: set[int] = set()  # serials that were ever on disk
        self.doubled: set[int] = set()  # those that were written twice
        self.journal: dict[int, bytes] = {}
        self.standing = Standing.KNOWN
        self.fuse = -1  # the power fails before so many commits

    def _may_fail(self) -> None:
        self.fuse -= 1
        if not self.fuse:
            raise PowerCut

    def note(self, standing: Standing, forgets: bool) -> None:
        self._may_fail()
        self.standing = standing
        if forgets:
            self.journal.clear()
        self._may_fail()

    def write(self, messages: Sequence[int], row: JournalRow | None, body: bytes) -> None:
        self._may_fail()
        self.doubled |= self.stored.intersection(messages)
        self.stored.update(messages)
        if row:
            if row.forgets:
                self.journal.clear()
            self.journal = {number: each for number, each in self.journal.items() if number > row.obsolete}
            if body:
                self.journal[row.number] = body
            if row.settles:
                self.standing = Standing.KNOWN
        self._may_fail()

    def recall(self) -> Recalled:
        """What a start finds."""
        if self.standing is Standing.DOUBTED:
            self.journal.clear()
            self.standing = Standing.KNOWN
        return recalled(sorted(self.journal.items()), self.standing)


class Broker:
    """The broker's session, which may be lost. It may be at a broker of another kind afterwards."""

    def __init__(self, kinds: Sequence[Identifiers], random: Random) -> None:
        self.kinds, self.random = kinds, random
        self.lose_session()

    def lose_session(self) -> None:
        self.session: ModelSession | None = None
        self.is_subscribed = False

    def connect(self) -> bool:
        """CONNECT came. Returns Session Present."""
        if is_new := self.session is None:
            self.session = ModelSession(self.random.choice(self.kinds), WINDOW)
            self.session._last = self.random.randrange(2 * WINDOW)
        assert self.session
        self.session.connected()
        return not is_new


class Job:
    def __init__(self, segments: list[list[Message]], row: JournalRow | None) -> None:
        self.segments, self.row = segments, row


class Simulation:
    """The broker, the bridge around ledger and journal, and the disk. `harshness`: how often faults come.

    `may_double`: serials that the bridge may write twice, because it was in doubt: loss outranks doubling.
    """

    def __init__(self, kinds: Sequence[Identifiers], random: Random) -> None:
        self.random = random
        self.harshness = random.choice((0.1, 0.3, 1.0))
        self.lateness = 0.05 * self.harshness  # how often the disk says a standing too late for the loop
        self.disk = Disk()
        self.broker = Broker(kinds, random)
        self.published: list[Sending] = []  # all of them: so id() stays theirs
        self.truth: dict[Message, Sending] = {}
        self.may_double: set[int] = set()
        self.needless: list[Sending] = []  # produced again although the rules allowed to join
        self.start()

    # -- the bridge ----------------------------------------------------------------------------------

    def start(self) -> None:
        self.linked = False
        self.to_bridge: deque[tuple[str, Sending, int, bool]] = deque()
        self.buffer: deque[tuple[str, int]] = deque()  # written, but not yet taken by the kernel
        self.to_broker: deque[tuple[str, int]] = deque()
        self.pending: list[Message] = []
        self.alive: set[int] = set()  # serials that this process has produced
        self.job: Job | None = None
        self.failed: JournalRow | None = None  # of a commit that has failed
        self.results: deque[Any] = deque()
        self.disk.fuse = -1
        self.ledger = Ledger(WINDOW)
        self.journal = Journal(self.ledger, self.note)
        if self.disk.standing is Standing.DOUBTED:
            self.all_may_double()
        self.journal.begin(self.disk.recall())

    def note(self, standing: Standing, forgets: bool) -> None:
        """The disk thread does what it has been given before, and then this."""
        self.work("commit")
        if self.failed:
            self.failed.settles = False
        if forgets:
            self.failed = None
        self.disk.note(standing, forgets)
        if self.random.random() < self.lateness:
            raise SpoolUnusable("the disk did not answer in time")

    def all_may_double(self) -> None:
        if session := self.broker.session:
            self.may_double |= {id(each) for each in session.inflight.values()}

    def connect(self, answered: bool = True) -> None:
        with suppress(SpoolUnusable):
            self.journal.connecting()
            present = self.broker.connect()
            if answered:
                self.be_connected(present)

    def be_connected(self, present: bool) -> None:
        forgotten = self.ledger.sessions
        if self.ledger.in_doubt:
            self.all_may_double()
        self.journal.connected(present, window_known=True)
        self.forgotten = self.ledger.sessions
        self.linked = True
        self.broker.is_subscribed = True
        assert present or forgotten != self.ledger.sessions
        self.pump()

    def receive(self, amount: int) -> None:
        sent: dict[Packet, Sending] = {}
        for _ in range(min(amount, len(self.to_bridge))):
            kind, sending, packet_id, dup = self.to_bridge.popleft()
            flags = sending.qos << 1 | DUP * dup
            is_release = kind == PUBREL
            packet: Packet = (
                Release(packet_id)
                if is_release
                else Message.of(sending.topic, flags, packet_id, None, sending.payload)
            )
            sent[packet] = sending
        counted = self.ledger.counts_upward
        for packet in self.ledger.receive(list(sent)):
            sending = sent[packet]
            if isinstance(packet, Release):
                self.release(packet)
                continue
            self.truth[packet] = sending
            serial = id(sending)
            if serial in self.disk.stored or serial in self.alive:
                # Once one copy was produced in doubt, the bridge no longer knows the other one.
                if not self.ledger.keeps_identifiers or (sending.qos == 1 and not counted):
                    self.may_double.add(serial)
                elif serial not in self.may_double:
                    self.needless.append(sending)
            self.alive.add(serial)
            self.pending.append(packet)

    def release(self, packet: Release) -> None:
        self.journal.release(packet.packet_id, packet.known)

    def write(self, amount: int) -> None:
        """Give the idle disk a job of at most two segments."""
        if self.job:
            return
        taken, self.pending = self.pending[:amount], self.pending[amount:]
        half = self.random.randint(0, len(taken))
        segments = [part for part in (taken[:half], taken[half:]) if part]
        for number, segment in enumerate(segments):
            self.journal.add(number, segment)
        if segments or self.journal.releases or self.journal.wants_commit:
            self.job = Job(segments, self.journal.take_row())

    def work(self, outcome: str) -> None:
        """The disk thread does its job: all of it, or a part of what was to be written; or it fails."""
        job, self.job = self.job, None
        if job is None:
            return
        if job.row:
            self.failed = job.row.after(self.failed) if self.failed else job.row
        fit = self.random.randrange(len(job.segments) + 1) if outcome == "refuse" else len(job.segments)
        if outcome == "fail":
            fit = 0
        else:
            row, self.failed = self.failed, None
            body, messages = row.packed(range(fit)) if row else (b"", 0)
            written = [id(self.truth[message]) for segment in job.segments[:fit] for message in segment]
            self.disk.write(written, row, body)
            if row:
                self.results.append(Journaled(row.number, messages))
            for segment in job.segments[:fit]:
                self.results.append(segment)
        for segment in reversed(job.segments[fit:]):
            self.pending = segment + self.pending

    def take_results(self) -> None:
        while self.results:
            result = self.results.popleft()
            if isinstance(result, Journaled):
                for packet_id, _ in self.journal.committed(result):
                    if self.linked:
                        self.buffer.append((PUBCOMP, packet_id))
            else:
                self.ledger.settle(*result)

    def acknowledge(self, amount: int) -> None:
        self.take_results()
        for message in self.ledger.take_settled():
            self.buffer.append((PUBREC if message.qos == 2 else PUBACK, message.packet_id))
        for _ in range(min(amount, len(self.buffer))):
            packet = self.buffer.popleft()
            self.to_broker.append(packet)
            self.ledger.handed_over(0 if packet[0] == PUBCOMP else 1)

    # -- the broker ----------------------------------------------------------------------------------

    def publish(self, amount: int) -> None:
        if self.broker.session and self.broker.is_subscribed:
            for _ in range(amount):
                sending = self.broker.session.publish(b"t", b"v", self.random.choice((1, 1, 2)))
                self.published.append(sending)
            if self.linked:
                self.pump()

    def pump(self) -> None:
        while self.broker.session and (sending := self.broker.session.take()) is not None:
            self.send(sending)

    def send(self, sending: Sending) -> None:
        kind = PUBREL if sending.released else PUBLISH
        self.to_bridge.append((kind, sending, sending.identifier, sending.dup))

    def hear(self, amount: int) -> None:
        session = self.broker.session
        for _ in range(min(amount, len(self.to_broker))):
            kind, packet_id = self.to_broker.popleft()
            if session is None:
                continue
            sending = session.inflight.get(packet_id)
            if sending is not None and (kind, sending.qos) in ((PUBACK, 1), (PUBREC, 2)):
                assert id(sending) in self.disk.stored, f"lost: {sending}"
            if kind == PUBACK:
                session.puback(packet_id)
            elif kind == PUBCOMP:
                session.pubcomp(packet_id)
            elif session.pubrec(packet_id) and sending and self.linked:
                self.send(sending)
        if self.linked:
            self.pump()

    # -- faults --------------------------------------------------------------------------------------

    def cut(self, amount: int) -> None:
        """The connection ends: `amount` packets still reach the broker; all others are lost, both ways."""
        self.hear(amount)
        if not self.linked:
            return
        self.ledger.disconnected()
        self.linked = False
        for wire in (self.to_bridge, self.buffer, self.to_broker):
            wire.clear()

    def crash(self, amount: int) -> None:
        """kill -9 of the bridge, or a power cut: what it has written to the kernel may still arrive."""
        self.hear(amount)
        self.start()

    def lose_session(self, amount: int) -> None:
        self.cut(amount)
        self.broker.lose_session()

    def resend_live(self) -> None:
        if self.linked and self.broker.session:
            for sending in self.broker.session.resend_live():
                self.send(sending)

    def step(self) -> None:
        random, amount = self.random, self.random.randrange(2 * WINDOW)
        if random.random() < 0.02 * self.harshness:
            self.disk.fuse = random.randint(1, 6)
        with suppress(PowerCut):
            if random.random() < 0.1 * self.harshness:
                self.have_a_fault(amount)
            elif not self.linked:
                self.connect(answered=random.random() < 1 - 0.2 * self.harshness)
            elif random.random() < 0.3:
                self.publish(amount)
                self.go_on(3)
            else:
                random.choice(
                    (
                        lambda: self.publish(amount),
                        lambda: self.receive(amount),
                        lambda: self.write(amount),
                        lambda: self.work(random.choice(("commit", "commit", "commit", "refuse", "fail"))),
                        lambda: self.acknowledge(amount),
                        lambda: self.hear(amount),
                    )
                )()
            return
        self.crash(amount)

    def have_a_fault(self, amount: int) -> None:
        chance = self.random.random()
        if chance < 0.2:
            self.resend_live()
        elif chance < 0.5:
            self.cut(amount)
        elif chance < 0.93:
            self.crash(amount)
        else:
            self.lose_session(amount)

    def go_on(self, amount: int) -> None:
        """All goes its way for a while."""
        self.receive(amount)
        self.write(amount)
        self.work("commit")
        self.acknowledge(amount)
        self.hear(amount)

    def finish(self) -> None:
        """Without further faults every message completes."""
        self.disk.fuse = -1
        self.lateness = 0.0
        if not self.linked:
            self.connect()
        for _ in range(4 * len(self.published) + 8):
            self.go_on(100)
        session = self.broker.session
        assert session
        assert not session.inflight
        assert not session.queue
        assert {id(each) for each in session.acked} <= self.disk.stored


def live(kinds: Sequence[Identifiers], seed: int, steps: int = STEPS) -> Simulation:
    simulation = Simulation(kinds, Random(seed))
    for _ in range(steps):
        simulation.step()
        assert not simulation.needless, f"doubled: {simulation.needless}"
    simulation.finish()
    return simulation


EVERY_KIND = tuple(Identifiers)


@pytest.mark.parametrize("kinds", [*((each,) for each in EVERY_KIND), EVERY_KIND], ids=str)
@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_nothing_is_lost_and_nothing_doubled_that_the_rules_can_tell(
    kinds: Sequence[Identifiers], seed: int
) -> None:
    live(kinds, seed)


# -- the simulation notices a broken bridge -------------------------------------------------------------

UPWARD, LOWEST_FREE = (Identifiers.UPWARD,), (Identifiers.LOWEST_FREE,)


def _completes_at_once(patch: pytest.MonkeyPatch) -> None:
    def release(self: Simulation, packet: Release) -> None:
        self.buffer.append((PUBCOMP, packet.packet_id))
        self.journal.release(packet.packet_id, packet.known)

    patch.setattr(Simulation, "release", release)


def _writes_no_pubrel(patch: pytest.MonkeyPatch) -> None:
    def release(self: Simulation, packet: Release) -> None:
        body = [*self.journal._body]
        self.journal.release(packet.packet_id, packet.known)
        self.journal._body = body

    patch.setattr(Simulation, "release", release)


def _keeps_the_journal_of_a_lost_session(patch: pytest.MonkeyPatch) -> None:
    say = Journal._say
    patch.setattr(Journal, "_say", lambda self, standing, forgets=False: say(self, standing))


def _does_not_say_that_it_asks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "connecting", lambda self: self._agree())


def _subscribes_before_it_says_so(patch: pytest.MonkeyPatch) -> None:
    say = Journal._say

    def at_most_asked(self: Journal, standing: Standing, forgets: bool = False) -> None:
        say(self, Standing.ASKED if standing is Standing.DOUBTED else standing, forgets)

    patch.setattr(Journal, "_say", at_most_asked)


def _trusts_what_settles_too_early(patch: pytest.MonkeyPatch) -> None:
    say = Journal._say

    def asked(self: Journal, standing: Standing, forgets: bool = False) -> None:
        is_connecting = standing is Standing.DOUBTED and self.standing is Standing.KNOWN
        say(self, Standing.ASKED if is_connecting else standing, forgets)

    patch.setattr(Journal, "_say", asked)


def _writes_entries_of_what_the_disk_refused(patch: pytest.MonkeyPatch) -> None:
    packed = JournalRow.packed
    patch.setattr(JournalRow, "packed", lambda self, _: packed(self, list(self.entries)))


def _takes_each_acknowledgement_for_unsent(patch: pytest.MonkeyPatch) -> None:
    recall = Ledger.recall

    def unsent(self: Ledger, entries: Any, facts: Facts) -> list[Message]:
        found = recall(self, entries, facts)
        for message in found:
            message.state = 1
        return found

    patch.setattr(Ledger, "recall", unsent)


def _believes_that_each_broker_counts_upward(patch: pytest.MonkeyPatch) -> None:
    recall = Ledger.recall
    upward = Facts(keeps_identifiers=True, last_id=9, highest_id=9)
    patch.setattr(Ledger, "recall", lambda self, entries, facts: recall(self, entries, facts and upward))


def _trusts_a_session_that_an_unanswered_connect_made(patch: pytest.MonkeyPatch) -> None:
    connected = Ledger.connected
    patch.setattr(
        Ledger,
        "connected",
        lambda self, present, window_known, in_doubt=False: connected(self, present, window_known),
    )


def _remembers_too_little(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "remembered", 1)


@pytest.mark.parametrize(
    ("breaks", "kinds", "notices", "seed"),
    [
        (_completes_at_once, LOWEST_FREE, "lost", 5),
        (_writes_no_pubrel, LOWEST_FREE, "lost", 0),
        (_keeps_the_journal_of_a_lost_session, UPWARD, "lost", 214),
        (_does_not_say_that_it_asks, UPWARD, "lost", 95),
        (_subscribes_before_it_says_so, UPWARD, "lost", 161),
        (_writes_entries_of_what_the_disk_refused, UPWARD, "lost", 17),
        (_takes_each_acknowledgement_for_unsent, LOWEST_FREE, "lost", 0),
        (_believes_that_each_broker_counts_upward, LOWEST_FREE, "lost", 0),
        (_trusts_a_session_that_an_unanswered_connect_made, UPWARD, "lost", 158),
        (_remembers_too_little, UPWARD, "doubled", 918),
    ],
)
def test_the_simulation_notices_a_bridge_that(
    breaks: Callable[[pytest.MonkeyPatch], None],
    kinds: Sequence[Identifiers],
    notices: str,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`seed`: where it was seen; others follow, for a changed simulation."""
    breaks(monkeypatch)
    with pytest.raises(AssertionError, match=notices):
        _live_again_and_again(kinds, seed)


def _live_again_and_again(kinds: Sequence[Identifiers], seed: int) -> None:
    for each in chain((seed,), range(3000)):
        live(kinds, each)


# -- what chance hardly ever finds ----------------------------------------------------------------------


def _send(simulation: Simulation, identifier: int) -> None:
    session = simulation.broker.session
    assert session
    session._last = identifier - 1
    simulation.published.append(session.publish(b"t", b"v", 1))
    simulation.pump()


def _counted_up() -> Simulation:
    """A live session whose broker is known to count upward."""
    simulation = Simulation(UPWARD, Random(0))
    simulation.lateness = 0.0
    simulation.connect()
    for identifier in range(1, 2 * WINDOW):
        _send(simulation, identifier)
        simulation.go_on(100)
    return simulation


def _connects_before_the_disk_knows_that_the_session_is_another() -> None:
    """A session was lost, and its successor was made by a CONNECT that nobody answered. The first packet of
    the next connection tells, but the connection ends before the disk knows, and the bridge as it connects.
    """
    simulation = _counted_up()
    simulation.lose_session(0)
    simulation.connect(answered=False)
    simulation.connect()
    _send(simulation, 2 * WINDOW - 2)
    simulation.receive(1)
    simulation.cut(0)
    simulation.connect(answered=False)
    simulation.crash(0)
    simulation.connect()
    simulation.finish()


def test_a_standing_that_the_disk_says_too_late_is_said_anew_before_the_next_connect() -> None:
    """The disk stalls when it is to say that the session is known, and says so when the bridge has given up.
    The session is lost, its successor is made by a CONNECT, and the bridge is killed before the answer.
    """
    simulation = _counted_up()
    simulation.cut(0)
    with pytest.MonkeyPatch.context() as patch:
        write_now = simulation.journal._write_now

        def late(standing: Standing, forgets: bool) -> None:
            write_now(standing, forgets)
            if standing is Standing.KNOWN:
                raise SpoolUnusable("the disk did not answer in time")

        patch.setattr(simulation.journal, "_write_now", late)
        simulation.connect()
    simulation.lose_session(0)
    simulation.connect(answered=False)
    simulation.crash(0)
    simulation.connect()
    _send(simulation, 2 * WINDOW - 2)
    simulation.cut(0)
    simulation.connect()
    simulation.finish()


def test_a_doubt_stays_on_disk_until_what_settles_it_is_there() -> None:
    _connects_before_the_disk_knows_that_the_session_is_another()


def test_the_simulation_notices_a_bridge_that_trusts_what_settles_too_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _trusts_what_settles_too_early(monkeypatch)
    with pytest.raises(AssertionError, match="lost"):
        _connects_before_the_disk_knows_that_the_session_is_another()
