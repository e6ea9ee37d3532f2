"""Kafka with TLS: users with a password (SASL_SSL, SCRAM) and clients with a certificate (SSL).

Real brokers, with certificates of deploy/make-certificates. Each failure is logged in a line that says what
to do, and disappears without a restart once a file was replaced.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import CLIENTS, CONTROLLER, SASL_SSL, SSL, KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.records import records
from tests.harness.tls import Authority
from tests.integration.conftest import KAFKA_PASSWORD
from tests.integration.flow import NewFlow, assert_nothing_lost_or_doubled


@pytest.fixture
def own(certificates: Path, tmp_path: Path) -> Path:
    """A copy of the bridge's files: ca.crt, bridge.crt, bridge.key and its password."""
    directory = tmp_path / "own"
    shutil.copytree(certificates / "bridge", directory)
    (directory / "password").write_text(f"{KAFKA_PASSWORD}\n")
    return directory


def with_password(kafka: KafkaCluster, own: Path) -> dict[str, Any]:
    """The [kafka] settings of a user with a password."""
    return {
        "bootstrap_servers": kafka.bootstrap_at(SASL_SSL),
        "password_file": str(own / "password"),
        "options": {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "bridge",
            "ssl.ca.location": str(own / "ca.crt"),
        },
    }


def with_certificate(kafka: KafkaCluster, own: Path) -> dict[str, Any]:
    """The [kafka] settings of a client with a certificate."""
    return {
        "bootstrap_servers": kafka.bootstrap_at(SSL),
        "options": {
            "security.protocol": "SSL",
            "ssl.ca.location": str(own / "ca.crt"),
            "ssl.certificate.location": str(own / "bridge.crt"),
            "ssl.key.location": str(own / "bridge.key"),
        },
    }


BOTH = pytest.mark.parametrize("settings", [with_password, with_certificate])


def publish(haproxy: HAProxy, payload: str) -> None:
    command = ["mosquitto_pub", "-h", haproxy.host.address, "-p", str(DEVICES), "-q", "1", "-t", "t"]
    subprocess.run([*command, "-m", payload], check=True, timeout=20)


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic(partitions=1)


@pytest.fixture
def arrives(kafka: KafkaCluster, topic: str) -> Callable[..., None]:
    """arrives("a", "b"): waits until `topic` holds these values, and no others."""

    def wait(*values: str) -> None:
        def found() -> list[str]:
            return [record.value.decode() for record in records(kafka.bootstrap, topic)]

        wait_until(lambda: found() == list(values), 40.0, lambda: f"{values} are in Kafka, {found()} are")

    return wait


def routes(topic: str) -> list[dict[str, Any]]:
    return [{"name": "all", "filter": "t", "topic": topic}]


@BOTH
def test_messages_reach_kafka(
    settings: Callable[..., dict[str, Any]],
    kafka: KafkaCluster,
    haproxy: HAProxy,
    own: Path,
    topic: str,
    arrives: Callable[..., None],
    new_bridge: Callable[..., BridgeProcess],
) -> None:
    with new_bridge(routes=routes(topic), kafka=settings(kafka, own)):
        publish(haproxy, "a")
        arrives("a")


# -- failures ------------------------------------------------------------------------------------------


Spoil = Callable[[Path, Authority], None]
"""Makes the bridge's files or settings useless."""


def another_authority(own: Path, stranger: Authority) -> None:
    shutil.copy(stranger.certificate, own / "ca.crt")


def a_strangers_certificate(own: Path, stranger: Authority) -> None:
    other = stranger.sign("bridge")
    shutil.copy(other.certificate, own / "bridge.crt")
    shutil.copy(other.key, own / "bridge.key")


def another_password(own: Path, _: Authority) -> None:
    (own / "password").write_text("wrong")


