"""Measures a program's processor time and memory, including its children's."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from tests.harness.conditions import wait_until
from tests.harness.process import Process

# The kernel's CPUCLOCK_SCHED: the clock that clock_getcpuclockid(3) returns. It counts in nanoseconds and
# includes threads that have ended; /proc/PID/stat counts in hundredths of a second.
_SCHED = 2

_QUIET_SECONDS, _QUIET_COST = 0.5, 0.01


def cpu_seconds(process: Process) -> float:
    """The program's user and system time since its start."""
    return sum(time.clock_gettime(~pid << 3 | _SCHED) for pid in _tree(process.pid))


def thread_seconds(process: Process, name: str) -> float:
    """The user and system time of the program's threads of this name that run now."""
    used = 0
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            if (task / "comm").read_text().strip() == name:
                used += int((task / "schedstat").read_text().split()[0])
    return used / 1e9


def resident_mb(process: Process) -> float:
    """The program's resident memory now, in MB (10^6 bytes)."""
    return sum(_status(pid, "VmRSS") for pid in _tree(process.pid))


def peak_mb(process: Process) -> float:
    """The program's peak resident memory, in MB (10^6 bytes)."""
    return sum(_status(pid, "VmHWM") for pid in _tree(process.pid))


def written_bytes(process: Process) -> int:
    """What the program has had written to disks since its start, as the kernel counts it: whole pages."""
    return sum(_io(pid, "write_bytes") for pid in _tree(process.pid))


def wait_quiet(process: Process, deadline: float = 60.0) -> float:
    """Wait until the program is idle. Returns its processor time up to then."""
    seen: list[tuple[float, float]] = []

    def quiet() -> bool:
        if not process.alive:
            raise RuntimeError(f"{process.name} has ended{process.log_tail()}")
        now = time.monotonic()
        seen.append((now, cpu_seconds(process)))
        while now - seen[1 if len(seen) > 1 else 0][0] >= _QUIET_SECONDS:
            seen.pop(0)
        return now - seen[0][0] >= _QUIET_SECONDS and seen[-1][1] - seen[0][1] <= _QUIET_COST

    wait_until(quiet, deadline, lambda: f"{process.name} has nothing to do{process.log_tail()}")
    return seen[-1][1]


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listing.read_text().split():
            yield from _tree(int(child))


def _io(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def _status(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024 / 1e6
    return 0.0
