"""kill, start, hang and resume a host of the chain, and tell what followed."""

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

# From which condition of a host each verb leads to which, and the verb that helps where it doesn't fit.
_FROM = {"kill": ("up", "hung", "starts"), "start": ("down",), "hang": ("up",), "resume": ("hung",)}
_WAY_OUT = {"up": "hang", "down": "start", "hung": "resume", "starts": "kill"}
_PAST = {"kill": "killed", "start": "started", "hang": "hangs", "resume": "goes on"}

Watched = Mapping[str, Callable[[], object]]


class LabError(Exception):
    """What was asked for can't be done. The text says why, and what can."""


@dataclass
class Deed:
    """A verb that was begun. As text: what was seen of it up to now."""

    verb: str
    name: str
    watched: Watched
    began: float  # what follows is timed from here; for a host that was started: from when it served
    took: float | None = None  # s until a host that was started served
    seen: dict[str, float] = field(default_factory=dict)  # what followed -> after how many seconds
    in_vain: list[str] = field(default_factory=list)
    patience: float = 0.0  # s for which they were waited for
    overtaken: threading.Event = field(default_factory=threading.Event)
    """Something else was done to the same host: nobody waits for this any more."""

    def __str__(self) -> str:
        done = f"{self.name} {_PAST[self.verb]}" + ("" if self.took is None else f" in {_time(self.took)}")
        followed = ["what it had in flight may come twice"] if done == "bridge killed" else []
        followed += [f"{what} after {_time(taken)}" for what, taken in self.seen.items()]
        followed += [f"not seen within {self.patience:g} s: {what}" for what in self.in_vain]
        return "; ".join([done, ", ".join(followed)] if followed else [done])


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


class Verbs:
    """`begin` must be called by the main thread, which alone may start processes; `follow` by any."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        # Seconds that consequences are waited for. A session that lived on a real EMQX node which hangs can't
        # be resumed before the cluster drops that node, 139 s later by default.
        self._stop_deadline = 150.0 if chain.emq.family == "external" else 30.0
        self._latest: dict[str, Deed] = {}  # of each host
        self._hands = threading.Lock()  # over what ends and starts processes
        self.put_out: set[str] = set()  # killed on purpose, so nobody wonders that they are gone
        self.unseen: list[str] = []  # consequences that were waited for in vain

    def begin(self, verb: str, name: str) -> Deed:
        """Do it without waiting for what follows. Raises LabError."""
        self._require(verb, name)
        deed = Deed(verb, name, self._consequences(verb, name), time.monotonic())
        if name in self._latest:
            self._latest[name].overtaken.set()
        self._latest[name] = deed
        node = self._chain.nodes[name]
        if isinstance(node, Process):  # anybody else's is controlled by a command, which takes its time
            with self._hands, _failing(deed):
                self._apply(verb, node)
        return deed

    def follow(self, deed: Deed, tell: Callable[[str], None] = lambda text: None) -> str:
        """Wait for what follows, `tell` each time what was seen up to now, and return it. Raises LabError."""
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
        """The lab ends: what is still waited for need not be."""
        for deed in list(self._latest.values()):
            deed.overtaken.set()

    def _require(self, verb: str, name: str) -> None:
        if name not in self._chain.nodes:
            raise LabError(f"there is no {name}: {', '.join(self._chain.nodes)}")
        if not isinstance(self._chain.nodes[name], Process):
            return  # not started here, so who controls it knows its condition
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
                    return  # it was killed meanwhile
                node.kill9()
                raise
        finally:
            if not deed.overtaken.is_set():
                self._chain.starting.discard(deed.name)
        self.put_out.discard(deed.name)
        now = time.monotonic()
        deed.took, deed.began = now - deed.began, now

    def _consequences(self, verb: str, name: str) -> Watched:
        """What is to be seen after this verb, and how to see it."""
        chain = self._chain
        goes = verb in ("kill", "hang")
        watched: dict[str, Callable[[], object]] = {}
        if name.startswith("emq") and chain.condition("haproxy") == "up":
            number = int(name[-1])
            state = "DOWN" if goes else "UP"
            watched[f"HAProxy calls it {state}"] = lambda: chain.haproxy.state(number) == state
            if verb == "hang" and chain.emq.family == "rabbitmq":
                return watched  # its mirrors wait for one that hangs, and so does every session
            if goes and chain.haproxy.sessions(number):
                watched[f"the bridge went over to emq{3 - number}"] = self._next_live()
        if name in ("haproxy", "bridge"):
            if goes:
                return watched  # nothing can flow until it is back
            if verb == "start" or not chain.bridge.entries("mqtt.live"):
                watched["the bridge is live"] = self._next_live()
        watched["messages flow"] = self._flow()
        return watched

    def _next_live(self) -> Callable[[], object]:
        mark = self._chain.bridge.journal.mark()
        return lambda: self._chain.bridge.journal.matching("mqtt.live", {}, mark)

    def _flow(self) -> Callable[[], bool]:
        """All that was promised before is delivered, and something that was promised since."""
        board = self._chain.scoreboard
        before: set[str] = set()

        def flows() -> bool:
            if not before:
                before.update(board.promised())
            since = board.promised() - before
            return not board.missing(before) and len(board.missing(since)) < len(since)

        return flows

    def _watch(self, deed: Deed, tell: Callable[[str], None]) -> None:
        """Wait for all that follows, side by side, until something else is done to the same host."""

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
    """What goes wrong inside is told as the verb's failure."""
    try:
        yield
    except (RuntimeError, NotInTime, OSError, subprocess.SubprocessError) as error:
        raise LabError(f"{deed.verb} {deed.name} failed: {error}") from error
