"""README's example, as it stands: only the network of the lab's addresses differs."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.artefacts import pages
from tests.artefacts.test_readme import MESSAGES
from tests.harness.brokers import Brokers
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.host import USERS_LAB, Network
from tests.harness.kafka import KafkaCluster
from tests.harness.records import Record, records
from tests.harness.terminal import Terminal
from tests.integration.test_readme_commands import says


@pytest.fixture
def example(terminal: Terminal, network: Network, haproxy: HAProxy, kafka: KafkaCluster) -> Path:
    """README's bridge.toml on this network. Nothing else is changed."""
    (text,) = pages.fenced(pages.README, "toml")
    text = text.replace(f"{USERS_LAB}.", f"{network.prefix}.")
    assert {haproxy.host.address, kafka.bootstrap} <= set(text.split('"')), "the addresses are the lab's"
    file = terminal.directory / "bridge.toml"
    file.write_text(text)
    return file


def publish(haproxy: HAProxy, topic: str, payload: str) -> None:
    """Publish like a device, at QoS 1."""
    host = ["-h", haproxy.host.address, "-p", str(DEVICES)]
    subprocess.run(["mosquitto_pub", *host, "-q", "1", "-t", topic, "-m", payload], check=True, timeout=20)


def test_the_settings_in_force(terminal: Terminal, example: Path) -> None:
    shown = terminal.good(".venv/bin/bridge config --config bridge.toml")
    assert "sensors/{site}/{device}/temp" in shown
    assert "bridge.toml" in shown, "the source of a value must be shown"


def test_the_example_runs_as_it_stands(
    terminal: Terminal, example: Path, haproxy: HAProxy, kafka: KafkaCluster, emq: Brokers
) -> None:
    """Its routes lead to topics that `bridge topics --create` makes, so that every message arrives."""
    terminal.good(".venv/bin/bridge topics --create --config bridge.toml" + " --yes")
    bridge = terminal.leave_running(".venv/bin/bridge --config bridge.toml", says='"mqtt.live"')

    for topic, payload in MESSAGES.items():
        publish(haproxy, topic, payload)

    def arrived(topic: str) -> list[Record]:
        return wait_until(lambda: records(kafka.bootstrap, topic), 30.0, f"{topic} has a record") or []

    (temperature,) = arrived("home.temperatures")
    assert (temperature.key, temperature.value) == (b"d1", b"21.5")
    assert temperature.header("site") == b"kitchen"
    (lamp,) = arrived("home.rest")
    assert (lamp.key, lamp.value) == (b"zigbee2mqtt/lamp", b'{"state":"ON"}')
    assert bridge.terminate() == 0
    assert (terminal.directory / "bridge.state").is_dir()
    lines = [json.loads(line) for line in bridge.log.read_text().splitlines() if line.startswith("{")]
    assert [line for line in lines if line["level"] == "error"] == []


def test_a_dry_run_prints_what_readme_shows(
    terminal: Terminal, example: Path, haproxy: HAProxy, emq: Brokers
) -> None:
    dry_run = terminal.leave_running(".venv/bin/bridge --dry-run --config bridge.toml")
    # It prints nothing before the first message, so publish one, not README's, until it shows up.
    wait_until(lambda: publish(haproxy, "debug/there", "") or dry_run.log.read_text(), 30.0, "it is there")
    for topic, payload in MESSAGES.items():
        publish(haproxy, topic, payload)
    says(dry_run, "zigbee2mqtt/lamp")
    assert dry_run.terminate() == 0
    (shown,) = pages.fenced(pages.README, "text")
    printed = [line.rstrip() for line in dry_run.log.read_text().splitlines() if "debug/there" not in line]
    in_readme = shown.splitlines()
    assert printed[:5] == in_readme[:5]
    assert printed[-1] == in_readme[-1]
