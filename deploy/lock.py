"""Writes the lock files of the installation: python deploy/lock.py

requirements.lock has the packages that the service needs, build.lock those that build its wheel, deb.lock the
packer of the Debian package. Packages that the tests use have the version of tests/requirements.txt; the
packer has the newest version that pyproject.toml allows. The files contain the hash of each wheel that pip
would take on the machines below. Needs pip 23 and a package index. tests/artefacts/test_lock.py asks the
index again, and tests/aarch64 installs the packages.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
TESTED = ROOT / "tests" / "requirements.txt"

ARCHITECTURES = ("x86_64", "aarch64")
PYTHONS = ("3.11", "3.13")  # of Debian 12 and 13

_GLIBCS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_34")  # Debian 12 has 2.36


def wanted() -> dict[Path, list[str]]:
    """The packages for each lock file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {
        HERE / "requirements.lock": project["project"]["dependencies"],
        HERE / "build.lock": project["build-system"]["requires"],
        HERE / "deb.lock": project["dependency-groups"]["deb"],
    }


def resolve(architecture: str, python: str, arguments: Iterable[str]) -> list[tuple[str, str, str]]:
    """Name, version and hash of each wheel that pip would install. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as target:
        report = Path(target, "report.json")
        where = ["--dry-run", f"--target={target}", "--ignore-installed", f"--report={report}"]
        _pip("install", *where, *machine(architecture, python), *arguments)
        found = json.loads(report.read_text())["install"]
    return sorted(
        (
            item["metadata"]["name"].lower().replace("_", "-"),
            item["metadata"]["version"],
            item["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for item in found
    )


def download(architecture: str, python: str, locks: Iterable[Path], directory: Path) -> None:
    """Download all wheels of the lock files for a machine into `directory`, for `install.sh --wheels`."""
    files = [f"--requirement={lock}" for lock in locks]
    _pip("download", f"--dest={directory}", "--require-hashes", *machine(architecture, python), *files)


def machine(architecture: str, python: str) -> list[str]:
    """pip's options to take wheels for a machine."""
    platforms = [f"--platform={glibc}_{architecture}" for glibc in _GLIBCS]
    return [*platforms, f"--python-version={python}", "--implementation=cp", "--only-binary=:all:"]


def _pip(*arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *arguments], check=True)  # noqa: S603 - no untrusted input


def machines() -> Sequence[tuple[str, str]]:
    return list(itertools.product(ARCHITECTURES, PYTHONS))


def lock(packages: list[str]) -> Iterator[str]:
    hashes: dict[tuple[str, str], set[str]] = {}
    for architecture, python in machines():
        for name, version, digest in resolve(architecture, python, [f"--constraint={TESTED}", *packages]):
            hashes.setdefault((name, version), set()).add(digest)
    yield "# Made by deploy/lock.py: wheels alone, for x86-64 and aarch64, Python 3.11 and 3.13."
    for (name, version), digests in sorted(hashes.items()):
        yield " \\\n".join(
            [f"{name}=={version}", *(f"    --hash=sha256:{digest}" for digest in sorted(digests))]
        )


def main() -> None:
    for path, packages in wanted().items():
        path.write_text("\n".join(lock(packages)) + "\n")


if __name__ == "__main__":
    main()
