"""Process, with small programs: its methods must do and report what they promise."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.harness.conditions import NotInTime, wait_until
from tests.harness.host import Host, PortInUse
from tests.harness.process import Process, running

SLEEPS = ["sleep", "600"]
# No shell: a shell that is stopped while it starts a command waits for vfork instead of stopping.
TICKS = [sys.executable, "-uc", "import time\nwhile not time.sleep(0.02): print('tick')"]


def is_gone(pid: int) -> bool:
    """Whether no process has this id; a zombie counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def comm(pid: int) -> str:
    """The name of the program that the process runs."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_kill9_ends_it_and_all_that_it_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    shell = Process("shell", ["sh", "-c", "sleep 600 & echo $!; wait"], log=log, ready=log.read_text)
    shell.start()
    grandchild = int(log.read_text())
    shell.kill9()
    assert not shell.alive
    assert shell.returncode == -signal.SIGKILL
    wait_until(lambda: is_gone(grandchild), 20.0, "the grandchild is gone")


def test_a_hung_process_does_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    ticks = Process("ticks", TICKS, log=tmp_path / "log", ready=lambda: (tmp_path / "log").stat().st_size)
    ticks.start()
    try:
        with ticks.hung():
            state = Path(f"/proc/{ticks.pid}/stat")
            wait_until(lambda: ") T " in state.read_text(), 20.0, "it is stopped")
            assert ticks.alive
            size = ticks.log.stat().st_size
        wait_until(lambda: ticks.log.stat().st_size > size, 20.0, "it goes on")
    finally:
        ticks.kill9()


def test_dead_is_up_again_afterwards_with_another_pid(tmp_path: Path) -> None:
    sleeper = Process("sleeper", SLEEPS, log=tmp_path / "log")
    sleeper.start()
    try:
        before = sleeper.pid
        with sleeper.dead():
            assert not sleeper.alive
        assert sleeper.alive
        assert sleeper.pid != before
    finally:
        sleeper.kill9()


def test_terminate_returns_the_exit_code(tmp_path: Path) -> None:
    polite = Process(
        "polite",
        ["sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done"],
        log=tmp_path / "log",
        ready=lambda: "up" in (tmp_path / "log").read_text(),
    )
    polite.start()
    assert polite.terminate() == 3
    assert polite not in running()


def test_one_that_ignores_sigterm_is_killed_and_reported(tmp_path: Path) -> None:
    stubborn = Process(
        "stubborn",
        ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done"],
        log=tmp_path / "log",
        ready=lambda: "up" in (tmp_path / "log").read_text(),
    )
    stubborn.start()
    with pytest.raises(NotInTime, match="stubborn has ended"):
        stubborn.terminate(deadline=0.2)
    assert not stubborn.alive


def test_one_that_ends_instead_of_starting_is_reported_with_its_log(tmp_path: Path) -> None:
    broken = Process(
        "broken", ["sh", "-c", "echo no such port; exit 7"], log=tmp_path / "log", ready=lambda: False
    )
    with pytest.raises(RuntimeError, match=r"broken ended with 7(?s:.)*no such port"):
        broken.start()
    assert broken not in running()


def test_one_that_is_not_ready_in_time_is_reported_and_ended(tmp_path: Path) -> None:
    slow = Process("slow", SLEEPS, log=tmp_path / "log", ready=lambda: False, deadline=0.1)
    with pytest.raises(NotInTime, match=r"not within 0\.1 s: slow is ready"):
        slow.start()
    assert not slow.alive


def test_only_the_main_thread_may_start_one(tmp_path: Path) -> None:
    """Otherwise the kernel would kill the program when that thread ends."""
    errors: list[str] = []

    def start() -> None:
        try:
            Process("sleeper", SLEEPS, log=tmp_path / "log").start()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert errors == ["sleeper must be started by the main thread"]


def test_nothing_outlives_a_harness_that_is_killed(tmp_path: Path) -> None:
    harness = (
        "import signal, sys; from pathlib import Path; from tests.harness.process import Process;"
        f"p = Process('sleeper', {SLEEPS!r}, log=Path({str(tmp_path / 'log')!r})); p.start();"
        "print(p.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", harness], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        sleeper = int(child.stdout.readline())
        wait_until(lambda: comm(sleeper) == "sleep", 10.0, "setpriv has become sleep")
        child.kill()
    wait_until(lambda: is_gone(sleeper), 20.0, "the sleeper is gone")


def test_nothing_of_the_callers_environment_changes_an_actor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRIDGE_MQTT__HOST", "elsewhere")
    printer = Process("env", ["env"], log=tmp_path / "log", env={"WANTED": "yes"})
    printer.spawn()
    printer.wait_end()
    assert "BRIDGE" not in printer.log.read_text()
    assert "WANTED=yes" in printer.log.read_text()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.30.3.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"emq1 cannot listen on 127\.30\.3\.1:{port}: Address already"):
            Host("emq1", "127.30.3.1").require_free(port)


def test_what_did_not_come_true_is_said() -> None:
    with pytest.raises(NotInTime, match=r"^not within 0\.05 s: the moon is full$"):
        wait_until(lambda: False, 0.05, "the moon is full")


def test_the_pid_of_a_process_is_our_child(tmp_path: Path) -> None:
    """setpriv executes the program in its place, so signals reach the program itself."""
    sleeper = Process("sleeper", SLEEPS, log=tmp_path / "log")
    sleeper.start()
    try:
        wait_until(
            lambda: Path(f"/proc/{sleeper.pid}/comm").read_text().strip() == "sleep",
            5.0,
            "it is sleep itself",
        )
        assert os.getpgid(sleeper.pid) == sleeper.pid
    finally:
        sleeper.kill9()
