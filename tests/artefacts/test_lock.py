"""The lock files of the installation: the tested versions, and wheels for every machine."""

import re
import runpy
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.artefacts import pages
from tests.artefacts.test_requirements import PINNED as TESTED
from tests.harness.kit import ROOT

LOCK = runpy.run_path(str(ROOT / "deploy" / "lock.py"))
FILES: dict[Path, list[str]] = LOCK["wanted"]()

# Packing tools are on no machine and no test imports them: tests/artefacts/test_deb.py runs them.
RUN = [file for file in FILES if file.name != "deb.lock"]

files = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def _pins(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", file.read_text(), re.MULTILINE))


@pytest.mark.parametrize("file", RUN, ids=lambda file: file.name)
def test_what_is_installed_is_what_is_tested(file: Path) -> None:
    assert {name: TESTED.get(name) for name in _pins(file)} == _pins(file)


@files
def test_what_the_project_asks_for_is_locked_within_its_bounds(file: Path) -> None:
    for wanted in map(Requirement, FILES[file]):
        assert _pins(file)[wanted.name] in wanted.specifier


@pytest.mark.parametrize(("architecture", "python"), LOCK["machines"]())
def test_every_wheel_exists_for_every_machine(architecture: str, python: str) -> None:
    # pip fails if a hash is not in the file, or a package has no wheel for that machine.
    arguments = ["--require-hashes", *(f"--requirement={file}" for file in FILES)]
    found = LOCK["resolve"](architecture, python, arguments)
    assert {name: version for name, version, _ in found} == {k: v for f in FILES for k, v in _pins(f).items()}


# -- tests/aarch64, which takes too long to be run here ------------------------------------------------

AARCH64 = ROOT / "tests" / "aarch64"


def test_the_emulated_installation_says_what_it_does() -> None:
    done = subprocess.run([AARCH64, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "sudo tests/aarch64" in done.stdout


def test_the_emulated_installation_borrows_functions_that_exist() -> None:
    parts = "".join(f". deploy/install/{part}.sh\n" for part in ("say", "machine", "versions"))
    command = f"set -eu\n{parts}declare -F require_python find_new place_new pip\necho $VERSIONS"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_beyond_the_emulator_is_a_test() -> None:
    left_out = re.findall(r"^ +(tests/\S+?)::(test_\w+)", AARCH64.read_text(), re.MULTILINE)
    assert [test for file, test in left_out if test not in pages.tests_of(ROOT / file)] == []
