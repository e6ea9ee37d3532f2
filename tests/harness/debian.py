"""Installs Debian packages for the harness, without starting or enabling their services.

    python3 -m tests.harness.debian PACKAGE...      as root

During the installation policy-rc.d forbids to start services (Debian's own mechanism for this). Afterwards
this program disables what the packages' scripts enabled for the next boot. It does not touch what was
installed or enabled before. Standard library only: it runs before anything else is installed.
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
    """Install the packages, and return apt-get's exit code. apt-get inherits stdout and stderr."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    command = [*_APT, "install", "--no-install-recommends", *packages]

    def run(*command: str) -> int:
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL).returncode

    enabled = _enabled()
    with _nothing_starts():
        # The package lists are usually fresh enough: update them only if there are none, or they are too old.
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
    """The links of systemd and System V that start something at boot."""
    etc = Path("/etc")
    return {*etc.glob("systemd/system/*.wants/*"), *etc.glob("rc[2-5S].d/S*")}


def _disable(links: set[Path]) -> None:
    for link in links:
        if link.parent.suffix == ".wants":
            link.unlink()  # the same as `systemctl disable`, but works without systemd
    for service in {link.name[3:] for link in links if link.parent.suffix == ".d"}:
        subprocess.run(["update-rc.d", service, "disable"], check=False)
    if links and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "daemon-reload"], check=False)


if __name__ == "__main__":
    sys.exit(install(sys.argv[1:]))
