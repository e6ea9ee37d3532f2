"""A program that the harness starts, fails and ends.

Guarantees: the harness signals only processes that it started, by a process id that cannot have been reused;
no process survives the harness, even if the harness is killed with -9; and the error for a program that does
not start shows the end of its log.
"""

import abc
import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tests.harness.conditions import NotInTime, wait_until
from tests.harness.host import Host

# A program gets no other variable of the caller: a developer's BRIDGE_... would change the test.
_KEPT = ("HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME", "LAB_NETWORK")
_ENVIRONMENT = {name: os.environ[name] for name in _KEPT if name in os.environ} | {
    # Debian installs daemons in directories outside a user's PATH.
    "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
}

_running: set["Process"] = set()


class Node(abc.ABC):
    """One machine of the chain, and how to fail it, whoever started it."""

    name: str

    @abc.abstractmethod
    def start(self) -> None:
        """Start the machine, and wait until it serves."""

    @abc.abstractmethod
    def kill9(self) -> None:
        """Kill the machine at once: connections break, nothing is saved."""

    @abc.abstractmethod
    def hang(self) -> None:
        """Make the machine stop answering. Its kernel still accepts connections and acknowledges TCP."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Let the machine go on from where it hung."""

    @contextlib.contextmanager
    def dead(self) -> Iterator[None]:
        """Killed with -9 inside the block, and started again afterwards."""
        self.kill9()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Hung inside the block, and resumed afterwards."""
        self.hang()
        try:
            yield
        finally:
            self.resume()


class Process(Node):
    """A program with a log file, in a process group of its own.

    `ready` is called until it returns something true, for at most `deadline` seconds. Without a `host` the
    program runs on this machine.
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
        """Start the program without waiting, so that several can start at once; then `wait_ready`."""
        if self.alive:
            raise RuntimeError(f"{self.name} runs already")
        self._end(0.0)
        if threading.current_thread() is not threading.main_thread():
            # The kernel sends PDEATHSIG when the *thread* that forked ends, not the process.
            raise RuntimeError(f"{self.name} must be started by the main thread")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                # If the harness is killed with -9, the kernel kills its children.
                [*self.host.entering, "setpriv", "--pdeathsig", "KILL", "--", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT | self._env,
                cwd=self._cwd,
                start_new_session=True,  # Ctrl-C reaches only the harness, which ends all in order
            )
        _running.add(self)

    def is_ready(self) -> bool:
        """Whether the program serves. Raises RuntimeError, with the end of the log, if the program ended."""
        if not self.alive:
            raise RuntimeError(
                f"{self.name} ended with {self.returncode} instead of starting{self.log_tail()}"
            )
        return bool(self._ready())

    def wait_ready(self) -> None:
        """Raises NotInTime, or RuntimeError if the program ended; both show the end of the log."""
        wait_until(self.is_ready, self.deadline, lambda: f"{self.name} is ready{self.log_tail()}")

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
        """Kill the whole group with -9, and wait until it is gone. Does nothing if it is dead already."""
        self._signal(signal.SIGKILL)
        self._end(10.0)

    def hang(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def terminate(self, deadline: float = 30.0) -> int | None:
        """Send SIGTERM, and return the exit code; None if the program never ran.

        A program that does not stop in time is killed, and NotInTime raised.
        """
        if self._child is not None and self.alive:
            # Like systemd's KillMode=mixed, only the program itself gets SIGTERM: it ends its own helpers.
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
        """The exit code, negative for a signal; None while the program runs, or if it never ran."""
        if self._child is None or self._child.returncode is not None:
            return None if self._child is None else self._child.returncode
        # Do not reap: while the process is a zombie, no other process can get its id or its group's.
        ended = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def log_tail(self, lines: int = 15) -> str:
        """The end of the log, in a form that can be appended to an error message."""
        with contextlib.suppress(OSError):
            text = self.log.read_text(errors="replace").splitlines()[-lines:]
            if text:
                return "\n".join([f"; the end of {self.log}:", *("    " + line for line in text)])
        return f"; {self.log} is empty"

    def _signal(self, number: signal.Signals) -> None:
        if self in _running:
            os.killpg(self.pid, number)

    def _end(self, deadline: float) -> None:
        """Wait for the end, kill the rest of the group, and only then reap the process (release its id)."""
        if self._child is None or self not in _running:
            return
        wait_until(lambda: not self.alive, deadline, lambda: f"{self.name} has ended{self.log_tail()}")
        self._signal(signal.SIGKILL)
        self._child.wait()
        _running.discard(self)

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.alive else "not running"
        return f"<{self.name}: {state}>"


def tcp_sources(pid: int) -> frozenset[str]:
    """The local ADDRESS:PORT of each IPv4 TCP connection of this process; empty if the process has ended."""
    sockets, sources = set(), set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                sockets.add(os.readlink(descriptor))
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                # The kernel writes the four bytes as a number in this machine's byte order.
                packed = int(address, 16).to_bytes(4, sys.byteorder)
                sources.add(f"{socket.inet_ntoa(packed)}:{int(port, 16)}")
    return frozenset(sources)


def running() -> frozenset[Process]:
    """All processes that were started and not yet ended."""
    return frozenset(process for process in _running if process.alive)


@atexit.register
def _end_all() -> None:
    for process in list(_running):
        process.kill9()
