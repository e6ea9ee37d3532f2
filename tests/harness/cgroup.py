"""A bound on a program's memory or threads, by the kernel, as systemd's MemoryMax= and TasksMax= set them.

    with memory_cap(128_000_000) as entered:
        Process("bridge", [*entered, sys.executable, "-m", "bridge"], ...)

Needs root, and cgroups of version 1 or 2 with the controller in question.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


class CannotCap(Exception):
    """This machine, or this user, has no such controller to use."""


class TasksCap:
    """`entered` is what to put before a command."""

    def __init__(self, entered: list[str], group: Path) -> None:
        self.entered = entered
        self._group = group

    @property
    def tasks(self) -> int:
        """Processes and threads that there are now."""
        return int((self._group / "pids.current").read_text())

    @property
    def peak(self) -> int:
        """The most that there were. Linux 6.1 does not count it in version 1: then what there are now."""
        file = self._group / "pids.peak"
        return int(file.read_text()) if file.exists() else self.tasks

    def allow(self, tasks: int) -> None:
        """From now on so many. Those that there are stay, even if they are more."""
        (self._group / "pids.max").write_text(str(tasks))


@contextmanager
def memory_cap(size: int) -> Iterator[list[str]]:
    """What to put before a command. Its page cache counts, and is given up first. Raises CannotCap."""
    # Version 1 or 2 -> the file that takes the bound.
    with _group({_ROOT / "memory": "memory.limit_in_bytes", _ROOT: "memory.max"}, size) as group:
        yield _entering(group)


@contextmanager
def tasks_cap(tasks: int) -> Iterator[TasksCap]:
    """A bound on processes and threads, which can be changed. Raises CannotCap."""
    with _group({_ROOT / "pids": "pids.max", _ROOT: "pids.max"}, tasks) as group:
        yield TasksCap(_entering(group), group)


def _entering(group: Path) -> list[str]:
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]


@contextmanager
def _group(roots: Mapping[Path, str], bound: int) -> Iterator[Path]:
    for root, file in roots.items():
        group = root / f"mqtt-kafka-bridge-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / file).exists():
                (group / file).write_text(str(bound))
                yield group
                return
        finally:
            group.rmdir()
    raise CannotCap("no such controller can be used")
