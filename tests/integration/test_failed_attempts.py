"""What is away for days is tried again for days: a failed attempt may leave nothing in memory.

Each way to fail has a process of its own, and all run side by side. `--full` makes 2,000 attempts each.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness.kafka import SASL_SSL, KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.scripted import ScriptedBroker
from tests.harness.tls import Authority, TlsDoor
from tests.integration.conftest import KAFKA_PASSWORD

MOST_MB = 3.0
_UNIT = (ROOT / "deploy/systemd/mqtt-kafka-bridge.service").read_text()
_NOT_AUTHORIZED = 0x87
_NOBODY = {"host": "127.0.0.1", "port": 1}

# Name servers, and librdkafka's start and stop, take their time.
_FEW = {"mqtt dns": 50, "kafka": 30}
_SOME, _ALL = 300, 2000

# A way to fail, and the event that says so.
WAYS = {
    "mqtt refused": "mqtt.connect_failed",
    "mqtt dns": "mqtt.connect_failed",
    "mqtt tls name": "mqtt.tls_failed",
    "mqtt tls ca": "mqtt.tls_failed",
    "mqtt connack refused": "mqtt.refused",
    "mqtt closed before connack": "mqtt.unavailable",
    "mqtt no connack": "mqtt.connack_timeout",
    "kafka refused": "kafka.error",
    "kafka dns": "kafka.error",
    "kafka tls name": "kafka.tls_failed",
    "kafka tls ca": "kafka.tls_failed",
    "kafka authentication": "kafka.authentication_failed",
}


def _count(way: str, full: bool) -> int:
    return _ALL if full else next((few for name, few in _FEW.items() if way.startswith(name)), _SOME)


@pytest.fixture(scope="module")
def processes(
    request: pytest.FixtureRequest,
    _kafka: KafkaCluster,
    certificates: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, "subprocess.Popen[bytes]"]]:
    directory = tmp_path_factory.mktemp("attempts")
    authority, another = Authority(directory / "one"), Authority(directory / "another")
    with ExitStack() as running:
        refuses, hangs_up, is_silent = (running.enter_context(ScriptedBroker()) for _ in range(3))
        running.enter_context(refuses.always(lambda connection: connection.connack(reason=_NOT_AUTHORIZED)))
        running.enter_context(hangs_up.always(lambda connection: connection.reset()))
        door = TlsDoor((refuses.address, refuses.port), authority.sign("emq"), directory)
        door.start()
        running.callback(door.terminate)

        def at(broker: ScriptedBroker, milliseconds: int = 3600) -> dict[str, Any]:
            session = {"host": broker.address, "port": broker.port, "protocol": "5"}
            return {**session, "connack_timeout": milliseconds}

        def tls(trusted: Authority, name: str) -> dict[str, Any]:
            tls = {"enabled": True, "ca_file": str(trusted.certificate), "server_name": name}
            return {"host": door.address, "port": door.port, "tls": tls}

        def kafka(servers: str, **options: str) -> dict[str, Any]:
            named = {name.replace("_", "."): value for name, value in options.items()}
            return {"bootstrap_servers": servers, "options": named}

        def kafka_tls(trusted: Authority) -> dict[str, Any]:
            """The door's certificate is for emq, and Kafka's name here is the door's address."""
            servers = f"{door.address}:{door.port}"
            return kafka(servers, security_protocol="ssl", ssl_ca_location=str(trusted.certificate))

        ways: dict[str, dict[str, Any]] = {
            "mqtt refused": _NOBODY,
            "mqtt dns": {"host": "nowhere.invalid"},
            "mqtt tls name": tls(authority, "another"),
            "mqtt tls ca": tls(another, "emq"),
            "mqtt connack refused": at(refuses),
            "mqtt closed before connack": at(hangs_up),
            "mqtt no connack": at(is_silent, 5),
            "kafka refused": kafka("127.0.0.1:1"),
            "kafka dns": kafka("nowhere.invalid:9092"),
            "kafka tls name": kafka_tls(authority),
            "kafka tls ca": kafka_tls(another),
            "kafka authentication": kafka(
                _kafka.bootstrap_at(SASL_SSL),
                security_protocol="sasl_ssl",
                ssl_ca_location=str(certificates / "bridge" / "ca.crt"),
                sasl_mechanism="SCRAM-SHA-512",
                sasl_username="bridge",
                sasl_password=f"not {KAFKA_PASSWORD}",
            ),
        }
        assert ways.keys() == WAYS.keys()
        full = request.config.getoption("--full")
        processes = {
            way: subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.harness.attempts", way.partition(" ")[0]),
                    *(str(_count(way, full)), json.dumps(settings)),
                ],
                cwd=ROOT,
                env={**os.environ, **dict(re.findall(r"(?m)^Environment=(\w+)=(.*)$", _UNIT))},
                stdout=subprocess.PIPE,
            )
            for way, settings in ways.items()
        }
        try:
            yield processes
        finally:
            for process in processes.values():
                process.kill()
                process.communicate()


@pytest.mark.parametrize("way", WAYS)
def test_failed_attempts_leave_nothing_in_memory(
    way: str, processes: dict[str, "subprocess.Popen[bytes]"], request: pytest.FixtureRequest
) -> None:
    output, _ = processes[way].communicate(timeout=3000 if request.config.getoption("--full") else 600)
    found = json.loads(output)
    assert WAYS[way] in found["failed"], found
    assert found["grown_mb"] <= MOST_MB, found
