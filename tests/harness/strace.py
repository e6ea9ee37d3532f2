"""What a program asks of the kernel, seen by strace, and made slower or refused.

with injected(bridge, "fdatasync:delay_exit=3000000", tmp_path):
    ...every commit takes three seconds...
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.process import Process


@contextmanager
def injected(program: Process, fault: str, directory: Path) -> Iterator[None]:
    """While the block lasts `fault` happens to the running program; strace(1), "Tampering", has the words."""
    calls = fault.partition(":")[0]
    tracer = Process(
        "strace",
        ["strace", "-f", "-q", "-e", f"trace={calls}", "-e", f"inject={fault}", "-p", str(program.pid)],
        log=directory / "strace.log",
        ready=lambda: _is_attached(program.pid),
    )
    tracer.start()
    try:
        yield
    finally:
        tracer.terminate()


def _is_attached(pid: int) -> bool:
    """Whether all its threads are traced."""
    return all(
        "TracerPid:\t0\n" not in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()
    )
