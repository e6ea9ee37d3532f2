"""Network namespaces without names.

A namespace of `ip netns add` survives the process that made it. A Namespace here lives only while this
process holds its descriptor, or while a program runs in it. So a harness that is killed with -9 leaves no
namespace and no link behind, and no names can collide. Needs root and iproute2.
"""

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000
_HERE = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)  # os.setns and os.unshare came with Python 3.12


class Namespace:
    """A network of its own: nothing but a loopback interface, which is up. Raises OSError."""

    def __init__(self) -> None:
        made: list[int] = []

        def make() -> None:  # a namespace belongs to a thread: this thread ends, the descriptor stays
            if not _libc.unshare(_CLONE_NEWNET):
                made.append(os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if not made:
            raise OSError(
                "no network namespace can be made here: it takes root (in a container CAP_SYS_ADMIN)"
            )
        self._descriptor = made[0]
        self.ip("link set lo up")

    @property
    def path(self) -> str:
        """The path with which other programs can open the namespace, as in `ip link ... netns PATH`."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    @property
    def entering(self) -> list[str]:
        """The prefix of a command that runs in this namespace."""
        return ["nsenter", f"--net={self.path}", "--"]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets, threads and programs that this thread makes in the block belong to the namespace."""
        before = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(self._descriptor)
            yield
        finally:
            enter(before)
            os.close(before)

    def ip(self, *lines: str) -> None:
        """Run these commands of ip(8) in the namespace, one per line. Raises OSError with the first error."""
        done = subprocess.run(
            [*self.entering, "ip", "-batch", "-"], input="\n".join(lines), text=True, capture_output=True
        )
        if done.returncode:
            raise OSError(f"{'; '.join(lines)}: {done.stderr.strip()}")

    def close(self) -> None:
        """Close the descriptor: the kernel removes the namespace once no program runs in it."""
        os.close(self._descriptor)


def enter(descriptor: int) -> None:
    """Move this thread into the namespace of this descriptor. Raises OSError."""
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")
