"""The files of deploy/: up to date with the code, accepted by their readers, hardened as promised."""

import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import pytest

from bridge.settings import describe
from bridge.settings.load import DEFAULT_FILE
from tests.harness.kit import ROOT
from tests.unit.settings.configurations import Machine

DEPLOY = ROOT / "deploy"
MADE: dict[Path, str] = runpy.run_path(str(DEPLOY / "generate.py"))["files"]()
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SETTINGS = (DEPLOY / "bridge.toml").read_text()

MOST_EXPOSED = 1.5  # of 10, as systemd-analyze counts


@pytest.mark.parametrize("file", MADE, ids=lambda file: file.name)
def test_a_file_that_is_made_says_what_it_is_made_from(file: Path) -> None:
    assert file.read_text() == MADE[file], f"{file.name} is out of step: python deploy/generate.py"


# -- bridge.toml ---------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_the_shipped_settings_are_accepted_as_they_are(machine: Machine) -> None:
    machine.write(SETTINGS)
    settings = machine.read().settings
    assert (settings.mqtt.host, settings.mqtt.port) == ("172.30.1.10", 1884)


def test_every_setting_is_in_the_shipped_file() -> None:
    named = re.findall(r"^#?(\w+) =|^\[kafka\.(options)\]", SETTINGS, re.MULTILINE)
    assert [plain or table for plain, table in named] == [str(key[-1]) for key, _ in describe.fields()]


def test_every_default_that_the_shipped_file_shows_can_be_uncommented(machine: Machine) -> None:
    machine.write(SETTINGS)
    as_shipped = machine.read().settings
    machine.write(re.sub(r"^#(\w+ = .+)$", r"\1", SETTINGS, flags=re.MULTILINE))
    assert machine.read().settings == as_shipped
    assert tomllib.loads(machine.file.read_text())["mqtt"]["tcp"]["keepalive_count"] == 3


# -- the units -----------------------------------------------------------------------------------------


@pytest.fixture
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit whose program exists, because systemd-analyze checks that."""
    source: Path = request.param
    copy = tmp_path / source.name
    start = re.compile(r"^ExecStart=(?:.*\\\n)*.*", re.MULTILINE)
    copy.write_text(start.sub("ExecStart=/bin/true", source.read_text()))
    return copy


units = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name, indirect=True)


@units
def test_systemd_understands_every_line_of_a_unit(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    # systemd-analyze prints what it does not understand, but exits with 0.
    assert (done.returncode, done.stderr) == (0, "")


@units
def test_a_unit_is_exposed_as_little_as_can_be(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSED * 10:.0f}", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_keepalived_is_exposed_as_little_as_a_program_of_root_can_be(tmp_path: Path) -> None:
    """What is beside the unit of Debian's package."""
    unit = tmp_path / "keepalived.service"
    beside = (DEPLOY / "systemd" / "keepalived.conf").read_text()
    unit.write_text(f"{beside}[Service]\nType=notify\nExecStart=/bin/true\n")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_reads_the_file_that_is_read_without_being_told() -> None:
    assert f"--config {DEFAULT_FILE}\n" in (DEPLOY / "systemd" / "mqtt-kafka-bridge.service").read_text()
