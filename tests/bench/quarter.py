"""A quarter of a core and 256 MB for a program, by the kernel; without root where systemd lets a user.

with quarter() as entered:
    Process("bridge", [*entered, sys.executable, "-m", "bridge"], ...)
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.harness.cgroup import CannotCap

CORE, MEMORY = 0.25, 256_000_000  # of a core; bytes

_ROOT = Path("/sys/fs/cgroup")
_PERIOD = 100_000  # µs
_QUOTA = int(_PERIOD * CORE)
_SCOPE = (
    *("systemd-run", "--user", "--scope", "--quiet"),
    *("--property", f"CPUQuota={CORE:.0%}", "--property", f"MemoryMax={MEMORY}", "--"),
)
# systemd ignores a quota without a word where the user may not set one.
_OWN_QUOTA = 'cat "/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/cpu.max"'

# The directories of a group, and what each of its files gets: version 2, then version 1.
_VERSION_2 = {_ROOT: {"cpu.max": f"{_QUOTA} {_PERIOD}", "memory.max": str(MEMORY)}}
_VERSION_1 = {
    _ROOT / "cpu": {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(_QUOTA)},
    _ROOT / "memory": {"memory.limit_in_bytes": str(MEMORY)},
}


@contextlib.contextmanager
def quarter() -> Iterator[list[str]]:
    """What to put before a command. Raises CannotCap where there are no control groups to use."""
    if _user_may():
        yield list(_SCOPE)
        return
    for version in (_VERSION_2, _VERSION_1):
        with contextlib.ExitStack() as made:
            try:
                groups = [made.enter_context(_group(root, bounds)) for root, bounds in version.items()]
            except OSError:
                continue
            enter = " && ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
            yield ["sh", "-c", f'{enter} && exec "$@"', "sh"]
            return
    raise CannotCap("this user can use neither systemd's scopes nor control groups")


def _user_may() -> bool:
    if not shutil.which("systemd-run"):
        return False
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        command = [*_SCOPE, "sh", "-c", _OWN_QUOTA]
        run = subprocess.run(command, capture_output=True, text=True, timeout=10.0, check=False)
        return run.stdout.split() == [str(_QUOTA), str(_PERIOD)]
    return False


@contextlib.contextmanager
def _group(root: Path, bounds: Mapping[str, str]) -> Iterator[Path]:
    """A control group with these bounds. Raises OSError."""
    group = root / f"mqtt-kafka-bridge-bench-{os.getpid()}"
    group.mkdir()
    try:
        for file, value in bounds.items():
            if not (
                group / file
            ).exists():  # where version 1 is mounted, the root itself is a plain directory
                raise FileNotFoundError(group / file)
            (group / file).write_text(value)
        yield group
    finally:
        group.rmdir()
