"""TLS to the broker that fails, in front of a real HAProxy: a sentence for each reason, and the way out."""

import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.mqtt.connector import connect, tls_names
from bridge.settings import MqttSettings
from bridge.tls.failures import TlsFailed, explain
from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import TwoDoors
from tests.harness.host import Network
from tests.harness.tls import Authority, Certificate, TlsDoor

NOBODY = ("127.0.0.1", 1)  # behind the door: what is tried here ends before


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
    """[mqtt.tls] that works, but for `files`."""
    given = {"enabled": True, "ca_file": site.authority.certificate, **files}
    return {name: value for name, value in given.items() if value is not None}


def settings_of(port: int, tls: dict[str, object]) -> MqttSettings:
    return MqttSettings.model_validate({"host": "127.0.0.1", "port": port, "tls": tls})


def failure(port: int, tls: dict[str, object]) -> TlsFailed:
    """Why there is no TLS, as the session would see it: from the handshake, or in the place of CONNACK."""
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
"""What the door shows, whose clients it takes, and what the bridge is told: site -> (...)"""

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
        "set mqtt.tls.server_name to a name that it bears",
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
        "name a certificate that its authority signed",
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
    """Or the tests above would pass for any reason."""
    port = new_door(site.broker, clients_of=site.authority).port
    with connect(settings_of(port, tls(site, cert_file=site.own.pem))) as sock:
        assert isinstance(sock, ssl.SSLSocket)
        sock.settimeout(10)
        assert sock.recv(1) == b""  # nobody is behind the door, so it closes


def test_a_port_that_speaks_no_tls(site: Site, network: Network, tmp_path: Path) -> None:
    with TwoDoors(network, tmp_path) as brokers:
        host, port = brokers.addresses[0].split(":")
        settings = MqttSettings.model_validate({"host": host, "port": int(port), "tls": tls(site)})
        with pytest.raises(OSError, match="the port speaks no TLS"):
            connect(settings)


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
        # Through TLS now: HAProxy closes, as nobody is behind the door.
        bridge.wait_for("mqtt.unavailable")
        assert len(bridge.entries("mqtt.tls_failed")) == 1
    finally:
        bridge.terminate()
