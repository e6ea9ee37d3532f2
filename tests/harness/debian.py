"""Debian packages for the harness, installed so that nothing of them runs or will run by itself.

    python3 -m tests.harness.debian PACKAGE...      as root

While they are installed, policy-rc.d forbids to start services (the way Debian offers for this), and
afterwards what their scripts enabled for the next boot is disabled again. What was installed or
enabled before is left as it was. Standard library only: it runs before there is anything else.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_POLICY = Path("/usr/sbin/policy-rc.d")
_ASIDE = Path("/usr/sbin/policy-rc.d.before-mqtt-kafka-bridge")
_OURS = "#!/bin/sh\n# Put here by mqtt-kafka-bridge while it installs packages: start no service.\nexit 101\n"

_APT = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]


def install(packages: list[str]) -> int:
    """Install them, and return apt-get's exit code. Its output goes where this program's goes."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    command = [*_APT, "install", "--no-install-recommends", *packages]

    def run(*command: str) -> int:
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL).returncode

    enabled = _enabled()
    with _nothing_starts():
        # Fresh enough lists are the rule: fetch them only where there are none, or they proved too old.
        failed = not any(Path("/var/lib/apt/lists").glob("*_Packages*")) or run(*command)
        if failed:
            failed = run(*_APT, "update") or run(*command)
    _disable(_enabled() - enabled)
    return failed


@contextlib.contextmanager
def _nothing_starts() -> Iterator[None]:
    if _POLICY.exists() and _POLICY.read_text(errors="replace") != _OURS:  # ours: a run was killed half-way
        _POLICY.rename(_ASIDE)
    _POLICY.write_text(_OURS)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
        if _ASIDE.exists():
            _ASIDE.rename(_POLICY)


def _enabled() -> set[Path]:
    """The links that start something at boot, of systemd and of System V."""
    etc = Path("/etc")
    return {*etc.glob("systemd/system/*.wants/*"), *etc.glob("rc[2-5S].d/S*")}


def _disable(links: set[Path]) -> None:
    for link in links:
        if link.parent.suffix == ".wants":
            link.unlink()  # all that `systemctl disable` does, and it works without systemd
    for service in {link.name[3:] for link in links if link.parent.suffix == ".d"}:
        subprocess.run(["update-rc.d", service, "disable"], check=False)
    if links and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "daemon-reload"], check=False)


if __name__ == "__main__":
    sys.exit(install(sys.argv[1:]))
