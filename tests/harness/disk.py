"""A small disk of its own, and what happens to disks: ext4 in a file, on a loop device.

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
    """This machine, or this user, has no disk to give. The text says why."""


class Disk:
    """`path` is where it is mounted. A context manager: inside of it the disk is empty and works."""

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
        # Lazily: a test that failed may have left a program that uses it.
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
        """Others write until `leave` bytes are free; afterwards they delete it all."""
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
        """The kernel finds an error in the file system, as on a worn SD card, and lets nobody write."""
        Path(f"/sys/fs/ext4/{Path(self._device).name}/trigger_fs_error").write_text("1")

    def dies(self) -> None:
        """From now on writing fails with EIO, and what nobody synced is gone: for the file this is also
        what a power cut does.
        """
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSH))
        finally:
            os.close(directory)

    def repair(self) -> None:
        """Unmount, check, mount again. To be called when no program uses it."""
        _run("umount", str(self.path))
        # The old device may stay in use: a mount namespace that was made meanwhile has a copy of the mount.
        _run("losetup", "--detach", self._device)
        self._attach()
        # 1: it found something and has put it right.
        _run("e2fsck", "-p", self._device, good=(0, 1))
        self._mount()

    @contextmanager
    def mounted_read_only(self) -> Iterator[None]:
        """As long as no program has a file open there for writing."""
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
    """Its output. Raises CannotMount."""
    done = subprocess.run(
        command, env={"PATH": _PATH}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    if done.returncode not in good:
        raise CannotMount(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
