"""Network namespaces without names.

A namespace of `ip netns add` outlives its maker. One of these lives as long as this process holds its
descriptor, or a program runs in it: a harness that is killed with -9 leaves no namespace and no link
behind, and nothing can collide with what has the same name elsewhere. Needs root and iproute2.
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

        def make() -> None:  # a namespace belongs to a thread: this one ends with it, the descriptor stays
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
        """The name by which other programs can open it, as `ip link ... netns PATH` does."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    @property
    def entering(self) -> list[str]:
        """What a command begins with that is to run in it."""
        return ["nsenter", f"--net={self.path}", "--"]

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes within belong to it, as do threads and programs it starts."""
        before = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(self._descriptor)
            yield
        finally:
            enter(before)
            os.close(before)

    def ip(self, *lines: str) -> None:
        """Run these commands of ip(8) in it, one a line. Raises OSError with the first error."""
        done = subprocess.run(
            [*self.entering, "ip", "-batch", "-"], input="\n".join(lines), text=True, capture_output=True
        )
        if done.returncode:
            raise OSError(f"{'; '.join(lines)}: {done.stderr.strip()}")

    def close(self) -> None:
        """Give it up: it is gone once no program runs in it."""
        os.close(self._descriptor)


def enter(descriptor: int) -> None:
    """Move this thread into the namespace that this descriptor stands for. Raises OSError."""
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")
