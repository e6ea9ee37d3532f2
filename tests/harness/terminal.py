"""A person at a terminal, who types the commands of README and of the tutorial as the pages show them."""

import itertools
import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.harness.conditions import patient
from tests.harness.host import LAB, USERS_LAB
from tests.harness.kit import ROOT
from tests.harness.process import Process

UP, USUAL = 240.0, 25.0  # s until the lab runs, at most and usually; Kafka takes most of it

_PROGRAMS = {
    ".venv/bin/bridge": f"{shlex.quote(sys.executable)} -m bridge",
    ".venv/bin/python": shlex.quote(sys.executable),  # the Python of .venv, if tests/run started this
    "deploy/lab": shlex.quote(str(ROOT / "deploy/lab")),
}


def program(command: str) -> str:
    """The command with the full path of its program, so that it runs in any directory."""
    name, _, rest = command.partition(" ")
    return f"{_PROGRAMS.get(name, name)} {rest}"


class Terminal:
    """Runs commands in `directory`. This run's lab uses the network of the pages."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._left_running: list[Process] = []
        self._numbers = itertools.count(1)
        self._env = {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}

    def run(self, command: str, timeout: float = 90.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", self._here(command)],
            cwd=self.directory,
            env=os.environ | self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patient(timeout),
        )

    def good(self, command: str) -> str:
        """Run a command that must succeed, and return its output."""
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def leave_running(self, command: str, says: str = "") -> Process:
        """Start a command, and wait until it has printed `says`."""
        process = Process(
            command.split()[0].rpartition("/")[2],
            ["sh", "-c", f"exec {self._here(command)}"],
            log=self.directory / f"terminal{next(self._numbers)}.log",
            env=self._env,
            cwd=self.directory,
            ready=lambda: says in process.log.read_text(),
            deadline=UP,
        )
        self._left_running.append(process)
        process.start()
        return process

    def close(self) -> None:
        for process in reversed(self._left_running):
            process.kill9()

    def _here(self, command: str) -> str:
        return program(command).replace(USERS_LAB, LAB)
