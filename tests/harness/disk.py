"""A small disk that can fail: ext4 in a file, on a loop device; and one in memory.

    with Disk(tmp_path, megabytes=64) as disk:
        ...the bridge is started with spool.directory = disk.path...
        with disk.filled():
            ...

Needs root and the right to mount.
"""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
_WITHOUT_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH
_AT_ONCE = 1 << 20  # bytes


class CannotMount(Exception):
    """This machine or this user cannot mount a disk. The text says why."""


@contextmanager
def disk_in_memory(directory: Path, megabytes: int) -> Iterator[Path]:
    """A disk that programs can fill to the last byte. Yields its mount point."""
    place = directory / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "spool", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


class Disk:
    """`path` is the mount point. A context manager: at its start the disk is empty and works."""

    def __init__(self, directory: Path, megabytes: int = 64) -> None:
        self.path = directory / "disk"
        self._image = directory / "disk.image"
        self._device = ""
        self._size = megabytes << 20

    def __enter__(self) -> Self:
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(self._size)
        self._attach()
        _run("mkfs.ext4", "-q", "-m", "0", "-b", "4096", self._device)
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: a failed test may have left a program that uses the disk.
        if self.path.is_mount():
            _run("umount", "--lazy", str(self.path))
        _run("losetup", "--detach", self._device)
        self._image.unlink()

    @property
    def free(self) -> int:
        """Bytes that a program can still write."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    @contextmanager
    def filled(self, leave: int = 0) -> Iterator[None]:
        """Fill the disk until `leave` bytes are free; afterwards delete that file."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (_AT_ONCE, 4096):
                while self.free >= leave + size:
                    file.write(bytes(size))
                    os.fsync(file.fileno())  # before that, space is only reserved
        try:
            yield
        finally:
            ballast.unlink()

    def goes_read_only(self) -> None:
        """Remount read-only, as the kernel does after a file system error on a worn SD card."""
        Path(f"/sys/fs/ext4/{Path(self._device).name}/trigger_fs_error").write_text("1")

    def dies(self) -> None:
        """Make every write fail with EIO and discard all data that was not synced. For the files a power cut
        has the same effect.
        """
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        finally:
            os.close(directory)

    def repair(self) -> None:
        """Unmount, check, mount again. Call this only when no program uses the disk."""
        _run("umount", str(self.path))
        # The old device may stay in use: a mount namespace made meanwhile has a copy of the mount.
        _run("losetup", "--detach", self._device)
        self._attach()
        # Status 1: e2fsck found errors and corrected them.
        _run("e2fsck", "-p", self._device, good=(0, 1))
        self._mount()

    @contextmanager
    def mounted_read_only(self) -> Iterator[None]:
        """Mount read-only inside the block. No program may have a file open there for writing."""
        _run("mount", "-o", "remount,ro", str(self.path))
        try:
            yield
        finally:
            _run("mount", "-o", "remount,rw", str(self.path))

    def _attach(self) -> None:
        self._device = _run("losetup", "--find", "--show", str(self._image)).strip()

    def _mount(self) -> None:
        _run("mount", "-o", "errors=remount-ro", self._device, str(self.path))


def _run(*command: str, good: tuple[int, ...] = (0,)) -> str:
    """Run a command and return its output. Raises CannotMount."""
    done = subprocess.run(
        command, env={"PATH": _PATH}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    if done.returncode not in good:
        raise CannotMount(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
