"""Makes system calls of a running program slow or fail, by strace.

with injected(bridge, "fdatasync:delay_exit=3000000", tmp_path):
    ...every commit takes three seconds...
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.process import Process


@contextmanager
def injected(program: Process, fault: str, directory: Path) -> Iterator[None]:
    """Inject `fault` into the running program during the block; for the syntax see strace(1), "Tampering"."""
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
    """Whether strace traces all threads of the process."""
    return all(
        "TracerPid:\t0\n" not in (task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()
    )
