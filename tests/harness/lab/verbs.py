"""kill, start, hang and resume a host of the chain, and tell what followed."""

import contextlib
import time
from collections.abc import Callable, Mapping

from tests.harness.conditions import NotInTime, wait_until
from tests.harness.host import PortInUse
from tests.harness.lab.chain import Chain
from tests.harness.process import Process

VERBS = ("kill", "start", "hang", "resume")

# From which condition of a host each verb leads to which, and the verb that helps where it doesn't fit.
_FROM = {"kill": ("up", "hung"), "start": ("down",), "hang": ("up",), "resume": ("hung",)}
_WAY_OUT = {"up": "hang", "down": "start", "hung": "resume"}

Watched = Mapping[str, Callable[[], object]]


class LabError(Exception):
    """What was asked for can't be done. The text says why, and what can."""


class Verbs:
    """Must be used by the main thread, which alone may start processes."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        # Seconds that consequences are waited for. A session that lived on a real EMQX node which hangs can't
        # be resumed before the cluster drops that node, 139 s later by default.
        self._patience = 150.0 if chain.emq.family == "external" else 30.0
        self.put_out: set[str] = set()  # killed on purpose, so nobody wonders that they are gone
        self.unseen: list[str] = []  # consequences that were waited for in vain

    def do(self, verb: str, name: str) -> str:
        """Do it and say what followed. Raises LabError."""
        self._require(verb, name)
        watched = self._consequences(verb, name)
        began = time.monotonic()
        try:
            self._apply(verb, name)
        except (RuntimeError, NotInTime, PortInUse) as error:
            raise LabError(f"{verb} {name} failed: {error}") from error
        done = f"{name} {_PAST[verb]}"
        if verb == "start":
            done += f" in {time.monotonic() - began:.1f} s"
        return ", ".join([done, *self._watch(watched)])

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

    def _apply(self, verb: str, name: str) -> None:
        node = self._chain.nodes[name]
        match verb:
            case "kill":
                self.put_out.add(name)
                node.kill9()
            case "start":
                node.start()
                self.put_out.discard(name)
            case "hang":
                node.hang()
            case "resume":
                node.resume()

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
                watched[f"the bridge is live at emq{3 - number}"] = self._next_live()
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

    def _watch(self, watched: Watched) -> list[str]:
        """Wait for all of them side by side; a line each, with the time that it took."""
        began = time.monotonic()
        seen: dict[str, float] = {}

        def all_seen() -> bool:
            for what, condition in watched.items():
                if what not in seen and condition():
                    seen[what] = time.monotonic() - began
            return len(seen) == len(watched)

        with contextlib.suppress(NotInTime):
            wait_until(all_seen, self._patience, "")
        in_vain = [what for what in watched if what not in seen]
        self.unseen += in_vain
        return [
            *(
                f"{what} after {taken:.1f} s"
                for what, taken in sorted(seen.items(), key=lambda item: item[1])
            ),
            *(f"but not within {self._patience:g} s: {what}" for what in in_vain),
        ]


_PAST = {"kill": "killed", "start": "started", "hang": "hangs", "resume": "goes on"}
