"""MQTT over TLS through the shipped haproxy.cfg, with certificates of deploy/make-certificates.

HAProxy terminates TLS (TLS_CERT), so that EMQ needs no TLS; or HAProxy passes the encrypted bytes on
(TLS_PASS) to an EMQ that demands a certificate of every client.
"""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import TwoDoors
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, DEVICES_TLS, SUBSCRIBER_TLS, HAProxy
from tests.harness.host import Network
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records

OWN = (("cert", "crt"), ("key", "key"))


def site(mode: str, certificates: Path) -> dict[str, str]:
    """The content of /etc/default/haproxy."""
    authority = str(certificates / "ca.crt")
    ended = {"TLS_CERT": str(certificates / "haproxy" / "haproxy.pem")}
    return {
        "ended at HAProxy": ended,
        "ended at HAProxy, mutual": ended | {"TLS_BRIDGE_CA": authority, "TLS_DEVICE_CA": authority},
        "passed on to EMQ, mutual": {"TLS_PASS": "1"},
    }[mode]


@pytest.fixture(params=["ended at HAProxy", "ended at HAProxy, mutual", "passed on to EMQ, mutual"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def emq(network: Network, certificates: Path, tmp_path: Path) -> Iterator[TwoDoors]:
    with TwoDoors(network, tmp_path, certificates=certificates / "emq1") as brokers:
        yield brokers


@pytest.fixture
def haproxy(
    mode: str, network: Network, emq: TwoDoors, certificates: Path, tmp_path: Path
) -> Iterator[HAProxy]:
    with HAProxy(network.haproxy, tmp_path, emq.addresses, site=site(mode, certificates)) as balancer:
        yield balancer


def publish(haproxy: HAProxy, port: int, payload: str, *tls: str | Path) -> int:
    """Publish like a device, at QoS 1. Returns mosquitto_pub's exit code."""
    command = ["mosquitto_pub", "-h", haproxy.host.address, "-p", str(port), "-q", "1", "-t", "t"]
    return subprocess.run([*command, *tls, "-m", payload], capture_output=True, timeout=20).returncode


def trust(certificates: Path) -> list[str | Path]:
    return ["--cafile", certificates / "ca.crt"]


def own(certificates: Path) -> list[str | Path]:
    return ["--cert", certificates / "sensor/sensor.crt", "--key", certificates / "sensor/sensor.key"]


def test_messages_through_tls(
    mode: str,
    haproxy: HAProxy,
    certificates: Path,
    kafka: KafkaCluster,
    new_topic: Callable[..., str],
    new_bridge: Callable[..., BridgeProcess],
) -> None:
    """From devices with and without TLS. A device without trust in HAProxy, or without its trust, fails."""
    topic = new_topic(partitions=1)
    mutual = "mutual" in mode
    tls = {"enabled": True, "ca_file": str(certificates / "ca.crt")}
    if mutual:
        tls |= {f"{kind}_file": str(certificates / f"bridge/bridge.{end}") for kind, end in OWN}
    tls_of_device = [*trust(certificates), *(own(certificates) if mutual else [])]

    def values() -> list[bytes]:
        return [record.value for record in records(kafka.bootstrap, topic)]

    with new_bridge(
        routes=[{"name": "all", "filter": "t", "topic": topic}], mqtt={"port": SUBSCRIBER_TLS, "tls": tls}
    ):
        assert publish(haproxy, DEVICES_TLS, "with TLS", *tls_of_device) == 0
        assert publish(haproxy, DEVICES, "without") == 0
        if mutual:
            assert publish(haproxy, DEVICES_TLS, "without a certificate", *trust(certificates)) != 0
        assert publish(haproxy, DEVICES_TLS, "without trust") != 0
        wait_until(lambda: len(values()) >= 2, 20.0, lambda: f"both are in Kafka: {values()}")
    assert values() == [b"with TLS", b"without"]


@pytest.mark.parametrize("mode", ["passed on to EMQ, mutual"])
def test_a_node_that_is_dead_gets_no_tls(emq: TwoDoors, haproxy: HAProxy, certificates: Path) -> None:
    """TLS that HAProxy only passes on relies on the plain port's checks."""
    emq.node(1).kill9()
    haproxy.wait_state(1, "DOWN")
    for _ in range(3):
        assert publish(haproxy, DEVICES_TLS, "x", *trust(certificates), *own(certificates)) == 0


@pytest.mark.parametrize("mode", ["ended at HAProxy, mutual"])
def test_a_bridge_that_shows_no_certificate_is_told_so(
    haproxy: HAProxy, certificates: Path, new_bridge: Callable[..., BridgeProcess]
) -> None:
    tls = {"enabled": True, "ca_file": str(certificates / "ca.crt")}
    bridge = new_bridge(
        routes=[{"name": "all", "filter": "t", "topic": "t"}], mqtt={"port": SUBSCRIBER_TLS, "tls": tls}
    )
    bridge.start()
    said = bridge.wait_for("mqtt.tls_failed")
    assert said["reason"] == f"{haproxy.host.address}:{SUBSCRIBER_TLS} wants a certificate, and got none"
    bridge.terminate()
