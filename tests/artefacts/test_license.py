"""The licence: the file, what pyproject and README say of it, and that the wheel carries it."""

import hashlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

from tests.artefacts import pages
from tests.harness.kit import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# SHA-256 of https://www.apache.org/licenses/LICENSE-2.0.txt.
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_the_file_is_the_apache_license_word_by_word() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2


def test_readme_names_the_license_of_pyproject() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License 2.0" in pages.README.read_text()
    assert "LICENSE" in pages.links(pages.README)


def test_the_wheel_carries_the_license(tmp_path: Path) -> None:
    """Built from the files that deploy/install/versions.sh copies, as on a Pi."""
    (copied,) = [
        line
        for line in (ROOT / "deploy/install/versions.sh").read_text().splitlines()
        if line.strip().startswith("cp -r") and line.endswith('"$SCRATCH/source"')
    ]
    names = copied.partition("{")[2].partition("}")[0].split(",")
    source = tmp_path / "source"
    source.mkdir()
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)

    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path], cwd=source, check=True
    )

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
        assert metadata["License-Expression"] == "Apache-2.0"
        assert metadata["License-File"] == "LICENSE"
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
