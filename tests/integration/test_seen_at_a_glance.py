"""Each fault is named, with its host and what to do, wherever a person may look: within 30 seconds.

The page (its text alone, in a real Chromium), `bridge top --once`, `bridge check` and an alert of Debian's
Prometheus. The parts are real: HAProxy with the shipped file, mosquitto behind two doors for EMQ, three Kafka
brokers. Only EMQX's API is scripted.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic
from playwright.sync_api import Browser

from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers
from tests.harness.browser import Screen, chromium, screen
from tests.harness.conditions import wait_until
from tests.harness.disk import Disk
from tests.harness.emqx_api import KEY, EmqxApi
from tests.harness.haproxy import CONSOLE, DEVICES, SUBSCRIBER, HAProxy
from tests.harness.host import Network
from tests.harness.kafka import SASL_SSL, KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.process import Process
from tests.harness.prometheus import Prometheus
from tests.harness.tls import Authority, TlsDoor
from tests.unit.neighbours.test_emqx_session import FIVE

SOON = 30.0  # seconds
CLIENT = "mqtt-kafka-bridge"


@dataclass
class Named:
    """Words that a person must read on each surface. `alert` is the alert's name without its prefix.

    `alert_host`: where labels must not have the words of `host`, such as a client id or a topic.
    """

    host: str
    remedy: str
    alert: str
    alert_host: str = ""


class Watched:
    """A bridge, and everywhere a person may look at it."""

    def __init__(self, bridge: BridgeProcess, page: Screen, prometheus: Prometheus) -> None:
        self.bridge = bridge
        self._page = page
        self._prometheus = prometheus

    def is_well(self) -> None:
        wait_until(
            lambda: self._page.sentence.startswith("All is well"),
            60,
            lambda: f"healthy: {self._page.sentence}",
        )

    def says(self, *words: str, within: float) -> None:
        """Wait until page, `top` and `check` have these words. Raises NotInTime with what they show."""
        began = time.monotonic()
        for name, look in {
            "the page": lambda: self._page.text,
            "bridge top --once": lambda: self._said(self._run("top", "--once")),
            "bridge check": self.check,
        }.items():
            self._wait(name, look, words, began + within)

    def names(self, expected: Named) -> None:
        """Wait until each surface has these words. Raises NotInTime with what it shows instead."""
        began = time.monotonic()
        for name, look in {
            "the page": lambda: self._page.text,
            "bridge top --once": lambda: self._said(self._run("top", "--once")),
            "the alert": lambda: self._prometheus.api.firing().get(f"MqttKafkaBridge{expected.alert}", ""),
        }.items():
            host = expected.alert_host if name == "the alert" else ""
            self._wait(name, look, (host or expected.host, expected.remedy), began + SOON)
        said = self.check()
        for word in (expected.host, expected.remedy):
            assert word in said, f"bridge check does not say {word!r}: {said}"

    def check(self) -> str:
        return self._said(self._run("check"))

    def _wait(self, name: str, look: Callable[[], str], words: tuple[str, ...], end: float) -> None:
        shown = ""

        def has_words() -> bool:
            nonlocal shown
            shown = " ".join(look().split())
            return all(word in shown for word in words)

        wait_until(has_words, max(0.1, end - time.monotonic()), lambda: f"{name} says {words}: {shown}")

    def _run(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "bridge", *arguments, "--config", self.bridge.settings],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=os.environ | {"COLUMNS": "400"},
        )

    def _said(self, program: "subprocess.Popen[str]") -> str:
        said, _ = program.communicate(timeout=60)
        return " ".join(said.split())


def publish(haproxy: HAProxy, topic: str) -> None:
    """Publish one message at QoS 1, as a device."""
    at = ["-h", haproxy.host.address, "-p", str(DEVICES)]
    subprocess.run(["mosquitto_pub", *at, "-q", "1", "-t", topic, "-m", "1"], check=True, timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    program = Prometheus(network.observer, directory, _page(network), interval="1s")
    program.start()
    yield program
    program.terminate()


def _page(network: Network) -> str:
    return f"{network.bridge.address}:9464"


@pytest.fixture
def watched(
    network: Network,
    emq: Brokers,
    haproxy: HAProxy,
    kafka: KafkaCluster,
    new_topic: Callable[..., str],
    browser: Browser,
    prometheus: Prometheus,
    tmp_path: Path,
) -> Callable[..., Any]:
    """watched(mqtt={...}, kafka={...}, ...) is a context manager: a bridge that runs, and is looked at."""

    @contextlib.contextmanager
    def run(**tables: Any) -> Iterator[Watched]:
        mqtt = {"host": haproxy.host.address, "port": SUBSCRIBER, "client_id": CLIENT} | tables.pop(
            "mqtt", {}
        )
        routes = [{"name": "all", "filter": "house/#", "topic": new_topic()}]
        settings: dict[str, Any] = {
            "mqtt": mqtt,
            "kafka": {"bootstrap_servers": kafka.bootstrap} | tables.pop("kafka", {}),
            "routes": routes + tables.pop("routes", []),
            "haproxy": {"stats": f"http://{haproxy.host.address}:{CONSOLE}/metrics?scope=server"},
            "http": {"listen": _page(network)},
            **tables,
        }
        bridge = BridgeProcess(settings, tmp_path)
        bridge.start()
        try:
            bridge.wait_for("http.listening")
            with screen(browser, f"http://{_page(network)}/") as page:
                yield Watched(bridge, page, prometheus)
        finally:
            bridge.kill9()

    return run


def test_an_emq_node_is_killed(watched: Callable[..., Any], emq: Brokers) -> None:
    with watched() as seen:
        seen.is_well()
        with emq.node(1).dead():
            seen.names(Named("server1", "systemctl restart emqx", "EmqNodeDown"))
        seen.is_well()


def test_an_emq_node_hangs(watched: Callable[..., Any], emq: Brokers) -> None:
    with watched() as seen:
        seen.is_well()
        with emq.node(2).hung():
            seen.names(Named("server2", "systemctl restart emqx", "EmqNodeDown"))


def test_both_emq_nodes_are_gone(watched: Callable[..., Any], emq: Brokers) -> None:
    with watched() as seen:
        seen.is_well()
        with emq.node(1).dead(), emq.node(2).dead():
            seen.names(Named("server2", "systemctl restart emqx", "NotReceiving"))


def test_haproxy_is_killed(watched: Callable[..., Any], haproxy: HAProxy) -> None:
    with watched() as seen:
        seen.is_well()
        with haproxy.dead():
            seen.names(Named(f"{haproxy.host.address}:1884", "systemctl restart haproxy", "NotReceiving"))
        seen.is_well()


def test_haproxy_hangs(watched: Callable[..., Any], haproxy: HAProxy) -> None:
    """The kernel accepts connections for it, as for an EMQ that hangs."""
    tcp = {"keepalive_idle": "2s", "keepalive_interval": "1s", "keepalive_count": 2}
    with watched(mqtt={"keepalive": "7s", "tcp": tcp}) as seen:
        seen.is_well()
        with haproxy.hung():
            seen.says(
                f"HAProxy at {haproxy.host.address}:1884 hangs",
                f"On the host {haproxy.host.address} restart HAProxy: sudo systemctl restart haproxy",
                within=60.0,
            )
            said = seen.check()
            assert "answers nothing, and HAProxy's statistics do neither" in said
            assert "an EMQ node hang" not in said
        seen.is_well()


def test_a_kafka_broker_is_killed(watched: Callable[..., Any], kafka: KafkaCluster) -> None:
    with watched() as seen:
        seen.is_well()
        with kafka.node(1).dead():
            address = kafka.node(1).host.address
            seen.names(Named(f"{address}:9092", "systemctl restart kafka", "KafkaBrokerDown"))


def test_all_of_kafka_is_gone(watched: Callable[..., Any], kafka: KafkaCluster, haproxy: HAProxy) -> None:
    with watched() as seen:
        seen.is_well()
        with kafka.all_dead():
            publish(haproxy, "house/a")
            address = kafka.node(1).host.address
            seen.names(Named(f"{address}:9092", "systemctl restart kafka", "DeliveryLate"))
        seen.is_well()


def test_two_of_three_kafka_brokers_are_gone(
    watched: Callable[..., Any], kafka: KafkaCluster, haproxy: HAProxy
) -> None:
    """Without a majority of the controllers Kafka elects no leader, and says nothing of that."""
    with watched() as seen:
        seen.is_well()
        publish(haproxy, "house/a")
        with kafka.node(2).dead(), kafka.node(3).dead():
            publish(haproxy, "house/a")
            hosts = [kafka.node(number).host.address for number in (2, 3)]
            seen.says(
                "Kafka can't write to",
                *[f"Kafka broker {n} at {h}:9092" for n, h in zip((2, 3), hosts, strict=True)],
                f"Start Kafka on {hosts[0]} and {hosts[1]}",
                within=120.0,
            )
        seen.is_well()


def test_a_partition_whose_only_replica_is_gone_has_no_leader(
    watched: Callable[..., Any], kafka: KafkaCluster, haproxy: HAProxy
) -> None:
    kafka.admin.create_topics([NewTopic("spread", 3, 1)])["spread"].result(timeout=15.0)
    with watched(routes=[{"name": "more", "filter": "more/#", "topic": "spread"}]) as seen:
        seen.is_well()
        publish(haproxy, "more/a")
        with kafka.node(2).dead():
            address = kafka.node(2).host.address
            seen.says(
                "Kafka can't write to spread: 1 of 3 partitions has no leader",
                f"waits for Kafka broker 2 at {address}:9092",
                f"Start Kafka on {address}",
                within=60.0,
            )
            assert "1 of 3 partitions without a leader, which wait for broker 2" in seen.check()
        seen.is_well()


def test_emq_refuses_the_password(watched: Callable[..., Any], network: Network, tmp_path: Path) -> None:
    host, users, password = network.host("locked", 60), tmp_path / "users", tmp_path / "wrong"
    subprocess.run(["mosquitto_passwd", "-b", "-c", users, "bridge", "right"], check=True)
    password.write_text("wrong")
    conf = tmp_path / "locked.conf"
    conf.write_text(
        f"listener 1883 {host.address}\nallow_anonymous false\npassword_file {users}\nuser root\n"
    )
    broker = Process(
        "mosquitto", ["mosquitto", "-c", conf], log=tmp_path / "locked.log", ready=lambda: host.listens(1883)
    )
    broker.start()
    try:
        mqtt = {"host": host.address, "port": 1883, "username": "bridge", "password_file": str(password)}
        with watched(mqtt=mqtt) as seen:
            seen.names(Named(f"{host.address}:1883", "mqtt.password_file", "NotReceiving"))
    finally:
        broker.terminate()


def test_kafka_refuses_the_password(
    watched: Callable[..., Any], kafka: KafkaCluster, certificates: Path, haproxy: HAProxy, tmp_path: Path
) -> None:
    password = tmp_path / "wrong"
    password.write_text("wrong")
    to = {
        "bootstrap_servers": kafka.bootstrap_at(SASL_SSL),
        "password_file": str(password),
        "options": {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "bridge",
            "ssl.ca.location": str(certificates / "bridge" / "ca.crt"),
        },
    }
    with watched(kafka=to) as seen:
        publish(haproxy, "house/a")
        seen.names(Named(kafka.node(1).host.address, "kafka.password_file", "DeliveryLate"))


def test_a_kafka_topic_is_missing(watched: Callable[..., Any], haproxy: HAProxy, network: Network) -> None:
    routes = [{"name": "more", "filter": "more/#", "topic": "nobody.made.it"}]
    with watched(routes=routes) as seen:
        publish(haproxy, "more/a")
        seen.names(Named("nobody.made.it", "topics --create", "TopicHeld", _page(network)))


def test_the_disk_is_full(
    watched: Callable[..., Any], kafka: KafkaCluster, haproxy: HAProxy, network: Network, tmp_path: Path
) -> None:
    with Disk(tmp_path) as disk, watched(spool={"directory": str(disk.path), "keep_free": "1MB"}) as seen:
        seen.is_well()
        with kafka.all_hung(), disk.filled():
            publish(haproxy, "house/a")
            seen.names(Named(str(disk.path), "Make room", "SpoolFull", _page(network)))
        seen.bridge.kill9()  # before the disk goes


def test_a_second_bridge_uses_the_client_id(watched: Callable[..., Any], tmp_path: Path) -> None:
    with watched() as seen:
        seen.is_well()
        settings = seen.bridge.settings.read_text()
        second = tmp_path / "second"
        second.mkdir()
        (second / "bridge.toml").write_text(
            settings.replace("bridge.state", "second.state").replace("9464", "9465")
        )
        (tmp_path / "second.state").mkdir()
        twin = Process(
            "second",
            [sys.executable, "-m", "bridge", "--config", second / "bridge.toml"],
            log=second / "log",
            cwd=ROOT,
            ready=lambda: True,
        )
        twin.start()
        try:
            seen.names(Named(f'"{CLIENT}"', "mqtt.client_id", "ReconnectStorm", "a second bridge"))
        finally:
            twin.kill9()


def test_emqs_queue_for_the_session_fills(watched: Callable[..., Any], tmp_path: Path) -> None:
    key, path = tmp_path / "key", f"/api/v5/clients/{CLIENT}"
    key.write_text(KEY)
    api = EmqxApi({path: (200, FIVE | {"clientid": CLIENT, "mqueue_len": 0, "mqueue_dropped": 0})})
    with api.serving(), watched(emqx={"api": api.url, "key_file": str(key)}) as seen:
        seen.is_well()
        api.script[path] = 200, FIVE | {"clientid": CLIENT, "mqueue_len": 900, "mqueue_dropped": 0}
        seen.names(Named("900", "max_mqueue_len", "BrokerQueueFills"))


def test_a_certificate_expires(watched: Callable[..., Any], emq: Brokers, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    signed = authority.sign("localhost", address="127.0.0.1")  # for two days
    address, _, port = emq.addresses[0].partition(":")
    door = TlsDoor((address, int(port)), signed, tmp_path)
    door.start()
    try:
        tls = {"enabled": True, "ca_file": str(authority.certificate)}
        with watched(mqtt={"host": door.address, "port": door.port, "tls": tls}) as seen:
            seen.names(Named(f"{door.address}:{door.port}", "Renew", "CertificateExpiresSoon"))
    finally:
        door.terminate()