@pytest.mark.parametrize(
    ("settings", "spoil", "event", "reason", "way_out"),
    [
        pytest.param(
            with_password,
            another_authority,
            "kafka.tls_failed",
            "is signed by an authority that is not in ssl.ca.location",
            "name the file of the authority",
            id="unknown authority",
        ),
        pytest.param(
            with_password,
            another_password,
            "kafka.authentication_failed",
            "invalid credentials",
            "correct sasl.username or the file of kafka.password_file",
            id="wrong password",
        ),
        pytest.param(
            with_certificate,
            a_strangers_certificate,
            "kafka.tls_failed",
            "refuses ssl.certificate.location",
            "name a certificate that the peer's authority signed",
            id="a certificate of another authority",
        ),
    ],
)
def test_refused_it_says_why_and_heals_when_the_file_was_replaced(
    settings: Callable[..., dict[str, Any]],
    spoil: Spoil,
    event: str,
    reason: str,
    way_out: str,
    kafka: KafkaCluster,
    haproxy: HAProxy,
    own: Path,
    certificates: Path,
    topic: str,
    arrives: Callable[..., None],
    new_bridge: Callable[..., BridgeProcess],
    tmp_path: Path,
) -> None:
    spoil(own, Authority(tmp_path / "stranger"))
    bridge = new_bridge(routes=routes(topic), kafka=settings(kafka, own))
    with bridge:
        publish(haproxy, "held")
        said = bridge.wait_for(event)
        assert said["level"] == "error"
        assert reason in said["reason"]
        assert way_out in said["way_out"]
        bridge.wait_for("kafka.lane_held")
        shutil.copytree(certificates / "bridge", own, dirs_exist_ok=True)
        (own / "password").write_text(KAFKA_PASSWORD)
        arrives("held")
        assert len(bridge.entries(event)) == 1


@pytest.mark.parametrize(
    ("port", "protocol", "reason"),
    [
        pytest.param(CLIENTS, "SSL", "does not speak TLS", id="TLS against a plain listener"),
        pytest.param(SSL, "PLAINTEXT", "is a listener for SSL", id="plain text against TLS"),
        pytest.param(SASL_SSL, "SSL", "is a listener for SASL_SSL", id="no login against SASL"),
        pytest.param(CONTROLLER, "PLAINTEXT", "port of a Kafka controller", id="a controller"),
    ],
)
def test_the_wrong_listener_is_said_as_what_it_is(
    port: int,
    protocol: str,
    reason: str,
    kafka: KafkaCluster,
    haproxy: HAProxy,
    own: Path,
    topic: str,
    new_bridge: Callable[..., BridgeProcess],
) -> None:
    """librdkafka says that all brokers are down, or that they are too old."""
    options = {"security.protocol": protocol} | (
        {"ssl.ca.location": str(own / "ca.crt")} if protocol == "SSL" else {}
    )
    to = {"bootstrap_servers": kafka.bootstrap_at(port), "options": options}
    with new_bridge(routes=routes(topic), kafka=to) as bridge:
        publish(haproxy, "held")
        assert reason in bridge.wait_for("kafka.wrong_listener")["reason"]
        assert not bridge.entries("kafka.authentication_failed")
        assert len(bridge.entries("kafka.rebuilt")) <= 1


# -- renewing ------------------------------------------------------------------------------------------


@pytest.fixture
def new_bridge(
    new_bridge: Callable[..., BridgeProcess], kafka: KafkaCluster, own: Path
) -> Callable[..., BridgeProcess]:
    """Like the common new_bridge; by default it authenticates to Kafka with its certificate."""
    return lambda **tables: new_bridge(**{"kafka": with_certificate(kafka, own), **tables})


def test_a_certificate_that_is_renewed_while_messages_flow(
    new_flow: NewFlow, certificates: Path, own: Path, tmp_path: Path
) -> None:
    """First only the key, like an operator who copies one file after the other."""
    renewed = tmp_path / "tls"
    shutil.copytree(certificates, renewed)
    shutil.rmtree(renewed / "bridge")
    subprocess.run([ROOT / "deploy" / "make-certificates", renewed, "bridge"], check=True)
    with new_flow(rate=100) as flow:
        with flow.bridge.log_contains("kafka.files_unusable"):
            shutil.copy(renewed / "bridge" / "bridge.key", own)
        flow.goes_on()
        with flow.bridge.log_contains("kafka.files_read"):
            shutil.copy(renewed / "bridge" / "bridge.crt", own)
        flow.goes_on()
    assert_nothing_lost_or_doubled(flow)
