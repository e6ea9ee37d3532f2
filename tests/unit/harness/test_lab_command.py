"""deploy/lab as a command: before anything is installed, while the lab comes up, and at Ctrl-C."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.harness.conditions import wait_until
from tests.harness.kit import ROOT
from tests.harness.lab import command_line, door, run
from tests.harness.lab.chain import ticking
from tests.harness.lab.run import Lab
from tests.harness.lab.verbs import LabError


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A clone in which nothing is installed."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/lab", tmp_path / "deploy/lab")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    return tmp_path


def say(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / "deploy/lab", *words],
        env={"PATH": os.defpath, "HOME": str(clone), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60.0,
    )


# -- before anything is installed ------------------------------------------------------------------


@pytest.mark.parametrize("words", [("--help",), ("up", "--help"), ("kill", "-h")])
def test_help_needs_no_installation_and_installs_nothing(words: tuple[str, ...], bare: Path) -> None:
    done = say(bare, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: deploy/lab")
    assert "founding" not in done.stdout
    assert sorted(path.name for path in bare.iterdir()) == ["deploy", "tests"]


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ((), "COMMAND"),
        (("up", "--fro", "60s"), "--fro"),
        (("kill", "kafka4"), "kafka4"),
        (("up", "--rate", "0"), "'0' is no number above 0"),
        (("publish", "garden/#", "x"), "'garden/#' is a filter: a topic to publish to has no #"),
        (("publish", "+/#", "x"), "'+/#' is a filter: a topic to publish to has no + and no #"),
        (("publish", "", "x"), "a topic has 1 to 65535 bytes"),
        (("publish", "a" * 65_536, "x"), "a topic has 1 to 65535 bytes"),
        (("publish", "$SYS/x", "x"), "begins with $: such topics are the broker's own"),
        (("publish", "garden\udcff", "x"), "is no UTF-8"),
        (("publish", "garden", "\udcff"), "is no UTF-8"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_installed(
    words: tuple[str, ...], wrong: str, bare: Path
) -> None:
    done = say(bare, *words)
    assert done.returncode == 2
    assert wrong in done.stderr
    assert "kit:" not in done.stderr


@pytest.mark.parametrize("command", [("status",), ("consume",), ("kill", "kafka")])
def test_an_installation_that_was_interrupted_is_named_with_the_way_out(
    command: tuple[str, ...], bare: Path
) -> None:
    (bare / ".venv/bin").mkdir(parents=True)
    (bare / ".venv/bin/python").symlink_to(sys.executable)

    done = say(bare, *command)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lab: the installation is not complete: deploy/lab up\n"


def test_down_is_good_where_nothing_is_installed(bare: Path) -> None:
    assert (say(bare, "down").returncode, say(bare, "down").stdout) == (0, "no lab is up\n")


# -- without a lab ---------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This user has no lab, unless the test opens one."""
    monkeypatch.setattr(door, "RUN", tmp_path)
    monkeypatch.setattr(door, "_SOCKET", tmp_path / "door")


def main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["deploy/lab", *words])
    return command_line.main()


@pytest.mark.usefixtures("here")
def test_down_without_a_lab_is_good_and_status_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, "down") == 0
    assert capsys.readouterr() == ("no lab is up\n", "")
    assert main(monkeypatch, "status") == 1
    assert capsys.readouterr() == ("", "lab: no lab is up: deploy/lab up, in another terminal\n")


def test_consume_into_head_ends_without_a_traceback() -> None:
    program = (
        "import sys, itertools\n"
        "from tests.harness.lab import command_line\n"
        "command_line.consume = lambda topics, from_beginning: map(str, itertools.count())\n"
        "sys.argv = ['deploy/lab', 'consume']\n"
        "sys.exit(command_line.main())\n"
    )
    consume = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert consume.stdout is not None
    assert consume.stderr is not None
    with consume.stdout as lines:
        assert list(itertools.islice(lines, 2)) == [b"0\n", b"1\n"]
    errors = consume.stderr.read()
    consume.stderr.close()
    assert (consume.wait(timeout=20.0), errors) == (0, b"")


# -- while the lab comes up ------------------------------------------------------------------------


def a_lab() -> Lab:
    nothing: Any = SimpleNamespace()
    return Lab(nothing, nothing, nothing, 0.0)


@pytest.fixture
def early(here: None) -> Iterator[Lab]:
    """A lab whose door is there, and whose chain still comes up."""
    lab = a_lab()
    lab.say("haproxy: haproxy/haproxy.cfg on 127.30.1.10 (0.1 s)")
    with contextlib.closing(door.Door(lab.early)) as lab.requests:
        yield lab


