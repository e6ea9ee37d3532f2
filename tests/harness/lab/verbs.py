"""Kill, start, hang and resume a host of the chain, and report the consequences."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.harness.conditions import NotInTime, wait_until
from tests.harness.lab.chain import Chain
from tests.harness.process import Node, Process

VERBS = ("kill", "start", "hang", "resume")

# For each verb: the condition of a host before and after. Then, for each condition, the verb that fits.
_FROM = {"kill": ("up", "hung", "starts"), "start": ("down",), "hang": ("up",), "resume": ("hung",)}
_WAY_OUT = {"up": "hang", "down": "start", "hung": "resume", "starts": "kill"}
_PAST = {"kill": "killed", "start": "started", "hang": "hangs", "resume": "goes on"}

Watched = Mapping[str, Callable[[], object]]


class LabError(Exception):
    """A request cannot be carried out. The text says why, and what the user can do."""


@dataclass
class Deed:
    """A verb that was begun. Its text tells the consequences seen up to now."""

    verb: str
    name: str
    watched: Watched
    began: float  # start of the timing of consequences; for a started host: when it served
    took: float | None = None  # s until a host that was started served
    seen: dict[str, float] = field(default_factory=dict)  # consequence -> after how many seconds
    in_vain: list[str] = field(default_factory=list)
    patience: float = 0.0  # s that the consequences were waited for
    overtaken: threading.Event = field(default_factory=threading.Event)
    """Set when another verb was begun for the same host: stop waiting."""

    def __str__(self) -> str:
        done = f"{self.name} {_PAST[self.verb]}" + ("" if self.took is None else f" in {_time(self.took)}")
        followed = ["what it had in flight may come twice"] if done == "bridge killed" else []
        followed += [f"{what} after {_time(taken)}" for what, taken in self.seen.items()]
        followed += [f"not seen within {self.patience:g} s: {what}" for what in self.in_vain]
        return "; ".join([done, ", ".join(followed)] if followed else [done])


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


class Verbs:
    """Call `begin` in the main thread, the only one that may start processes; `follow` in any."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        # Seconds to wait for consequences. A session on a real EMQX node that hangs can't be resumed before
        # the cluster drops that node, 139 s later by default.
        self._stop_deadline = 150.0 if chain.emq.family == "external" else 30.0
        self._latest: dict[str, Deed] = {}  # the latest deed of each host
        self._hands = threading.Lock()  # guards the start and end of processes
        self.put_out: set[str] = set()  # killed on purpose, so their end is no error
        self.unseen: list[str] = []  # consequences that did not follow in time

    def begin(self, verb: str, name: str) -> Deed:
        """Carry out a verb without waiting for its consequences. Raises LabError."""
        self._require(verb, name)
        deed = Deed(verb, name, self._consequences(verb, name), time.monotonic())
        if name in self._latest:
            self._latest[name].overtaken.set()
        self._latest[name] = deed
        node = self._chain.nodes[name]
        if isinstance(node, Process):  # others are controlled by a command, which may be slow
            with self._hands, _failing(deed):
                self._apply(verb, node)
        return deed

    def follow(self, deed: Deed, tell: Callable[[str], None] = lambda text: None) -> str:
        """Wait for the consequences; `tell` the text so far after each, and return it. Raises LabError."""
        node = self._chain.nodes[deed.name]
        with _failing(deed):
            if not isinstance(node, Process):
                self._apply(deed.verb, node)
                deed.began = time.monotonic()
            elif deed.verb == "start":
                self._wait_ready(deed, node)
        self._watch(deed, tell)
        return str(deed)

    def give_up(self) -> None:
        """Stop waiting for consequences, because the lab ends."""
        for deed in list(self._latest.values()):
            deed.overtaken.set()

    def _require(self, verb: str, name: str) -> None:
        if name not in self._chain.nodes:
            raise LabError(f"there is no {name}: {', '.join(self._chain.nodes)}")
        if not isinstance(self._chain.nodes[name], Process):
            return  # not started here, so its condition is not known here
        condition = self._chain.condition(name)
        if condition not in _FROM[verb]:
            raise LabError(
                f"{name} is {condition}: deploy/lab {_WAY_OUT[condition]} {name} is what can be done"
            )

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

    def _wait_ready(self, deed: Deed, node: Process) -> None:
        try:
            node.wait_ready()
        except BaseException:
            with self._hands:
                if deed.overtaken.is_set():
                    return  # the host was killed meanwhile
                node.kill9()
                raise
        finally:
            if not deed.overtaken.is_set():
                self._chain.starting.discard(deed.name)
        self.put_out.discard(deed.name)
        now = time.monotonic()
        deed.took, deed.began = now - deed.began, now

    def _consequences(self, verb: str, name: str) -> Watched:
        """The consequences that this verb should have, each with the function that checks it."""
        chain = self._chain
        goes = verb in ("kill", "hang")
        watched: dict[str, Callable[[], object]] = {}
        if name.startswith("emq") and chain.condition("haproxy") == "up":
            number = int(name[-1])
            state = "DOWN" if goes else "UP"
            watched[f"HAProxy calls it {state}"] = lambda: chain.haproxy.state(number) == state
            if verb == "hang" and chain.emq.family == "rabbitmq":
                return watched  # the mirrors wait for a node that hangs, and so does every session
            if goes and chain.haproxy.sessions(number):
                watched[f"the bridge went over to emq{3 - number}"] = self._next_live()
        if name in ("haproxy", "bridge"):
            if goes:
                return watched  # nothing can flow until the host is back
            if verb == "start" or not chain.bridge.entries("mqtt.live"):
                watched["the bridge is live"] = self._next_live()
        watched["messages flow"] = self._flow()
        return watched

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

    def _watch(self, deed: Deed, tell: Callable[[str], None]) -> None:
        """Wait for all consequences at once, until another verb is begun for the same host."""

        def is_over() -> bool:
            for what, condition in deed.watched.items():
                if what not in deed.seen and condition():
                    deed.seen[what] = time.monotonic() - deed.began
                    tell(str(deed))
            return len(deed.seen) == len(deed.watched) or deed.overtaken.is_set()

        tell(str(deed))
        try:
            wait_until(is_over, self._stop_deadline, "")
        except NotInTime:
            deed.in_vain = [what for what in deed.watched if what not in deed.seen]
            deed.patience = self._stop_deadline
            self.unseen += deed.in_vain


@contextlib.contextmanager
def _failing(deed: Deed) -> Iterator[None]:
    """Turn an error inside the block into the verb's failure."""
    try:
        yield
    except (RuntimeError, NotInTime, OSError, subprocess.SubprocessError) as error:
        raise LabError(f"{deed.verb} {deed.name} failed: {error}") from error
