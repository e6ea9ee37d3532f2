"""docs/how-to/managed-kafka.md: the bridge logs in by SASL/PLAIN and OAUTHBEARER (OIDC), with TLS.

The settings are read from the page. Only the addresses, the secrets and the authority's file are others: the
broker has a certificate of its own authority.
"""

import base64
import json
import math
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest
from paho.mqtt import publish

from tests.artefacts import pages
from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, SUBSCRIBER, HAProxy
from tests.harness.host import Network
from tests.harness.kafka import SASL_SSL, KafkaCluster, Secured
from tests.harness.kit import ROOT
from tests.harness.records import records

PAGE = ROOT / "docs" / "how-to" / "managed-kafka.md"
NETWORK = Network("127.30.4")
PASSWORD = "an-api-secret-0815"
LIFETIME = 6  # seconds of a token; librdkafka asks for the next after four fifths of it

# The last listener of tests/harness/kafka/tls.properties takes these two mechanisms instead of SCRAM.
_LOGINS = f"""
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \\
    required user_bridge="{PASSWORD}";
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=\\
    org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule \\
    required unsecuredLoginStringClaim_sub="nobody";
"""


@pytest.fixture(scope="module")
def certificates_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("managed") / "tls"
    hosts = [f"kafka1={NETWORK.kafka[0].address}", "bridge"]
    subprocess.run([ROOT / "deploy" / "make-certificates", directory, *hosts], check=True)
    return directory


@pytest.fixture(scope="module")
def managed(certificates_alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    secured = Secured(certificates_alone, "other", "unused-0815")
    directory = tmp_path_factory.mktemp("kafka-managed")
    with KafkaCluster(NETWORK, directory, nodes=1, secured=secured, properties=_LOGINS) as cluster:
        cluster.create_topic("mqtt", partitions=1)
        yield cluster


# -- a token endpoint --------------------------------------------------------------------------------------


def _part(fields: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


class Endpoint(BaseHTTPRequestHandler):
    """Gives an unsigned token, as Kafka's own validator for tests takes it, to whoever knows the secret."""

    asked: ClassVar[list[dict[str, list[str]]]] = []

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        user = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        self.asked.append({**form, "user": [user]})
        now = time.time()
        # With a shorter life librdkafka may log in twice within a second, which Kafka refuses.
        ends = math.ceil(now) + LIFETIME
        claims = {"sub": "bridge", "iat": int(now), "exp": ends, "scope": "kafka"}
        token = f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(claims)}."
        knows = user == f"bridge:{PASSWORD}"
        answer: dict[str, Any] = {"error": "invalid_client"}
        if knows:
            answer = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME}
        self.send_response(200 if knows else 401)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    Endpoint.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/token"
        server.shutdown()
        thread.join()


# -- the bridge ------------------------------------------------------------------------------------------


@pytest.fixture
def new_bridge(
    managed: KafkaCluster, haproxy: HAProxy, emq: Brokers, certificates_alone: Path, tmp_path: Path
) -> Callable[..., BridgeProcess]:
    """new_bridge("PLAIN", password_file=..., options={...}): with the page's settings, and these instead."""

    def create(mechanism: str, options: dict[str, Any], **kafka: Any) -> BridgeProcess:
        (text,) = (each for each in pages.fenced(PAGE, "toml") if f'sasl.mechanism = "{mechanism}"' in each)
        settings = tomllib.loads(text)
        settings["mqtt"] |= {"host": haproxy.host.address, "port": SUBSCRIBER, "client_id": mechanism}
        settings["kafka"] |= {"bootstrap_servers": managed.bootstrap_at(SASL_SSL), **kafka}
        own = {"ssl.ca.location": str(certificates_alone / "bridge" / "ca.crt"), **options}
        settings["kafka"]["options"] = {**_flat(settings["kafka"]["options"]), **own}
        return BridgeProcess(settings, tmp_path)

    return create


def _flat(table: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in table.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return found


def send(haproxy: HAProxy, value: str) -> None:
    publish.single("login", value, qos=1, hostname=haproxy.host.address, port=DEVICES)


def arrives(kafka: KafkaCluster, value: str, bridge: BridgeProcess) -> None:
    wait_until(
        lambda: value.encode() in [record.value for record in records(kafka.bootstrap, "mqtt")],
        30.0,
        lambda: f"{value!r} is in Kafka{bridge.log_tail(30)}",
    )


def test_plain_with_the_password_in_a_file(
    new_bridge: Callable[..., BridgeProcess], haproxy: HAProxy, managed: KafkaCluster, tmp_path: Path
) -> None:
    file = tmp_path / "kafka-password"
    file.write_text("an old one\n")
    file.chmod(0o640)
    with new_bridge("PLAIN", {}, password_file=str(file)) as bridge:
        send(haproxy, "by PLAIN")
        bridge.wait_for("kafka.authentication_failed")
        file.write_text(f"{PASSWORD}\n")
        arrives(managed, "by PLAIN", bridge)


def test_oauthbearer_with_a_token_endpoint_also_after_the_first_token_has_expired(
    new_bridge: Callable[..., BridgeProcess], haproxy: HAProxy, managed: KafkaCluster, endpoint: str
) -> None:
    options = {
        "sasl.oauthbearer.token.endpoint.url": endpoint,
        "sasl.oauthbearer.client.secret": PASSWORD,
    }
    with new_bridge("OAUTHBEARER", options) as bridge:
        send(haproxy, "by OAUTHBEARER")
        arrives(managed, "by OAUTHBEARER", bridge)
        before = len(Endpoint.asked)
        wait_until(lambda: len(Endpoint.asked) > before, 5.0 * LIFETIME, "librdkafka asks for the next token")
        managed.node(1).kill9()  # so that the bridge must log in again
        managed.resurrect()
        send(haproxy, "with another token")
        arrives(managed, "with another token", bridge)
    assert {tuple(each["grant_type"]) for each in Endpoint.asked} == {("client_credentials",)}
    assert {tuple(each["scope"]) for each in Endpoint.asked} == {("kafka",)}
    shown = subprocess.run(
        [sys.executable, "-m", "bridge", "config", "--config", bridge.settings],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert PASSWORD not in shown.stdout + shown.stderr


def test_a_wrong_secret_is_logged_with_the_endpoint(
    new_bridge: Callable[..., BridgeProcess], haproxy: HAProxy, endpoint: str
) -> None:
    options = {"sasl.oauthbearer.token.endpoint.url": endpoint, "sasl.oauthbearer.client.secret": "wrong"}
    with new_bridge("OAUTHBEARER", options) as bridge:
        send(haproxy, "never")
        said = bridge.wait_for("kafka.authentication_failed")
    assert "sasl.oauthbearer.token.endpoint.url" in said["way_out"]
    assert "invalid_client" in said["reason"]
