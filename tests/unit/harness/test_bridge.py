"""BridgeProcess with a program that only logs: writes settings, reads log entries."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess, toml
from tests.harness.conditions import NotInTime

FAKE = """
import json, signal, sys, time
def log(event, **fields): print(json.dumps({"event": event, **fields}), flush=True)
def stop(*_): log("service.stopped"); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("not JSON")
log("service.started"); log("mqtt.live", session_present=False, node="emq1")
while True: time.sleep(0.05); log("flow.minute", delivered=7)
"""


@pytest.fixture
def bridge(tmp_path: Path) -> BridgeProcess:
    return BridgeProcess({"mqtt": {"host": "a"}}, tmp_path, program=(sys.executable, "-c", FAKE))


def test_its_log_is_read_while_it_runs(bridge: BridgeProcess) -> None:
    with bridge:
        assert bridge.wait_for("mqtt.live", session_present=False)["node"] == "emq1"
        with bridge.log_contains("flow.minute", delivered=7):
            pass
        with pytest.raises(NotInTime, match=r"bridge logs flow.minute delivered=8"):
            bridge.wait_for("flow.minute", 0.1, delivered=8)
        assert bridge.rss_mb() > 1
        assert bridge.cpu_seconds() >= 0
    assert bridge.entries("service.stopped")


def test_entries_are_those_since_its_last_start(bridge: BridgeProcess) -> None:
    with bridge:
        pass
    with bridge:
        assert len(bridge.entries("mqtt.live")) == 1


def test_one_that_dies_is_not_waited_for(bridge: BridgeProcess) -> None:
    bridge.start()
    bridge.kill9()
    with pytest.raises(RuntimeError, match=r"ended with -9 before kafka\.connected"):
        bridge.wait_for("kafka.connected")


def test_settings_reach_the_file_as_they_are(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "stop_timeout": 2.5,
        "mqtt": {"host": 'quo"ted', "tls": {"enabled": True}, "topics": ["a", "b"]},
        "kafka": {"options": {"linger.ms": 5}},
        "routes": [{"name": "one", "filter": "+/ü"}, {"name": "two"}],
    }
    assert tomllib.loads(toml(settings)) == settings
