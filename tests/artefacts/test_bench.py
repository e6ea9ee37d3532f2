"""The bench starts, and the peers' configurations load. No test checks the measured costs."""

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.settings import Settings
from tests.bench.peers import Place, bridge_settings
from tests.harness.kit import ROOT


def place(directory: Path, *, mqtt5: bool) -> Place:
    return Place("127.0.0.1", 1883, "127.0.0.1:9092", "house", "bench", mqtt5, directory)


@pytest.mark.parametrize(("mqtt5", "protocol"), [(True, "5"), (False, "3.1.1")])
def test_the_bridges_own_settings_are_valid(tmp_path: Path, mqtt5: bool, protocol: str) -> None:
    settings = Settings.model_validate(bridge_settings(place(tmp_path, mqtt5=mqtt5)))
    assert settings.mqtt.protocol == protocol
    assert settings.routes[0].filter == "sensors/{site}/{device}/temp"


def test_the_place_is_where_the_route_leads(tmp_path: Path) -> None:
    here = place(tmp_path, mqtt5=True)
    assert here.topic == bridge_settings(here)["routes"][0]["topic"].replace("{site}", here.site)


@pytest.mark.parametrize(
    "command", ["drain", "latency", "window", "spool", "hostile", "growth", "here", "idle"]
)
def test_help_is_given_for(command: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench", command, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert f"tests/bench/run {command}" in run.stdout
