"""A program of the harness: started, made to fail in the ways programs fail, ended.

What is promised: only what was started here is ever signalled, by a process id that is still ours;
nothing outlives the harness, even if that is killed with -9; a program that does not come up is
reported with the end of its log.
"""

import abc
import atexit
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.harness.conditions import NotInTime, wait_until
from tests.harness.host import Host

# Nothing else of the caller's environment reaches an actor: a developer's BRIDGE_... would change the test.
_ENVIRONMENT = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ} | {
    # Debian keeps daemons where a user's PATH does not look.
    "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
}

_running: set["Process"] = set()


class Node(abc.ABC):
    """What can be done to one machine of the chain, whoever started it."""

    name: str

    @abc.abstractmethod
    def start(self) -> None:
        """Bring it up, and wait until it serves."""

    @abc.abstractmethod
    def kill9(self) -> None:
        """It dies at once: connections break, nothing is saved."""

    @abc.abstractmethod
    def hang(self) -> None:
        """It stops answering. Its kernel still accepts connections and acknowledges TCP."""

    @abc.abstractmethod
    def resume(self) -> None:
        """It goes on from where it hung."""

    @contextlib.contextmanager
    def dead(self) -> Iterator[None]:
        """Killed with -9, and up again afterwards."""
        self.kill9()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Hung, and resumed afterwards."""
        self.hang()
        try:
            yield
        finally:
            self.resume()


class Process(Node):
    """A program with a log file, in a process group of its own.

    `ready` is asked until it returns something true; `deadline` says for how many seconds. Without a
    `host` it runs on this machine.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        env: Mapping[str, str] = MappingProxyType({}),
        cwd: Path | None = None,
        host: Host | None = None,
        ready: Callable[[], object] = lambda: True,
        deadline: float = 30.0,
    ) -> None:
        self.name = name
        self.host = host or Host(name, "127.0.0.1")
        self.log = log
        self._command = [os.fspath(word) for word in command]
        self._env = dict(env)
        self._cwd = cwd
        self._ready = ready
        self.deadline = deadline
        self._child: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start it without waiting, so that several can come up side by side: then `wait_ready`."""
        if self.alive:
            raise RuntimeError(f"{self.name} runs already")
        self._end(0.0)
        if threading.current_thread() is not threading.main_thread():
            # The kernel sends PDEATHSIG when the *thread* that forked ends, not the process.
            raise RuntimeError(f"{self.name} must be started by the main thread")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                # A harness that is killed with -9 takes its children with it.
                [*self.host.entering, "setpriv", "--pdeathsig", "KILL", "--", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT | self._env,
                cwd=self._cwd,
                start_new_session=True,  # Ctrl-C reaches the harness alone, which then ends all in order
            )
        _running.add(self)

    def wait_ready(self) -> None:
        """Raises NotInTime, or RuntimeError when it ended instead; both show the log's last lines."""

        def is_up() -> bool:
            if not self.alive:
                raise RuntimeError(
                    f"{self.name} ended with {self.returncode} instead of starting{self.log_tail()}"
                )
            return bool(self._ready())

        wait_until(is_up, self.deadline, lambda: f"{self.name} is ready{self.log_tail()}")

    def wait_end(self, deadline: float = 60.0) -> None:
        """Wait for a program that does its work and ends. Raises RuntimeError if it failed."""
        self._end(deadline)
        if self.returncode:
            raise RuntimeError(f"{self.name} failed with {self.returncode}{self.log_tail()}")

    def start(self) -> None:
        self.spawn()
        try:
            self.wait_ready()
        except BaseException:
            self.kill9()
            raise

    def kill9(self) -> None:
        """Kill the whole group with -9, and wait until it is gone. Does nothing to one that is dead."""
        self._signal(signal.SIGKILL)
        self._end(10.0)

    def hang(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def terminate(self, deadline: float = 30.0) -> int | None:
        """Ask it to stop, and return its exit code; None when it never ran.

        One that does not stop in time is killed, and NotInTime raised.
        """
        if self._child is not None and self.alive:
            # The program itself and not its group, as systemd's KillMode=mixed: it ends its own helpers.
            os.kill(self._child.pid, signal.SIGTERM)
            self.resume()
        try:
            self._end(deadline)
        except NotInTime:
            self.kill9()
            raise
        return self.returncode

    @property
    def alive(self) -> bool:
        return self._child is not None and self.returncode is None

    @property
    def pid(self) -> int:
        assert self._child is not None, f"{self.name} was never started"
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs, and when it never ran."""
        if self._child is None or self._child.returncode is not None:
            return None if self._child is None else self._child.returncode
        # Look without reaping: while it is a zombie nobody else can get its id, nor its group's.
        ended = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def log_tail(self, lines: int = 15) -> str:
        """The end of its log, ready to be put behind an error message."""
        with contextlib.suppress(OSError):
            text = self.log.read_text(errors="replace").splitlines()[-lines:]
            if text:
                return "\n".join([f"; the end of {self.log}:", *("    " + line for line in text)])
        return f"; {self.log} is empty"

    def _signal(self, number: signal.Signals) -> None:
        if self in _running:
            os.killpg(self.pid, number)

    def _end(self, deadline: float) -> None:
        """Wait for its end, end what it left behind in its group, and only then give up its id."""
        if self._child is None or self not in _running:
            return
        wait_until(lambda: not self.alive, deadline, lambda: f"{self.name} has ended{self.log_tail()}")
        self._signal(signal.SIGKILL)
        self._child.wait()
        _running.discard(self)

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.alive else "not running"
        return f"<{self.name}: {state}>"


def running() -> frozenset[Process]:
    """All that were started and have not been ended."""
    return frozenset(process for process in _running if process.alive)


@atexit.register
def _end_all() -> None:
    for process in list(_running):
        process.kill9()
