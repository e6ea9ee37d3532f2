"""Installs Flechtwerk once, in an environment of its own: it needs a newer Python than the bridge."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.harness import kit

VERSION = "0.17.0"
_NEEDS = "3.12.4"  # 3.12.1 cannot import it
_NAMES = ("python3.14", "python3.13", "python3.12")
_ATTEMPT = 300.0  # seconds


def python() -> Path:
    """The Python that has Flechtwerk, which is installed now if it is missing. Raises KitError."""
    target = kit.cache() / f"flechtwerk-{VERSION}"
    program = target / "bin" / "python"
    if not (target / "complete").exists():
        base = _base()
        if base is None:
            raise kit.KitError(f"no Python {_NEEDS} or later to run Flechtwerk {VERSION} with")
        shutil.rmtree(target, ignore_errors=True)
        packages = [f"flechtwerk[mqtt]=={VERSION}", "uvloop"]
        pip = [program, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *packages]
        for command in ([base, "-m", "venv", target], pip):
            try:
                run = subprocess.run(command, capture_output=True, text=True, timeout=_ATTEMPT, check=False)
            except subprocess.TimeoutExpired:
                raise kit.KitError(f"Flechtwerk {VERSION} was not installed in {_ATTEMPT:.0f} s") from None
            if run.returncode:
                raise kit.KitError(f"cannot install Flechtwerk {VERSION}: {run.stderr.strip()[-500:]}")
        (target / "complete").touch()
    return program


def _base() -> str | None:
    """A Python that is new enough."""
    check = f"import sys; sys.exit(sys.version_info < {tuple(map(int, _NEEDS.split('.')))})"
    for name in (sys.executable, *_NAMES):
        found = shutil.which(name)
        # pyenv has a program of this name on PATH even where it runs none.
        if found and subprocess.run([found, "-c", check], capture_output=True, check=False).returncode == 0:
            return found
    return None
