"""What the spool's directory lies on, and how long a sync takes there. It leaves no file behind."""

import os
import time
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_SYS = Path("/sys/dev/block")
_SIZE = 4096  # bytes; the smallest write of SQLite's log
_TIMES, _LONGEST = 20, 3.0  # syncs, seconds


def file_system(directory: Path) -> str:
    """The type of the file system, such as "ext4"; "unknown file system" where the kernel does not tell."""
    try:
        text = _MOUNTS.read_text()
    except OSError:
        return "unknown file system"
    return type_of(text, str(directory.resolve()))


def type_of(mounts: str, path: str) -> str:
    """The type of the file system of `path`, by the text of /proc/mounts. Pure."""
    best, found = "", "unknown file system"
    for line in mounts.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        point = words[1].replace("\\040", " ").replace("\\134", "\\")  # fstab(5)
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # a later mount covers an earlier one
            best, found = point, words[2]
    return found


def device(directory: Path) -> str:
    """The name of the block device, such as "mmcblk0p2"; empty: there is none, or it is unknown."""
    number = directory.stat().st_dev
    link = _SYS / f"{os.major(number)}:{os.minor(number)}"
    return link.resolve().name if link.exists() else ""


def sync_times(directory: Path) -> list[float]:
    """Write and sync a file without a name, some times. Returns the seconds of each sync. Raises OSError."""
    descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    found: list[float] = []
    try:
        ends = time.monotonic() + _LONGEST
        while len(found) < _TIMES and (not found or time.monotonic() < ends):
            os.write(descriptor, bytes(_SIZE))
            began = time.monotonic()
            os.fdatasync(descriptor)
            found.append(time.monotonic() - began)
    finally:
        os.close(descriptor)
    return found
