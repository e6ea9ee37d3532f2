"""No secret leaves the bridge: the test searches all output of the bridge for every secret that it was given.

At level debug, with librdkafka's own debug log, while passwords are refused, accepted, and in use when the
program crashes.
"""

import base64
import getpass
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess, toml
from tests.harness.conditions import wait_until
from tests.harness.host import Network
from tests.harness.kafka import SASL_SSL, KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.process import Process
from tests.harness.records import records
from tests.integration.conftest import KAFKA_PASSWORD

MQTT_PASSWORD, WRONG_PASSWORD, PASSPHRASE = "mqtt-geheim-4711", "falsch-geheim-4712", "schluessel-geheim-4713"
SECRETS = (MQTT_PASSWORD, WRONG_PASSWORD, PASSPHRASE, KAFKA_PASSWORD)

_MOSQUITTO = Template("""\
listener 1883 ${address}
allow_anonymous false
password_file ${passwords}
user ${user}
""")

# The program, whose first CONNECT raises an exception while the password is in use.
_CRASHES = """\
import sys
from bridge.commands import cli
from bridge.mqtt.client import TappedClient

def crash(client):
    password = client._password
    raise RuntimeError("a defect, as a test makes it")

TappedClient.send_connect = crash
sys.exit(cli.main())
"""


@pytest.fixture
def broker(network: Network, tmp_path: Path) -> Iterator[str]:
    """The address of a mosquitto that accepts user "bridge" with its password."""
    address = network.behind_the_doors.address
    passwords = tmp_path / "mosquitto.passwords"
    passwords.touch(mode=0o600)
    command = ["mosquitto_passwd", "-b", passwords, "bridge", MQTT_PASSWORD]
    subprocess.run(command, check=True, capture_output=True)
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(_MOSQUITTO.substitute(address=address, passwords=passwords, user=getpass.getuser()))
    process = Process(
        "mosquitto",
        ["mosquitto", "-c", settings],
        log=tmp_path / "mosquitto.log",
        ready=lambda: network.behind_the_doors.listens(1883),
    )
    process.start()
    yield address
    process.terminate()


@pytest.fixture
def settings(broker: str, kafka: KafkaCluster, certificates: Path, tmp_path: Path) -> dict[str, Any]:
    own = tmp_path / "own"
    own.mkdir()
    (own / "mqtt-password").write_text(f"{WRONG_PASSWORD}\n")
    (own / "kafka-password").write_text(f"{KAFKA_PASSWORD}\n")
    key = certificates / "bridge" / "bridge.key"
    encrypt = ["openssl", "pkey", "-aes256", "-passout", f"pass:{PASSPHRASE}", "-in", key]
    subprocess.run([*encrypt, "-out", own / "bridge.key"], check=True)
    return {
        "mqtt": {
            "host": broker,
            "port": 1883,
            "username": "bridge",
            "password_file": str(own / "mqtt-password"),
            "reconnect": {"refused_delay": "1s"},
        },
        "kafka": {
            "bootstrap_servers": kafka.bootstrap_at(SASL_SSL),
            "password_file": str(own / "kafka-password"),
            "options": {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": "bridge",
                "ssl.ca.location": str(certificates / "ca.crt"),
                "ssl.certificate.location": str(certificates / "bridge" / "bridge.crt"),
                "ssl.key.location": str(own / "bridge.key"),
                "ssl.key.password": PASSPHRASE,
                "debug": "all",
            },
        },
        "routes": [{"name": "all", "filter": "#", "topic": "test.secrets"}],
        "log": {"level": "debug"},
    }


def leaked(text: bytes) -> list[str]:
    """The secrets in this text, in plain form or encoded as in SASL and HTTP."""
    return [
        secret
        for secret in SECRETS
        if secret.encode() in text or base64.b64encode(secret.encode()).rstrip(b"=")[:-1] in text
    ]


def test_the_search_finds_what_is_there() -> None:
    assert leaked(f"x{MQTT_PASSWORD}x".encode()) == [MQTT_PASSWORD]
    assert leaked(base64.b64encode(PASSPHRASE.encode())) == [PASSPHRASE]


def test_no_secret_is_in_the_log_or_beside_the_process(
    settings: dict[str, Any], tmp_path: Path, kafka: KafkaCluster
) -> None:
    kafka.create_topic("test.secrets", 1)
    bridge = BridgeProcess(settings, tmp_path)
    bridge.start()
    try:
        refused = bridge.wait_for("mqtt.refused")
        assert "mqtt.password_file" in refused["way_out"]
        (tmp_path / "own" / "mqtt-password").write_text(MQTT_PASSWORD)
        bridge.wait_live()  # without a restart
        assert len(bridge.entries("mqtt.refused")) <= 2
        publish = ["mosquitto_pub", "-h", settings["mqtt"]["host"], "-u", "bridge", "-P", MQTT_PASSWORD]
        subprocess.run([*publish, "-q", "1", "-t", "t", "-m", "x"], check=True, timeout=20)
        wait_until(lambda: records(kafka.bootstrap, "test.secrets"), 30, "it is in Kafka")
        beside = [f"/proc/{bridge.pid}/{name}" for name in ("cmdline", "environ")]
        assert [leaked(Path(name).read_bytes()) for name in beside] == [[], []]
        children = [each.read_text() for each in Path(f"/proc/{bridge.pid}/task").glob("*/children")]
        assert children
        assert not any(children), "a bridge that starts child processes must show that they get no secret"
    finally:
        bridge.terminate()

    log = bridge.log.read_bytes()
    assert b"library.paho" in log
    assert b"SCRAM" in log  # librdkafka's debugging was on
    assert leaked(log) == []
    state = [file for file in (tmp_path / "bridge.state").rglob("*") if file.is_file()]
    assert [file for file in state if leaked(file.read_bytes())] == []


def test_no_secret_is_in_the_traceback_of_a_crash(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "own" / "mqtt-password").write_text(MQTT_PASSWORD)
    bridge = BridgeProcess(settings, tmp_path, program=(sys.executable, "-c", _CRASHES))
    bridge.spawn()  # the program may end before a readiness check
    bridge.wait_for("service.failed")
    bridge.kill9()
    log = bridge.log.read_bytes()
    assert b"in crash" in log
    assert leaked(log) == []


@pytest.mark.parametrize("extra", [{}, {"mqtt": {"keepalive": "nonsense"}}], ids=["good", "wrong"])
def test_no_secret_is_shown_by_bridge_config(
    settings: dict[str, Any], tmp_path: Path, extra: dict[str, Any]
) -> None:
    file = tmp_path / "bridge.toml"
    settings["mqtt"] |= extra.get("mqtt", {})
    file.write_text(toml(settings))
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "config", "--config", file], cwd=ROOT, capture_output=True
    )
    assert (done.returncode == 0) == (not extra)
    assert leaked(done.stdout + done.stderr) == []
