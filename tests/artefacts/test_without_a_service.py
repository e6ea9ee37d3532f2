"""docs/how-to/install.md, without a service: its commands give a bridge that works without this clone."""

import os
import re
import subprocess
import sysconfig
from pathlib import Path

from tests.artefacts import pages
from tests.harness.kit import ROOT

PAGE = ROOT / "docs/how-to/install.md"
_NO_NETWORK = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def test_the_bridge_that_pip_installs_works(tmp_path: Path) -> None:
    """Takes the packages of the lock file from this run's environment; test_lock.py checks the file."""
    make, packages, bridge, init = pages.commands(PAGE)[-4:]
    assert packages == "~/bridge.venv/bin/pip install --require-hashes -r deploy/requirements.lock"

    def run(command: str, directory: Path) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"HOME": str(tmp_path), **_NO_NETWORK}
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(make, ROOT)
    (site,) = (tmp_path / "bridge.venv").glob("lib/python3.*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    run(bridge, ROOT)

    flags = " --mqtt.host 127.0.0.1:1883 --kafka.bootstrap_servers 127.0.0.1:9092"
    shown = run(init + flags, tmp_path)
    config = run("~/bridge.venv/bin/bridge config --config bridge.toml", tmp_path)

    where = run("~/bridge.venv/bin/python -c 'import bridge; print(bridge.__file__)'", tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    assert "--dry-run" in shown
    assert "127.0.0.1:9092" in config
    assert {"index.html", "runbook.html"} <= {file.name for file in (site / "bridge/http/page").iterdir()}


def test_what_install_sh_names_without_systemd_exists() -> None:
    text = (ROOT / "deploy/install/machine.sh").read_text()
    (anchor,) = re.findall(r"docs/how-to/install\.md#([\w-]+)", text)
    assert anchor in pages.anchors(PAGE)
