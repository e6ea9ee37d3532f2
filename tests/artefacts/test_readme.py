"""README's example configuration is one that the bridge takes."""

import re
import subprocess
import sys
from pathlib import Path

from tests.harness.kit import ROOT

README = (ROOT / "README.md").read_text()


def test_the_example_configuration_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    file = tmp_path / "bridge.toml"
    file.write_text(example)

    done = subprocess.run(
        [sys.executable, "-m", "bridge", "config", "--config", file], cwd=ROOT, capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "sensors/{site}/{device}/temp" in done.stdout


def test_every_page_that_is_linked_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", README)

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
