"""Finds out how this process was called: the program, its settings file, its systemd unit."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from bridge.observe.printable import printable
from bridge.program import INSTALLED, SERVICE, Program
from bridge.settings.load import DEFAULT_FILE

_VERSIONS = Path("/opt/mqtt-kafka-bridge")  # deploy/install/versions.sh
_NAMES = ("bridge", SERVICE)


def program(config: Path | None, *, is_service: bool = False) -> Program:
    """`config`: of --config. `is_service`: the texts are read elsewhere, so paths are absolute."""
    file = config or DEFAULT_FILE
    flag = ""
    if file.absolute() != DEFAULT_FILE:
        flag = f" --config {_shown(str(file.absolute() if is_service else file))}"
    if _VERSIONS in Path(sys.prefix).parents:
        return Program(INSTALLED, flag, unit_of(file.absolute()) or (_own_unit() if is_service else ""))
    return Program(_command(is_absolute=is_service), flag, _own_unit() if is_service else "")


def _command(*, is_absolute: bool) -> str:
    typed = sys.argv[0]
    if Path(typed).name not in _NAMES:  # python -m bridge
        beside = next(
            (each for each in (Path(sys.executable).with_name(name) for name in _NAMES) if each.exists()),
            None,
        )
        return _shown(str(beside)) if beside else f"{_shown(sys.executable)} -m bridge"
    name = Path(typed).name
    if name == SERVICE and shutil.which(name) == os.path.abspath(typed):  # /usr/sbin/bridge is iproute2's
        return name
    return _shown(os.path.abspath(typed) if is_absolute else typed)


def unit_of(file: Path) -> str:
    """The unit that reads this settings file; "": none does."""
    if file.parent != DEFAULT_FILE.parent:
        return ""
    return SERVICE if file == DEFAULT_FILE else f"{SERVICE}@{file.stem}"


def _own_unit() -> str:
    """The unit that systemd runs this process for. A process that was started by hand has none."""
    if os.environ.get("SYSTEMD_EXEC_PID") != str(os.getpid()):
        return ""
    try:
        group = Path("/proc/self/cgroup").read_text()
    except OSError:
        return ""
    name = group.strip().rpartition("/")[2]
    return name.removesuffix(".service") if name.endswith(".service") else ""


def _shown(text: str) -> str:
    return printable(shlex.quote(text))
