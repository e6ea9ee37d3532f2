"""TLS that fails, with a real HAProxy at the other end: a sentence for each reason, and how to repair it.

Refusals by real Kafka brokers are in test_kafka_tls.py.
"""

import shutil
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.commands.check.doctor import check
from bridge.commands.check.outcome import Site as Examined
from bridge.errors import BridgeError
from bridge.kafka import broker_watch
from bridge.kafka import cluster as cluster_module
from bridge.kafka import cluster_check as look_module
from bridge.kafka import tls as tls_with_kafka
from bridge.kafka.cluster import Cluster
from bridge.loop import Loop
from bridge.mqtt.connector import connect, tls_names
from bridge.settings import KafkaSettings, MqttSettings, Settings
from bridge.tls.failures import TlsFailed, explain
from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import TwoDoors
from tests.harness.conditions import wait_until
from tests.harness.host import Network
from tests.harness.relay import RecordingRelay
from tests.harness.tls import Authority, Certificate, TlsDoor

NOBODY = ("127.0.0.1", 1)  # behind the door: these connections end at the door


class Site:
    """A broker's certificate for 127.0.0.1 and "emq", and a bridge's, by one authority."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.stranger = Authority(directory / "stranger")
        self.broker = self.authority.sign("emq", address="127.0.0.1")
        self.own = self.authority.sign("bridge")
        self.strangers = self.stranger.sign("bridge")
        self.expired = self.authority.sign("expired", address="127.0.0.1", days=-1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("certificates"))


NewDoor = Callable[..., TlsDoor]


@pytest.fixture
def new_door(tmp_path: Path) -> Iterator[NewDoor]:
    """new_door(certificate, clients_of=authority): a door that listens."""
    made: list[TlsDoor] = []

    def create(certificate: Certificate, clients_of: Authority | None = None) -> TlsDoor:
        made.append(TlsDoor(NOBODY, certificate, tmp_path, clients_of=clients_of))
        made[-1].start()
        return made[-1]

    yield create
    for door in made:
        door.terminate()


def tls(site: Site, **files: Path | str | None) -> dict[str, object]:
    """Working [mqtt.tls] settings, overridden by `files`."""
    given = {"enabled": True, "ca_file": site.authority.certificate, **files}
    return {name: value for name, value in given.items() if value is not None}


def settings_of(port: int, tls: dict[str, object]) -> MqttSettings:
    return MqttSettings.model_validate({"host": "127.0.0.1", "port": port, "tls": tls})


def failure(port: int, tls: dict[str, object]) -> TlsFailed:
    """The TLS failure that the session would see: in the handshake, or instead of CONNACK."""
    settings = settings_of(port, tls)
    try:
        with connect(settings) as sock:
            sock.settimeout(10)
            sock.recv(1)
    except OSError as error:
        explained = explain(error, tls_names(settings))
        assert isinstance(explained, TlsFailed), explained
        return explained
    pytest.fail("it was accepted")


Case = Callable[[Site], tuple[Certificate | None, Authority | None, dict[str, object]]]
"""The door's certificate, the clients it accepts, and the bridge's settings: site -> (...)"""

CASES: dict[str, tuple[Case, str, str]] = {
    "an authority that the system does not know": (
        lambda site: (site.broker, None, tls(site, ca_file=None)),
        "is signed by an authority that is not in mqtt.tls.ca_file",
        "name the file of the authority that signed it in mqtt.tls.ca_file",
    ),
    "another authority than the one that is trusted": (
        lambda site: (site.broker, None, tls(site, ca_file=site.stranger.certificate)),
        "is signed by an authority that is not in mqtt.tls.ca_file",
        "name the file of the authority",
    ),
    "another name": (
        lambda site: (site.broker, None, tls(site, server_name="emq2")),
        "certificate is not valid for 'emq2'",
        "set mqtt.tls.server_name to a name in the certificate",
    ),
    "an address that it does not bear": (
        lambda site: (site.own, None, tls(site)),
        "certificate is not valid for '127.0.0.1'",
        "set mqtt.tls.server_name",
    ),
    "expired": (
        lambda site: (site.expired, None, tls(site)),
        "has expired",
        "renew it at 127.0.0.1:",
    ),
    "the broker wants a certificate": (
        lambda site: (site.broker, site.authority, tls(site)),
        "wants a certificate, and got none",
        "mqtt.tls.cert_file",
    ),
    "the broker does not know who signed ours": (
        lambda site: (site.broker, site.authority, tls(site, cert_file=site.strangers.pem)),
        "does not know the authority that signed mqtt.tls.cert_file",
        "name a certificate that the peer's authority signed",
    ),
    "ours has expired": (
        lambda site: (site.broker, site.authority, tls(site, cert_file=site.expired.pem)),
        "says that mqtt.tls.cert_file has expired",
        "renew it",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_handshake_that_fails_says_why_and_names_the_way_out(
    case: str, site: Site, new_door: NewDoor
) -> None:
    arrange, reason, way_out = CASES[case]
    shown, clients_of, settings = arrange(site)
    failed = failure(new_door(shown, clients_of=clients_of).port, settings)
    assert reason in failed.reason
    assert way_out in failed.way_out


def test_what_works_when_all_is_right(site: Site, new_door: NewDoor) -> None:
    """Otherwise the tests above could pass for any reason."""
    port = new_door(site.broker, clients_of=site.authority).port
    with connect(settings_of(port, tls(site, cert_file=site.own.pem))) as sock:
        assert isinstance(sock, ssl.SSLSocket)
        sock.settimeout(10)
        assert sock.recv(1) == b""  # there is no broker behind the door, so HAProxy closes


def test_a_port_that_speaks_no_tls(site: Site, network: Network, tmp_path: Path) -> None:
    with TwoDoors(network, tmp_path) as brokers:
        host, port = brokers.addresses[0].split(":")
        settings = MqttSettings.model_validate({"host": host, "port": int(port), "tls": tls(site)})
        with pytest.raises(OSError, match="the port speaks no TLS"):
            connect(settings)


@pytest.mark.parametrize("error", [ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError])
def test_however_it_closes(
    site: Site, new_door: NewDoor, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """Timing decides which of these ends a connection has."""

    def closed(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", closed)
    with pytest.raises(OSError, match="the port speaks no TLS"):
        connect(settings_of(new_door(site.broker).port, tls(site)))


def test_refused_it_is_tried_again_slowly_and_a_file_that_was_replaced_is_used_without_a_restart(
    site: Site, new_door: NewDoor, tmp_path: Path
) -> None:
    own = tmp_path / "bridge.pem"
    shutil.copy(site.strangers.pem, own)
    door = new_door(site.broker, clients_of=site.authority)
    bridge = BridgeProcess(
        {
            "mqtt": {
                "host": door.address,
                "port": door.port,
                "tls": tls(site, cert_file=own),
                "reconnect": {"refused_delay": "2s"},
            },
            "kafka": {"bootstrap_servers": "127.0.0.1:1"},
            "routes": [{"name": "all", "filter": "#", "topic": "all"}],
            "log": {"level": "debug"},
        },
        tmp_path,
    )
    bridge.start()
    try:
        said = bridge.wait_for("mqtt.tls_failed")
        assert said["level"] == "error"
        assert bridge.wait_for("mqtt.backing_off")["seconds"] >= 1  # half of refused_delay at least
        shutil.copy(site.own.pem, own)
        # TLS works now: HAProxy closes, because there is no broker behind the door.
        bridge.wait_for("mqtt.unavailable")
        assert len(bridge.entries("mqtt.tls_failed")) == 1
    finally:
        bridge.terminate()


# -- Kafka: what librdkafka does not report ------------------------------------------------------------


def kafka(site: Site, **options: str) -> dict[str, str]:
    """Working [kafka.options], overridden by `options`."""
    return {
        "security.protocol": "SSL",
        "ssl.ca.location": str(site.authority.certificate),
        **{name.replace("_", "."): value for name, value in options.items()},
    }


@pytest.mark.parametrize(
    ("shown", "reason", "way_out"),
    [
        ("expired", "has expired", "renew it at 127.0.0.1:"),
        ("own", "is not valid for '127.0.0.1'", "the broker's advertised.listeners"),
    ],
    ids=["expired", "another name"],
)
def test_what_is_wrong_with_a_kafka_brokers_certificate(
    shown: str, reason: str, way_out: str, site: Site, new_door: NewDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = new_door(getattr(site, shown))
    with capture_logs() as logged:
        error = f"ssl://127.0.0.1:{door.port}/bootstrap: SSL handshake failed: certificate verify failed"
        settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{door.port}", options=kafka(site))
        tls_with_kafka.report(settings, error)
    (said,) = logged
    assert said["event"] == "kafka.tls_failed"
    assert reason in said["reason"]
    assert way_out in said["way_out"]


def test_a_file_that_librdkafka_would_refuse_is_named(site: Site) -> None:
    options = kafka(
        site, ssl_certificate_location=str(site.own.certificate), ssl_key_location=str(site.broker.key)
    )
    with pytest.raises(BridgeError, match=r"bridge\.crt: the key in .*emq\.key is not that of the certif"):
        tls_with_kafka.require_usable(KafkaSettings(bootstrap_servers="127.0.0.1:1", options=options))


def test_a_producer_that_no_broker_lets_in_rests(
    site: Site, new_door: NewDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the bridge's pause librdkafka would retry up to 20 times a second."""
    monkeypatch.setattr(cluster_module, "_REST", 5.0)
    monkeypatch.setattr(tls_with_kafka, "watch_expiry", lambda _: None)  # the expiry check would connect too,
    monkeypatch.setattr(broker_watch, "EVERY", 1000.0)  # and the watch of the brokers, after its first round
    loop = Loop()
    with RecordingRelay(("127.0.0.1", new_door(site.expired).port)) as counter:
        settings = KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{counter.port}", options={**kafka(site), "log_level": 0}
        )
        cluster = Cluster(settings, loop)

        def turn(condition: Callable[[], object], what: str) -> None:
            def holds() -> object:
                loop.wait(0)
                cluster.poll()
                return condition()

            wait_until(holds, 20, what)

        turn(lambda: cluster._rests, "the producer rests")
        cluster.look_up("topic")
        assert "SSL handshake failed" in cluster.answers[0].reason
        # A producer is closed once its question for metadata is over, which takes up to 4 s.
        turn(lambda: not _threads("reports", "brokers", "tls"), "what was under way is over")
        attempts = counter.connections
        turn(lambda: cluster.is_broken, "it has rested")
        assert counter.connections == attempts
        cluster.rebuild()
        turn(lambda: counter.connections > attempts, "another attempt")
        cluster.close()
    wait_until(lambda: not _threads("reports", "purge", "tls"), 30, "its threads to end")
    loop.close()


def _threads(*names: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in names]


def test_bridge_check_says_the_same(site: Site, new_door: NewDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_module, "_TIMEOUT", 2.0)
    emq, broker = new_door(site.broker, clients_of=site.authority), new_door(site.expired)
    settings = Settings.model_validate(
        {
            "mqtt": {"host": emq.address, "port": emq.port, "tls": tls(site)},
            "kafka": {"bootstrap_servers": f"127.0.0.1:{broker.port}", "options": kafka(site)},
            "routes": [{"name": "all", "filter": "#", "topic": "all"}],
        }
    )
    said: list[str] = []
    assert check(Examined(settings, "looks", Path("/nowhere")), said.append) == 1
    failed = [f"{line} {said[at + 1]}" for at, line in enumerate(said) if line.startswith("  FAILED")]
    by_id = {line.split()[1]: line for line in failed}
    assert by_id.keys() == {"mqtt.connack", "kafka.brokers"}
    assert f"{emq.address}:{emq.port} wants a certificate, and got none" in by_id["mqtt.connack"]
    assert "-> name a certificate" in by_id["mqtt.connack"]
    assert f"127.0.0.1:{broker.port} has expired" in by_id["kafka.brokers"]
