"""The lock files of the installation: the versions that are tested, and wheels for every machine."""

import re
import runpy
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.artefacts.test_requirements import PINNED as TESTED
from tests.harness.kit import ROOT

LOCK = runpy.run_path(str(ROOT / "deploy" / "lock.py"))
FILES: dict[Path, list[str]] = LOCK["wanted"]()

# What packs is on no machine, and no test imports it: tests/artefacts/test_deb.py packs with it.
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
    # pip fails where a hash is not in the file, or a package has no wheel for that machine.
    arguments = ["--require-hashes", *(f"--requirement={file}" for file in FILES)]
    found = LOCK["resolve"](architecture, python, arguments)
    assert {name: version for name, version, _ in found} == {k: v for f in FILES for k, v in _pins(f).items()}
