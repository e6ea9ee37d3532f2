"""A memory limit for a program: the kernel kills the program when it needs more.

    with memory_cap(128_000_000) as entered:
        Process("bridge", [*entered, sys.executable, "-m", "bridge"], ...)

Needs root, and cgroups of version 1 or 2 with their memory controller.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOTS = {  # version 1 or 2 -> the file that sets the limit
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
    Path("/sys/fs/cgroup"): "memory.max",
}


class CannotCap(Exception):
    """This machine has no memory controller, or this user may not use it."""


@contextmanager
def memory_cap(size: int) -> Iterator[list[str]]:
    """Yield a command prefix that sets the limit. Page cache counts, and goes first. Raises CannotCap."""
    for root, bound in _ROOTS.items():
        group = root / f"mqtt-kafka-bridge-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / bound).exists():
                (group / bound).write_text(str(size))
                yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
                return
        finally:
            group.rmdir()
    raise CannotCap("no memory controller can be used")
