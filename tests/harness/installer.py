"""The functions of deploy/install.sh, for a test that runs a few of them without a machine."""

import os
import subprocess
from pathlib import Path

from tests.harness.kit import ROOT

INSTALL_SH = ROOT / "deploy" / "install.sh"


def command(scratch: Path, script: str) -> list[str]:
    """The command that runs a script with all functions of install.sh, which itself does nothing then.

    Its scratch directory is `scratch`. Give it `environment` too.
    """
    head = f"source <(sed '$d' {INSTALL_SH}); SCRATCH={scratch}\n"
    return ["bash", "-c", head + script, str(INSTALL_SH)]


def environment(log: Path) -> dict[str, str]:
    return {**os.environ, "INSTALL_LOG": str(log)}


def run(directory: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script with all functions of install.sh; they log to `directory`/log."""
    (directory / "scratch").mkdir(exist_ok=True)
    return subprocess.run(
        command(directory / "scratch", script),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env=environment(directory / "log"),
    )


def names(directory: Path) -> set[str]:
    """What is in a directory."""
    return {path.name for path in directory.iterdir()}
