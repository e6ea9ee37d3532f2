"""Kill, start, hang and resume hosts of the chain, and report the consequences."""

import contextlib
import math
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.harness.conditions import NotInTime, patient, rounded, wait_until
from tests.harness.lab import keys
from tests.harness.lab.chain import Chain
from tests.harness.lab.words import KINDS, QUORUM
from tests.harness.process import Node, Process

# For each verb: the conditions of a host that it fits. Then, for each other condition, the verb that fits. A
# host that is up needs none: only start and resume do not fit it, and it does already what they are for.
_FROM = {"kill": ("up", "hung", "starts"), "start": ("down",), "hang": ("up",), "resume": ("hung",)}
_WAY_OUT = {"down": "start", "hung": "resume", "starts": "kill"}
_PAST = {"kill": "killed", "start": "started", "hang": "hangs", "resume": "goes on"}
_PAST_OF_MANY = _PAST | {"hang": "hang", "resume": "go on"}

_FLOW = "messages flow"

# Seconds for which partitions must have no leader before the lab says that they wait for a broker: an
# election takes 2 to 4 s. While the flow is timed, Kafka is not asked before _ELECTION, because the question
# may block.
_ELECTION, _STUCK = 5.0, 8.0

Watched = Mapping[str, Callable[[], object]]


class LabError(Exception):
    """A request cannot be carried out. The text says why, and what the user can do."""


@dataclass
class Deed:
    """A verb that was begun for one host, or for all of a kind. Its text tells the consequences until now."""

    verb: str
    names: tuple[str, ...]
    watched: Watched
    began: float  # start of the timing of consequences; for started hosts: when all of them served
    took: float | None = None  # s until the hosts that were started served
    seen: dict[str, float] = field(default_factory=dict)  # consequence -> after how many seconds
    in_vain: list[str] = field(default_factory=list)
    patience: float = 0.0  # s that the consequences were waited for
    remark: str = ""  # why the consequences cannot follow now

    def __str__(self) -> str:
        past = _PAST if len(self.names) == 1 else _PAST_OF_MANY
        done = f"{', '.join(self.names)} {past[self.verb]}"
        done += "" if self.took is None else f" in {_time(self.took)}"
        followed = ["what it had in flight may come twice"] if done == "bridge killed" else []
        followed += [f"{what} after {_time(taken)}" for what, taken in self.seen.items()]
        followed += [f"not seen within {rounded(self.patience)} s: {what}" for what in self.in_vain]
        followed += [self.remark] if self.remark else []
        return "; ".join([done, ", ".join(followed)] if followed else [done])


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


