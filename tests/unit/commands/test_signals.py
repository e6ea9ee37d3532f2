"""SIGHUP before a process knows its command: the service reloads, and other commands end."""

import signal
import sys
from pathlib import Path

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until

NOBODY = {
    "mqtt": {"host": "127.0.0.1", "port": 1},
    "kafka": {"bootstrap_servers": "127.0.0.1:1"},
    "routes": [{"name": "all", "filter": "#", "topic": "mqtt"}],
}


def holds_back(pid: int, number: int) -> bool:
    """Whether the process has blocked the signal: SigBlk in proc_pid_status(5)."""
    (blocked,) = [
        line.split()[1]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("SigBlk:")
    ]
    return bool(int(blocked, 16) & 1 << (number - 1))


def test_sighup_while_the_service_starts_is_a_reload(tmp_path: Path) -> None:
    bridge = BridgeProcess(NOBODY, tmp_path)
    bridge.spawn()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        wait_until(lambda number=number: holds_back(bridge.pid, number), 30.0, "the start holds it back")  # type: ignore[misc]
        bridge._signal(number)
    assert not bridge.entries("service.starting"), "the signals came before the settings were read"
    bridge.wait_for("config.reloaded")
    assert not holds_back(bridge.pid, signal.SIGHUP)
    assert bridge.terminate() == 0


def test_a_terminal_that_closes_ends_every_other_command(tmp_path: Path) -> None:
    # Whoever started the tests may ignore SIGHUP, as nohup does; a process inherits that.
    program = ("env", "--default-signal=HUP", sys.executable, "-m", "bridge")
    dry_run = BridgeProcess(NOBODY, tmp_path, program=program)
    dry_run._command.append("--dry-run")
    dry_run.spawn()
    wait_until(lambda: holds_back(dry_run.pid, signal.SIGHUP), 30.0, "the start holds it back")
    dry_run._signal(signal.SIGHUP)
    wait_until(lambda: not dry_run.alive, 30.0, "the dry run has ended")
    assert dry_run.returncode == -signal.SIGHUP
