"""deploy/lab up: the chain runs, the score is told each second, and a second terminal gets its answers."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.harness.conditions import NotInTime, wait_until
from tests.harness.lab import door
from tests.harness.lab.chain import Chain, Plan
from tests.harness.lab.verbs import VERBS, LabError, Verbs
from tests.harness.process import Process

_DRAIN, _SHORT_DRAIN = 60.0, 10.0  # s for what is in flight at the end; short where somebody waits for it


# What the bridge must know of its broker to tell a resend from a new message it has learnt when it saw more
# packet identifiers than its Receive Maximum of 100. A connection that breaks before may double what was in
# flight (README, "What is guaranteed"), so the lab invites nobody to break one until then, at a usual rate.
_LEARNT, _LEARNING = 200, 15.0  # messages; s


@dataclass
class Lab:
    """A chain that is up, with what a person can ask of it."""

    chain: Chain
    verbs: Verbs
    began: float
    finished: threading.Event = field(default_factory=threading.Event)

    def say(self, text: str) -> None:
        elapsed = int(time.monotonic() - self.began)
        print(f"{elapsed // 60:02}:{elapsed % 60:02} {text}", flush=True)  # noqa: T201

    def answer(self, words: list[str]) -> str:
        """Do what a second terminal asks, and say so here as well. Raises LabError."""
        match words:
            case ["status"]:
                return self.status()
            case [verb, name] if verb in VERBS:
                self.say(f"{verb} {name} ...")
                text = self.verbs.do(verb, name)
                self.say(text)
                return text
        raise LabError(f"what is {' '.join(words)}?")

    def status(self) -> str:
        chain = self.chain
        lines = [f"{name:8} {chain.condition(name)}" for name in chain.nodes]
        for number in (1, 2):
            lines[number - 1] += (
                f", {chain.haproxy.state(number) or 'unknown'} to HAProxy; connections: "
                f"bridge {chain.haproxy.sessions(number)}, devices {chain.haproxy.sessions(number, 'tcp-in')}"
            )
        return "\n".join([*lines, str(chain.scoreboard.take()), chain.urls()])

    def require_all_alive(self) -> None:
        """Raises LabError when a program has ended that nobody killed."""
        for name, node in self.chain.nodes.items():
            if isinstance(node, Process) and not node.alive and name not in self.verbs.put_out:
                raise LabError(f"{name} has ended by itself with {node.returncode}{node.log_tail()}")

    def judge(self, drain: float = 60.0) -> "Outcome":
        """Let the devices fall silent, wait `drain` s for what is in flight, and tell what became of all."""
        chain = self.chain
        tally = chain.devices.stop()
        promised = chain.scoreboard.promised()
        with contextlib.suppress(NotInTime):
            chain.verifier.wait_for(promised, drain)
        verdict = chain.verifier.verdict(tally)
        self.finished.set()
        missing = chain.scoreboard.missing(promised)
        outcome = Outcome(
            published=len(promised),
            lost=len(missing),
            doubled=verdict.copies,
            out_of_order=len(verdict.inversions),
            suspects=(*sorted(missing), *verdict.doubled),
        )
        self.say(str(outcome))
        if tally.unknown:
            self.say(
                f"beside these {len(tally.unknown)} that EMQ never acknowledged, since their device lost its "
                f"connection; {verdict.unknown_delivered} of them came through"
            )
        out = [name for name in chain.nodes if chain.condition(name) in ("down", "hung")]
        if outcome.lost and out:
            self.say(f"{', '.join(out)}: not up, so what is called lost may still be on its way")
        return outcome


@dataclass(frozen=True)
class Outcome:
    """What became of all messages, when it is over."""

    published: int
    lost: int
    doubled: int
    out_of_order: int
    suspects: tuple[str, ...] = ()
    """The ids that were lost, then those that were doubled."""

    def __str__(self) -> str:
        return (
            f"published {self.published}, delivered {self.published - self.lost}, lost {self.lost}, "
            f"doubled {self.doubled}, out of order {self.out_of_order}"
        )

    @property
    def is_good(self) -> bool:
        return self.published > 0 and not (self.lost or self.doubled or self.out_of_order)


@contextlib.contextmanager
def lab(plan: Plan, *, recorded: bool = False) -> Iterator[Lab]:
    """The chain, up, with its score told each second. Raises LabError."""
    with door.only_one():
        directory = door.fresh_directory()
        chain = Chain(plan, directory, recorded=recorded)
        running = Lab(chain, Verbs(chain), time.monotonic())
        with _signals_as_ctrl_c(), chain.up(running.say), _ticking(running):
            with contextlib.suppress(NotInTime):
                wait_until(lambda: chain.verifier.delivered >= _LEARNT, _LEARNING, "")
            yield running


def up(plan: Plan, duration: float | None) -> int:
    """Run until that many seconds have passed, Ctrl-C, or `deploy/lab down`. Returns the exit code."""
    with lab(plan) as running, contextlib.closing(door.Door()) as requests:
        running.say(running.chain.urls())
        ends = None if duration is None else time.monotonic() + duration
        drain, asker = _DRAIN, None
        try:
            while ends is None or time.monotonic() < ends:
                running.require_all_alive()
                if (request := requests.next(timeout=0.2)) is None:
                    continue
                if request.words == ["down"]:
                    drain, asker = _SHORT_DRAIN, request
                    break
                try:
                    request.answer(running.answer(list(request.words)))
                except LabError as error:
                    request.answer(str(error), good=False)
        except KeyboardInterrupt:
            drain = _SHORT_DRAIN
        outcome = running.judge(drain)
    if asker is not None:
        asker.answer(str(outcome))
    return int(not outcome.is_good)


@contextlib.contextmanager
def _ticking(running: Lab) -> Iterator[None]:
    """A line each second, also while a verb is being done, until it is finished."""

    def tick() -> None:
        before = 0
        while not running.finished.wait(1.0):
            score = running.chain.scoreboard.take()
            running.say(f"{score}, {score.delivered - before:>3}/s")
            before = score.delivered

    thread = threading.Thread(target=tick, name="score", daemon=True)
    thread.start()
    try:
        yield
    finally:
        running.finished.set()
        thread.join()


@contextlib.contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """SIGTERM and a closed terminal end the lab as Ctrl-C does, also where a shell had it ignore that."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    handlers: dict[int, Callable[..., object] | int | None] = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