class Verbs:
    """Call `begin` in the main thread, the only one that may start processes; `follow` in any.

    `news` is told what happens after `follow` has returned.
    """

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.news: Callable[[str], object] = lambda text: None
        # Seconds to wait for consequences. A session on a real EMQX node that hangs can't be resumed before
        # the cluster drops that node, 139 s later by default.
        self._stop_deadline = 150.0 if chain.emq.family == "external" else 30.0
        self._latest: dict[str, Deed] = {}  # the latest deed of each host
        self._hands = threading.Lock()  # guards the start and end of processes
        self._ends = threading.Event()  # the lab ends: wait for nothing more
        self.put_out: set[str] = set()  # killed on purpose, so their end is no error
        self.unseen: list[str] = []  # consequences that did not follow in time
        self._leaderless = 0  # partitions, when Kafka was asked last
        self._leaderless_since = math.inf
        self._asked_at = -math.inf

    def begin(self, verb: str, word: str) -> Deed:
        """Carry out a verb for a host, or for all of a kind that it fits ("kafka", "emq"), without waiting
        for its consequences. Raises LabError.
        """
        names = self._names(verb, word)
        deed = Deed(verb, names, self._consequences(verb, names), time.monotonic())
        for name in names:
            self._latest[name] = deed
        with _failing(deed):
            self._apply_all(deed)
        return deed

    def follow(self, deed: Deed, tell: Callable[[str], None] = lambda text: None) -> str:
        """Wait for the consequences; `tell` the text so far after each, and return it. Raises LabError."""
        nodes = [self._chain.nodes[name] for name in deed.names]
        with _failing(deed):
            for node in nodes:
                if not isinstance(node, Process):
                    self._apply(deed.verb, node)
                    deed.began = time.monotonic()
            if deed.verb == "start" and not self._all_ready(deed):
                return str(deed)
        self._watch(deed, tell)
        return str(deed)

    def give_up(self) -> None:
        """Stop waiting for consequences, because the lab ends."""
        self._ends.set()

    def waits_for(self, deed: Deed) -> str:
        """The text of the deed, and what it still waits for. Never blocks."""
        slow = [name for name in deed.names if name in self._chain.starting]
        if deed.verb == "start" and slow:
            leaders = f"; {self._without_leader()}" if self._leaderless else ""
            return f"{deed}; not ready yet: {', '.join(slow)}{leaders}"
        unseen = [what for what in deed.watched if what not in deed.seen]
        return f"{deed}; not seen yet: {', '.join(unseen)}" if unseen else str(deed)

    @property
    def kafka_answers(self) -> bool:
        """Whether enough Kafka brokers run to answer. To confirm a message, its partition needs a leader."""
        return sum(self._runs(name) for name in KINDS["kafka"]) >= QUORUM

    # -- which hosts -----------------------------------------------------------------------

    def _names(self, verb: str, word: str) -> tuple[str, ...]:
        """The hosts of the word that this verb fits. Raises LabError if there is none."""
        hosts = KINDS.get(word, (word,))
        if unknown := [name for name in hosts if name not in self._chain.nodes]:
            known = ", ".join([*self._chain.nodes, *KINDS])
            raise LabError(f"there is no {', '.join(unknown)}: {known}")
        conditions = {name: self._condition(name) for name in hosts}
        fitting = tuple(name for name, is_now in conditions.items() if is_now in ("", *_FROM[verb]))
        if fitting:
            return fitting
        are = ", ".join(f"{name} is {is_now}" for name, is_now in conditions.items())
        ways = sorted({_WAY_OUT[is_now] for is_now in conditions.values() if is_now in _WAY_OUT})
        if not ways:
            raise LabError(f"{are}: there is nothing to {verb}")
        ways = [
            f"deploy/lab {way} {word}" + (f" (key {key} of the view)" if (key := keys.key(way, word)) else "")
            for way in ways
        ]
        raise LabError(f"{are}: {' or '.join(ways)} is what can be done")

    def _condition(self, name: str) -> str:
        """The host's condition; "" if the lab did not start it, so its condition is not known here."""
        return self._chain.condition(name) if isinstance(self._chain.nodes[name], Process) else ""

    def _runs(self, name: str) -> bool:
        return self._condition(name) in ("", "up", "starts")

    # -- the deed itself -------------------------------------------------------------------

    def _apply_all(self, deed: Deed) -> None:
        begun: list[Process] = []
        with self._hands:
            try:
                for name in deed.names:
                    node = self._chain.nodes[name]
                    if isinstance(node, Process):  # others are controlled by a command, which may be slow
                        self._apply(deed.verb, node)
                        begun.append(node)
            except BaseException:
                if deed.verb == "start":  # nobody would wait for those that were started before the failure
                    for node in begun:
                        node.kill9()
                        self._chain.starting.discard(node.name)
                raise

    def _apply(self, verb: str, node: Node) -> None:
        match verb:
            case "kill":
                self.put_out.add(node.name)
                node.kill9()
                self._chain.starting.discard(node.name)
            case "start" if isinstance(node, Process):
                node.spawn()
                self._chain.starting.add(node.name)
            case "start":
                node.start()
            case "hang":
                node.hang()
            case "resume":
                node.resume()

    def _is_over(self, deed: Deed, name: str = "") -> bool:
        """Whether another verb was begun for this host (or for any of the deed's), or the lab ends."""
        names = (name,) if name else deed.names
        return self._ends.is_set() or any(self._latest[each] is not deed for each in names)

    def _all_ready(self, deed: Deed) -> bool:
        """Wait until all started hosts serve. False if brokers were left waiting for others."""
        waiting = []
        for name in deed.names:
            node = self._chain.nodes[name]
            if isinstance(node, Process) and not self._is_ready(deed, node):
                waiting.append(node)
        if waiting:
            they = ", ".join(node.name for node in waiting)
            deed.remark = self._stuck() or (
                f"waits for its peers, because Kafka does not answer before {QUORUM} of its 3 brokers "
                "are up: deploy/lab start kafka"
            )
            for node in waiting:
                threading.Thread(
                    target=self._await_peers, args=[deed, node], name=f"{they} waits", daemon=True
                ).start()
            return False
        now = time.monotonic()
        deed.took, deed.began = now - deed.began, now
        return True

    def _is_ready(self, deed: Deed, node: Process, *, alone: bool = False) -> bool:
        """Wait until the host serves. A Kafka broker cannot without enough peers, or while partitions wait
        for another broker: False, unless `alone`, then wait for the others as long as it takes.
        """
        is_ready = False
        may_give_up = not alone and node.name in KINDS["kafka"]

        def has_an_end() -> bool:
            nonlocal is_ready
            if self._is_over(deed, node.name) or (may_give_up and not self.kafka_answers):
                return True
            is_ready = node.is_ready()
            return is_ready or (may_give_up and bool(self._stuck()))

        try:
            deadline = math.inf if alone else node.deadline
            wait_until(has_an_end, deadline, lambda: f"{node.name} is ready{node.log_tail()}")
        except BaseException:
            with self._hands:
                if self._is_over(deed, node.name):
                    return True  # the host was killed meanwhile
                node.kill9()
                self._chain.starting.discard(node.name)
                raise
        if self._is_over(deed, node.name):
            return True
        if not is_ready:
            return False
        self._chain.starting.discard(node.name)
        self.put_out.discard(node.name)
        return True

    def _await_peers(self, deed: Deed, node: Process) -> None:
        """Wait on after the answer, so that the host's condition becomes "up" once its peers are there."""
        try:
            self._is_ready(deed, node, alone=True)
        except RuntimeError as error:
            self.news(f"{node.name} waited for its peers, and has ended: {error}")
        else:
            if not self._is_over(deed, node.name):
                self.news(f"{node.name} is up: the brokers that it needs are there")

    # -- partitions without a leader ---------------------------------------------------------

    def _stuck(self) -> str:
        """Why no message flows although Kafka answers: partitions wait for the broker that was in sync last.
        "": none does, or only for as long as an election takes. Asks Kafka, at most once a second.
        """
        now = time.monotonic()
        if now - self._asked_at >= 1.0:
            self._asked_at = now
            may_wait = self.kafka_answers and self._kafka_out()
            self._leaderless = self._chain.kafka.leaderless() if may_wait else 0
            if not self._leaderless:
                self._leaderless_since = math.inf
            elif self._leaderless_since == math.inf:
                self._leaderless_since = now
        if now - self._leaderless_since < patient(_STUCK) or not (out := self._kafka_out()):
            return ""
        ways = [f"deploy/lab {_WAY_OUT.get(self._condition(name), 'start')} {name}" for name in out]
        return f"{self._without_leader()}: {', '.join(ways)}"

    def _without_leader(self) -> str:
        last = " or ".join(self._kafka_out()) or "another broker"
        count = f"{self._leaderless} partition{'s' * (self._leaderless > 1)}"
        return f"{count} cannot have a leader before {last} is back, which was in sync last"

    def _kafka_out(self) -> list[str]:
        return [name for name in KINDS["kafka"] if not self._runs(name)]

    # -- consequences ----------------------------------------------------------------------

    def _consequences(self, verb: str, names: Sequence[str]) -> Watched:
        """The consequences that this verb should have, each with the function that checks it."""
        chain = self._chain
        goes = verb in ("kill", "hang")
        watched: dict[str, Callable[[], object]] = {}
        nodes = [int(name[-1]) for name in names if name in KINDS["emq"]]
        if nodes and chain.condition("haproxy") == "up":
            for number in nodes:
                name = "it" if len(names) == 1 else f"emq{number}"
                state = "DOWN" if goes else "UP"
                watched[f"HAProxy calls {name} {state}"] = self._has_state(number, state)
            if verb == "hang" and chain.emq.family == "rabbitmq":
                return watched  # the mirrors wait for a node that hangs, and so does every session
            if goes and len(nodes) == 1 and chain.is_bridge_at(nodes[0]):
                watched[f"the bridge went over to emq{3 - nodes[0]}"] = self._next_live()
        if "haproxy" in names or "bridge" in names:
            if goes:
                return watched  # nothing can flow until the host is back
            if verb == "start" or not chain.bridge.entries("mqtt.live"):
                watched["the bridge is live"] = self._next_live()
        watched[_FLOW] = self._flow()
        return watched

    def _has_state(self, number: int, state: str) -> Callable[[], bool]:
        return lambda: self._chain.haproxy.state(number) == state

    def _next_live(self) -> Callable[[], object]:
        mark = self._chain.bridge.journal.mark()
        return lambda: self._chain.bridge.journal.matching("mqtt.live", {}, mark)

    def _flow(self) -> Callable[[], bool]:
        """Checks that all earlier published messages are delivered, and at least one later message."""
        board = self._chain.scoreboard
        before: set[str] = set()

        def flows() -> bool:
            if not before:
                before.update(board.promised())
            since = board.promised() - before
            return not board.missing(before) and len(board.missing(since)) < len(since)

        return flows

    def _hindrance(self, what: str, waited: float) -> str:
        """Why this consequence cannot follow before another host is back; "": it can. `waited`: so far, s."""
        if not self._runs("haproxy"):
            return "HAProxy is not up, so no message reaches EMQ or the bridge"
        if what.startswith("HAProxy calls"):
            return ""
        if not any(self._runs(name) for name in KINDS["emq"]):
            return "no EMQ node is up, so the devices cannot publish (deploy/lab start emq or resume emq)"
        if what != _FLOW:
            return ""
        if not self._runs("bridge"):
            return "the bridge is not up, so messages wait in EMQ's queue"
        if not self.kafka_answers:
            return f"fewer than {QUORUM} Kafka brokers are up, so messages wait on the bridge's disk"
        if waited > _ELECTION and (stuck := self._stuck()):
            return f"messages wait on the bridge's disk: {stuck}"
        return ""

    def _watch(self, deed: Deed, tell: Callable[[str], None]) -> None:
        """Wait for all consequences at once, until another verb is begun for the same host."""

        def is_over() -> bool:
            for what, condition in deed.watched.items():
                if what not in deed.seen and condition():
                    deed.seen[what] = time.monotonic() - deed.began
                    tell(str(deed))
            waited = time.monotonic() - deed.began
            hindrances = [self._hindrance(what, waited) for what in deed.watched if what not in deed.seen]
            if hindrances and all(hindrances):
                deed.remark = hindrances[0]
                return True
            return not hindrances or self._is_over(deed)

        tell(str(deed))
        try:
            wait_until(is_over, self._stop_deadline, "")
        except NotInTime:
            deed.in_vain = [what for what in deed.watched if what not in deed.seen]
            deed.patience = patient(self._stop_deadline)
            self.unseen += deed.in_vain


@contextlib.contextmanager
def _failing(deed: Deed) -> Iterator[None]:
    """Turn an error inside the block into the verb's failure."""
    try:
        yield
    except (RuntimeError, NotInTime, OSError, subprocess.SubprocessError) as error:
        raise LabError(f"{deed.verb} {', '.join(deed.names)} failed: {error}") from error
