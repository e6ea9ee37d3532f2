"""For all tests: the options, the order, and the check that no test leaves a process behind."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read by tests/harness/host.py when it is imported.
os.environ.setdefault("LAB_NETWORK", "127.30.5")

from bridge import program
from tests.harness import process
from tests.harness.conditions import NotInTime, wait_until

# The quick ones first, the ones that start a cluster last.
_ROOMS = ("unit", "properties", "artefacts", "integration", "faults")

# Integration tests that need this machine's own network for package indexes. Others can run in another one.
_NOT_APART = ("machines", "test_clients.py", "test_readme_commands.py", "test_page.py")
# And these, so that both halves take equally long.
_NOT_APART += ("test_kafka_fails.py", "test_lab.py", "test_seen_at_a_glance.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("brokers", "what plays EMQ's two nodes")
    group.addoption(
        "--brokers",
        choices=("two-doors", "rabbitmq", "ejabberd", "hivemq"),
        default="two-doors",
        help="mosquitto behind two doors (the default), a mirrored pair of RabbitMQ nodes, a pair of"
        " ejabberd nodes whose sessions die with them, or HiveMQ CE behind two doors",
    )
    group.addoption("--emq", metavar="HOST:PORT,HOST:PORT", help="brokers that run already, instead of these")
    group.addoption(
        "--emq-ctl", metavar="CMD", help="run as CMD kill9|start|sigstop|sigcont 1|2 to control them"
    )
    group = parser.getgroup("page", "the page in a browser")
    group.addoption("--screenshots", metavar="DIR", help="keep the pictures there, not in tmp_path")
    group = parser.getgroup("faults", "the tests of tests/faults")
    group.addoption("--rounds", type=int, default=1, metavar="N", help="each fault so often")
    group.addoption(
        "--delivery",
        choices=("at-least-once", "exactly-once"),
        default="at-least-once",
        help="the bridge's kafka.delivery; with exactly-once nothing may be doubled",
    )
    group.addoption("--table", metavar="FILE", help="add what comes out to the table there, in Markdown")
    group.addoption("--seed", type=int, default=0, metavar="N", help="of what is drawn at random")
    group.addoption(
        "--full", action="store_true", help="outages at their full length, not shortened as in CI"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent

    def room(item: pytest.Item) -> int:
        first = item.path.relative_to(tests).parts[0]
        return _ROOMS.index(first) if first in _ROOMS else len(_ROOMS)

    items.sort(key=room)  # keeps the order within a room
    for item in items:
        first, second, *_ = (*item.path.relative_to(tests).parts, "")
        if first == "integration" and second not in _NOT_APART:
            item.add_marker("apart")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how long the commands of a page took: record_property("stop-watch", text)."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in getattr(report, "user_properties", ()):
                if name == "stop-watch":
                    terminalreporter.write_line(str(text))


@pytest.fixture(autouse=True)
def _no_process_is_left_behind() -> Iterator[None]:
    actors, others = process.running(), _other_children()
    yield
    left = process.running() - actors
    for actor in left:
        actor.kill9()
    assert not left, f"left running: {left}"
    try:
        wait_until(lambda: _other_children().keys() <= others.keys(), 10.0, "")
    except NotInTime:
        found = [command for pid, command in _other_children().items() if pid not in others]
        pytest.fail(f"left running, beside the harness's actors: {found}")


def _other_children() -> dict[str, str]:
    """This process's living children that the harness did not start: "pid command line" by pid. The command
    line of a child changes when it runs its program; for a moment there is none.
    """
    actors = {str(actor.pid) for actor in process.running()}
    found = {}
    for listing in Path("/proc/self/task").glob("*/children"):
        for pid in set(_read(listing).decode().split()) - actors:
            _, _, state = _read(Path(f"/proc/{pid}/stat")).rpartition(b") ")  # after the program's name
            if state and not state.startswith(b"Z"):
                command = _read(Path(f"/proc/{pid}/cmdline")).replace(b"\0", b" ").decode(errors="replace")
                found[pid] = f"{pid} {command.strip()}"
    return found


def _read(file: Path) -> bytes:
    """Read a file of /proc; empty if the thread or process has ended meanwhile."""
    try:
        return file.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.fixture(autouse=True)
def _called_as_installed() -> Iterator[None]:
    """A command that a test ran in this process has noted how it was called."""
    yield
    program.use(program.AS_INSTALLED)