@pytest.mark.parametrize("words", [["status"], ["kill", "emq1"], ["publish", "a", "b"]])
def test_while_it_comes_up_a_second_terminal_is_told_so(words: list[str], early: Lab) -> None:
    with pytest.raises(LabError, match=r"^the lab still comes up, for \d+ s now \(haproxy: .* \(0.1 s\)\)$"):
        door.ask(words)


def test_down_while_it_comes_up_interrupts_the_lab_and_is_answered_at_its_end(
    early: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append(number))
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(door.ask(["down"])), daemon=True)
    asking.start()
    wait_until(lambda: signals == [signal.SIGINT], 5.0, "the lab is interrupted")
    assert answers == []

    assert early.asker is not None
    early.asker.answer(early.verdict)
    asking.join(timeout=5.0)
    assert answers == ["the lab has ended before it was up"]


def test_a_lab_that_runs_rounds_says_which_requests_it_takes(early: Lab) -> None:
    early.is_up = True
    with pytest.raises(LabError, match=r"^this lab runs by itself, and takes only status and down$"):
        door.ask(["kill", "emq1"])


def test_an_open_door_gives_its_requests_to_the_lab(early: Lab) -> None:
    early.requests.open()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(door.ask(["status"])), daemon=True)
    asking.start()
    request = early.requests.next(timeout=5.0)
    assert request is not None
    request.answer("all is up")
    asking.join(timeout=5.0)
    assert answers == ["all is up"]


def test_a_slow_start_is_told_every_few_seconds_and_a_quick_one_never() -> None:
    told: list[float] = []
    with ticking(told.append, period=60.0):
        pass
    assert told == []
    with ticking(told.append, period=0.01):
        wait_until(lambda: len(told) >= 3, 5.0, "it is told")
    assert told == sorted(told)


# -- while a request goes on ------------------------------------------------------------------------


def test_a_request_that_takes_long_tells_its_terminal_what_it_waits_for(
    early: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def work() -> str:
        wait_until(goes_on.is_set, 5.0, "the terminal was told")
        return "kafka2 started"

    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            goes_on.set()

    monkeypatch.setattr(run, "_TELLS", 0.01)
    early.requests._take = lambda request: early._aside(request, work, lambda: "not ready yet: kafka2")
    assert door.ask(["start", "kafka2"], tell) == "kafka2 started"
    assert told[:2] == ["after 0 s: not ready yet: kafka2"] * 2


def test_what_is_told_meanwhile_is_not_in_the_answer_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(words: list[str], tell: Callable[[str], object]) -> str:
        tell("after 10 s: not ready yet: kafka2")
        return "kafka2 started"

    monkeypatch.setattr(door, "ask", ask)
    assert main(monkeypatch, "start", "kafka2") == 0
    assert capsys.readouterr() == ("kafka2 started\n", "after 10 s: not ready yet: kafka2\n")


def test_a_request_that_fails_without_a_reason_of_its_own_is_answered_too(
    early: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracebacks: list[object] = []
    monkeypatch.setattr(threading, "excepthook", tracebacks.append)

    def work() -> str:
        raise ValueError("a defect")

    early.requests._take = lambda request: early._aside(request, work, str)
    with pytest.raises(LabError, match=r"^start kafka2 failed: ValueError\('a defect'\)$"):
        door.ask(["start", "kafka2"])
    wait_until(lambda: tracebacks, 5.0, "the lab shows the traceback")


# -- Ctrl-C ----------------------------------------------------------------------------------------


def test_the_second_ctrl_c_cuts_the_wait_short_and_raises_nothing() -> None:
    lab = a_lab()
    with pytest.raises(KeyboardInterrupt):
        lab.interrupt(signal.SIGINT, None)
    assert not lab.hurry.is_set()
    lab.interrupt(signal.SIGINT, None)
    lab.interrupt(signal.SIGINT, None)
    assert lab.hurry.is_set()


def test_after_an_interrupted_lab_ctrl_c_is_ignored_until_python_has_ended() -> None:
    before = signal.getsignal(signal.SIGINT)
    lab = a_lab()
    try:
        with run._signals_as_ctrl_c(lab), contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with run._signals_as_ctrl_c(a_lab()):
            pass
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_lab_whose_output_nobody_reads_ends_like_after_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError

    signals: list[int] = []
    monkeypatch.setattr("builtins.print", broken)
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append(number))
    lab = a_lab()
    with pytest.raises(BrokenPipeError):
        lab.tell_score("in the main thread")
    in_another = threading.Thread(target=lab.tell_score, args=["in the thread of the score"])
    in_another.start()
    in_another.join()
    assert signals == [signal.SIGINT]
