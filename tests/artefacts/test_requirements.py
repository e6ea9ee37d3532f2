"""The pinned packages of tests and lab are complete, and pyproject.toml allows their versions."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = dict(
    re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "tests/requirements.txt").read_text(), re.MULTILINE)
)
WANTED = [
    *PROJECT["project"]["dependencies"],
    *PROJECT["dependency-groups"]["dev"],
    *PROJECT["build-system"]["requires"],
]


@pytest.mark.parametrize("wanted", WANTED)
def test_what_the_project_asks_for_is_pinned_within_its_bounds(wanted: str) -> None:
    requirement = Requirement(wanted)
    assert PINNED[requirement.name] in requirement.specifier
