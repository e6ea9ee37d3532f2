"""docs/how-to/prometheus.md: its commands work, and its table has all alerts."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.artefacts import pages
from tests.harness import kit
from tests.harness.promtool import ALERTS

PAGE = kit.ROOT / "docs" / "how-to" / "prometheus.md"
COMMANDS = pages.commands(PAGE)
# tests/integration/test_lab.py runs the first, test_prometheus.py fetches what the second one fetches.
ELSEWHERE = {"deploy/lab up --observe", "curl -s http://127.0.0.1:9464/metrics"}


def test_every_command_is_run_or_checked() -> None:
    kinds = ("sudo apt-get ", "sudo systemctl ", "sudo cp ", "sudo mkdir ", "promtool ")
    assert set(COMMANDS) >= ELSEWHERE
    assert not [command for command in COMMANDS if command not in ELSEWHERE and not command.startswith(kinds)]


def test_what_is_copied_is_what_prometheus_and_grafana_read(tmp_path: Path) -> None:
    for place in ("etc/prometheus", "etc/grafana", "var/lib/grafana"):
        (tmp_path / place).mkdir(parents=True)
    run = [command for command in COMMANDS if re.match(r"sudo (cp|mkdir) |promtool ", command)]
    assert len(run) >= 5
    for command in run:
        here = re.sub(r" /(etc|var)/", rf" {tmp_path}/\1/", command.removeprefix("sudo "))
        done = subprocess.run(["sh", "-c", here], cwd=kit.ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "var/lib/grafana/dashboards/mqtt-kafka-bridge.json").exists()
    [path] = re.findall(
        r"path: (.*)", (tmp_path / "etc/grafana/provisioning/dashboards/mqtt-kafka-bridge.yml").read_text()
    )
    assert (tmp_path / path.removeprefix("/") / "mqtt-kafka-bridge.json").exists()
    assert (tmp_path / "etc/grafana/provisioning/datasources/mqtt-kafka-bridge.yml").exists()


@pytest.mark.parametrize("command", [command for command in COMMANDS if "apt-get" in command])
def test_a_package_is_one_that_the_tests_install(command: str) -> None:
    assert command.split()[3:] == ["prometheus"]
    assert "prometheus" in kit._WANTED["observe"].values()


def test_a_service_that_is_restarted_is_the_packages_own() -> None:
    restarted = [command.split()[-1] for command in COMMANDS if "systemctl" in command]
    assert restarted == ["prometheus", "grafana-server"]  # the latter is in Grafana's own package
    assert list(Path("/lib/systemd/system").glob("prometheus.service"))


def test_the_table_has_every_alert_with_its_severity_and_no_other() -> None:
    rows = re.findall(r"^\| ([A-Z]\w+(?:, [A-Z]\w+)*) \| (\w[\w ]*) \|", PAGE.read_text(), re.MULTILINE)
    listed = {f"MqttKafkaBridge{name}": severity for names, severity in rows for name in names.split(", ")}
    wanted: dict[str, str] = {}
    for name, severity in re.findall(r"- alert: (\w+).*?severity: (\w+)", ALERTS.read_text(), re.DOTALL):
        wanted[name] = f"{wanted[name]} and {severity}" if name in wanted else severity
    assert listed == wanted
