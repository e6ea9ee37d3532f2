"""deploy/lab up: runs the chain, shows the score in a view or a line each second, answers requests."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.harness.conditions import NotInTime, wait_until
from tests.harness.lab import door, visitor
from tests.harness.lab.chain import CLIENT_ID, Chain, Plan, ticking
from tests.harness.lab.score import Score, missed
from tests.harness.lab.screen import Screen, is_for_people
from tests.harness.lab.snapshot import Snapshot, Told
from tests.harness.lab.verbs import Deed, LabError, Verbs
from tests.harness.lab.watch import Watch
from tests.harness.lab.words import VERBS
from tests.harness.process import Process

_DRAIN, _SHORT_DRAIN = 60.0, 10.0  # s to wait at the end for messages in flight; short if a person waits


# The bridge can tell a resend from a new message once it has seen more packet identifiers of its broker than
# its Receive Maximum of 100. If a connection breaks earlier, messages in flight may be duplicated (README,
# "What is guaranteed"). So, at a usual rate, the lab offers its keys only after that.
_LEARNT, _LEARNING = 200, 15.0  # messages; s

_TELLS = 10.0  # s after which a second terminal is told again what its request waits for

_SHARED = (
    f'another client has used the client id "{CLIENT_ID}" of the lab\'s bridge, and with it the session: EMQ'
    " gave messages to that client, and the client's filters stay in the session, so that messages may come"
    " twice. Give the client an mqtt.client_id of its own; then end this lab and start it again"
)


@dataclass(eq=False, repr=False)  # signal.signal() compares and prints the handlers, which are methods
class Lab:
    """A running chain, and the requests that a user can make."""

    chain: Chain
    verbs: Verbs
    watch: Watch
    began: float
    ends: float | None = None  # in time.monotonic()
    told: list[Told] = field(default_factory=list)
    keys: str = f"the keys work once the bridge has seen {_LEARNT} messages"  # why they do not work yet
    finished: threading.Event = field(default_factory=threading.Event)
    is_up: bool = False
    is_ending: bool = False
    hurry: threading.Event = field(default_factory=threading.Event)
    """Do not wait for messages in flight: the user pressed Ctrl-C again."""
    asker: door.Request | None = None  # of `down`, answered when all has ended
    requests: door.Door = field(init=False)
    verdict: str = "the lab has ended before it was up"
    screen: Screen | None = None  # the view, if there is one

    def say(self, text: str, *, goes_on: bool = False) -> Told:
        told = Told(time.monotonic() - self.began, text, goes_on)
        self.told.append(told)
        self._print(told)
        return told

    def end(self, told: Told, text: str) -> str:
        """Complete an entry: `text` says how it ended. Returns `text`."""
        told.text, told.goes_on = text, False
        self._print(Told(time.monotonic() - self.began, text))
        return text

    def tell_score(self, text: str) -> None:
        """Print the score, unless a view shows it. Called each second."""
        self._print(Told(time.monotonic() - self.began, text))

    def _print(self, told: Told) -> None:
        if self.screen is None:
            try:
                print(told, flush=True)  # noqa: T201
            except BrokenPipeError:  # as in `deploy/lab up | head`
                if threading.current_thread() is threading.main_thread():
                    raise
                os.kill(os.getpid(), signal.SIGINT)

    def interrupt(self, *_: object) -> None:
        """Handle a signal. The first ends the lab in order; later ones cut short the wait for messages."""
        if self.is_ending:
            self.hurry.set()
            return
        self.is_ending = True
        raise KeyboardInterrupt

    # -- requests -------------------------------------------------------------------------

    def early(self, request: door.Request) -> None:
        """Answer a request while the chain comes up, or while the lab runs rounds or draws its picture."""
        match list(request.words):
            case ["down"]:
                self.asker = request
                os.kill(os.getpid(), signal.SIGINT)
            case ["status"] if self.is_up:
                request.answer(self.status())
            case _ if self.is_up:
                request.answer("this lab runs by itself, and takes only status and down", good=False)
            case _:
                seconds = time.monotonic() - self.began
                latest = f" ({self.told[-1].text})" if self.told else ""
                request.answer(f"the lab still comes up, for {seconds:.0f} s now{latest}", good=False)

    def take(self, request: door.Request) -> None:
        """Begin a request; a thread of its own answers after all consequences were seen."""
        match list(request.words):
            case ["status"]:
                request.answer(self.status())
            case ["publish", topic, text]:
                self._aside(
                    request, lambda: self.publish(topic, text), lambda: f"{text} is not out of Kafka yet"
                )
            case [verb, word] if verb in VERBS:
                told = self.say(f"{verb} {word}", goes_on=True)
                try:
                    deed = self.verbs.begin(verb, word)
                except LabError as error:
                    request.answer(self.end(told, str(error)), good=False)
                else:
                    self._aside(request, lambda: self._follow(deed, told), lambda: self.verbs.waits_for(deed))
            case words:
                request.answer(f"what is {' '.join(words)}?", good=False)

    def _aside(self, request: door.Request, work: Callable[[], str], state: Callable[[], str]) -> None:
        """Do the work in a thread of its own, and answer. `state` tells meanwhile what it waits for."""

        def answer() -> None:
            try:
                with ticking(lambda took: request.tell(f"after {took:.0f} s: {state()}"), _TELLS):
                    text = work()
            except LabError as error:
                request.answer(str(error), good=False)
            except BaseException as error:  # otherwise the terminal that asked would wait for ever
                request.answer(f"{' '.join(request.words)} failed: {error!r}", good=False)
                raise
            else:
                request.answer(text)

        threading.Thread(target=answer, name=" ".join(request.words), daemon=True).start()

    def do(self, verb: str, name: str) -> str:
        """Fail or restore a host, and wait for the consequences. Raises LabError."""
        told = self.say(f"{verb} {name}", goes_on=True)
        return self._follow(self.verbs.begin(verb, name), told)

    def _follow(self, deed: Deed, told: Told) -> str:
        def tell(text: str) -> None:
            told.text = text

        with self._ending(told):
            return self.end(told, self.verbs.follow(deed, tell))

    def publish(self, topic: str, text: str) -> str:
        """Send a message, and return the record that came out of Kafka, or where the message waits meanwhile.
        Raises LabError if the message could not be sent.
        """
        told = self.say(f"publish {topic} {text}", goes_on=True)
        with self._ending(told), contextlib.ExitStack() as reading:
            reader = None
            if self.verbs.kafka_answers:  # otherwise asking Kafka would only take time
                with contextlib.suppress(visitor.KafkaSilent):
                    reader = reading.enter_context(visitor.Reader())
            on_disk = self.chain.on_disk()
            told.text = sent = f"{text} was sent to {topic}; {visitor.publish(topic, text)}"
            if reader is not None:
                began = time.monotonic()
                with contextlib.suppress(NotInTime):
                    line = reader.find(topic, text)
                    after = 1000 * (time.monotonic() - began)
                    return self.end(told, f"{sent}, and it came out of Kafka {after:.0f} ms later: {line}")
            return self.end(told, f"{sent}; {self._where_it_waits(on_disk)}")

    def _where_it_waits(self, before: int) -> str:
        """Where a message is that Kafka does not have. `before`: the number on disk before it was sent."""
        if (bridge := self.chain.condition("bridge")) != "up":
            return f"bridge is {bridge}, so the message waits in EMQ's queue"
        with contextlib.suppress(NotInTime):
            wait_until(lambda: self.chain.on_disk() > before, 10.0, "")
            return (
                "Kafka does not take it now, so it waits on the bridge's disk until Kafka is back "
                f"({self.chain.on_disk()} messages wait there)"
            )
        return "Kafka does not have it yet"

    @contextlib.contextmanager
    def _ending(self, told: Told) -> Iterator[None]:
        """If the block fails, complete the entry with the error."""
        try:
            yield
        except LabError as error:
            self.end(told, str(error))
            raise

    def snapshot(self) -> Snapshot:
        now = time.monotonic()
        ends_in = None if self.ends is None else self.ends - now
        return self.watch.snapshot(now - self.began, ends_in, self.told, self.keys)

    def status(self) -> str:
        chain = self.chain
        seats = chain.seats() or {}
        lines = []
        for name in chain.nodes:
            line = f"{name:8} {chain.condition(name)}"
            if seat := seats.get(name):
                line += (
                    f", {seat.state} to HAProxy; connections: bridge {seat.bridge}, devices {seat.devices}"
                )
                line += f", other bridges {seat.others}" if seat.others else ""
            lines.append(line)
        score = chain.scoreboard.take()
        shared = [_SHARED] if score.is_shared else []
        return "\n".join([*lines, str(score), *shared, chain.urls()])

    def require_all_alive(self) -> None:
        """Raises LabError if a program ended that nobody killed, RuntimeError if the view ended."""
        if self.screen is not None:
            self.screen.require_alive()
        for name, node in self.chain.nodes.items():
            if isinstance(node, Process) and not node.alive and name not in self.verbs.put_out:
                raise LabError(f"{name} has ended by itself with {node.returncode}{node.log_tail()}")

    def judge(self, drain: float = 60.0) -> "Outcome":
        """Stop the devices, wait `drain` s for messages in flight, and report the outcome."""
        chain = self.chain
        self.is_ending = True
        self.verbs.give_up()
        if self.screen is not None:
            self.screen.press = None
        self.keys = "it ends, and waits for messages in flight; without waiting:"
        tally = chain.devices.stop(0.0 if self.hurry.is_set() else 10.0)
        promised = chain.scoreboard.promised()
        with contextlib.suppress(NotInTime):
            chain.verifier.wait_for(promised, drain, unless=self.hurry.is_set)
        verdict = chain.verifier.verdict(tally)
        self.finished.set()
        self.leave_screen()
        missing = chain.scoreboard.missing(promised)
        out = [name for name in chain.nodes if chain.condition(name) in ("down", "hung", "starts")]
        outcome = Outcome.of(
            chain.scoreboard.take(),
            out=out,
            duplicated=verdict.copies,
            out_of_order=len(verdict.inversions),
            suspects=(*sorted(missing), *verdict.doubled),
        )
        self.verdict = str(outcome)
        self.say(self.verdict)
        if tally.unknown:
            self.say(
                f"beside these {len(tally.unknown)} that EMQ never acknowledged, since their device lost its "
                f"connection; {verdict.unknown_delivered} of them came through"
            )
        if outcome.is_shared:
            self.say(_SHARED)
        if outcome.waiting:
            why = f"{', '.join(out)}: not up" if out else "Kafka was slow"
            self.say(f"{why}, so {outcome.waiting} messages were not delivered before the lab ended")
        return outcome

    def leave_screen(self) -> None:
        """Leave the view, and print its entries as ordinary lines."""
        if (screen := self.screen) is not None:
            screen.close()
            self.screen = None
            for told in self.told[screen.first :]:
                print(told, flush=True)  # noqa: T201


@dataclass(frozen=True)
class Outcome:
    """The final counts of a run."""

    published: int
    on_disk: int
    in_flight: int  # only while a host is not up: otherwise these messages are lost
    lost: int
    duplicated: int
    out_of_order: int
    suspects: tuple[str, ...] = ()
    """The ids that were not delivered, then the ids that were duplicated."""
    is_shared: bool = False  # as in Score

    @classmethod
    def of(
        cls, last: Score, *, out: Sequence[str], duplicated: int, out_of_order: int, suspects: tuple[str, ...]
    ) -> "Outcome":
        """Judge the last score. `out` are the hosts that are not up: while there are any, messages without a
        trace may still be on their way; otherwise they are lost.
        """
        return cls(
            published=last.published,
            on_disk=last.on_disk,
            in_flight=last.in_flight if out else 0,
            lost=last.lost + (0 if out else last.in_flight),
            duplicated=duplicated,
            out_of_order=out_of_order,
            suspects=suspects,
            is_shared=last.is_shared,
        )

    def __str__(self) -> str:
        waiting = f"in flight {self.in_flight}, on disk {self.on_disk}, " if self.waiting else ""
        delivered = self.published - self.waiting - self.lost
        lost = missed(self.lost, self.is_shared)
        return (
            f"published {self.published}, delivered {delivered}, {waiting}{lost}, "
            f"duplicated {self.duplicated}, out of order {self.out_of_order}"
        )

    @property
    def waiting(self) -> int:
        return self.in_flight + self.on_disk

    @property
    def is_complete(self) -> bool:
        """Whether messages were published, and all of them delivered."""
        return self.published > 0 and not (self.waiting or self.lost)

    @property
    def is_good(self) -> bool:
        return self.is_complete and not (self.duplicated or self.out_of_order)


@contextlib.contextmanager
def lab(plan: Plan, *, recorded: bool = False, shown: bool = False) -> Iterator[Lab]:
    """Run the chain, and report its score each second, in a view if `shown`. Raises LabError.

    Inside the block `Lab.early` answers requests of a second terminal, until `Lab.requests` is opened.
    """
    running: Lab | None = None
    try:
        with door.only_one():
            chain = Chain(plan, door.fresh_directory(), recorded=recorded)
            running = Lab(chain, Verbs(chain), Watch(chain), time.monotonic())
            running.verbs.news = running.say
            with (
                _signals_as_ctrl_c(running),
                contextlib.closing(door.Door(running.early)) as running.requests,
                chain.up(running.say),
                _watching(running, shown),
            ):
                with contextlib.suppress(NotInTime):
                    wait_until(lambda: chain.verifier.delivered >= _LEARNT, _LEARNING, "")
                running.is_up, running.verdict = True, "the lab has ended without a verdict"
                yield running
    finally:
        if running is not None and running.asker is not None:
            running.asker.answer(running.verdict)


def up(plan: Plan, duration: float | None) -> int:
    """Run for `duration` seconds, or until Ctrl-C or `deploy/lab down`. Returns the exit code."""
    shown = is_for_people(sys.stdin, sys.stdout)
    with lab(plan, shown=shown) as running:
        requests = running.requests
        requests.open()
        running.ends = None if duration is None else time.monotonic() + duration
        if running.screen is None:
            running.say(running.chain.urls())
        else:
            running.screen.press, running.keys = requests.press, ""
        drain = _DRAIN
        try:
            while running.ends is None or time.monotonic() < running.ends:
                running.require_all_alive()
                if (request := requests.next(timeout=0.2)) is None:
                    continue
                if request.words == ["down"]:
                    drain, running.asker = _SHORT_DRAIN, request
                    break
                running.take(request)
        except KeyboardInterrupt:
            drain = _SHORT_DRAIN
        outcome = running.judge(drain)
    return int(not outcome.is_good)


@contextlib.contextmanager
def _watching(running: Lab, shown: bool) -> Iterator[None]:
    """Each second update the score, and show it in a line or in the view, until the block ends."""
    if shown:
        running.screen = Screen(running.snapshot, first=len(running.told))

    def tick() -> None:
        before = 0
        while not running.finished.wait(1.0):
            score = running.watch.look()
            running.tell_score(f"{score}, {score.delivered - before:>3}/s")
            before = score.delivered

    thread = threading.Thread(target=tick, name="score", daemon=True)
    thread.start()
    try:
        if running.screen is not None:
            running.screen.open()
        yield
    finally:
        running.finished.set()
        running.leave_screen()
        thread.join()


@contextlib.contextmanager
def _signals_as_ctrl_c(running: Lab) -> Iterator[None]:
    """SIGTERM and SIGHUP end the lab like Ctrl-C, even if the shell made it ignore SIGINT."""
    handlers: dict[int, Callable[..., object] | int | None] = {
        number: signal.signal(number, running.interrupt)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            # All has ended. Another Ctrl-C while Python ends would only print a traceback.
            signal.signal(number, signal.SIG_IGN if running.is_ending else handler)
