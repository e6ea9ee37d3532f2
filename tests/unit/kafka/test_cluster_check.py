"""bridge check, on Kafka's side: brokers that advertise what nobody reaches, and the wrong listener."""

import contextlib
import dataclasses
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException

from bridge.commands.check import service
from bridge.commands.check.doctor import examine
from bridge.commands.check.outcome import Level, Site
from bridge.commands.check.table import CHECKS
from bridge.errors import BridgeError
from bridge.kafka import listeners
from bridge.kafka.cluster_check import ClusterCheck
from bridge.kafka.listeners import Listener, explain, explain_words, look
from bridge.settings import KafkaSettings, Settings
from tests.harness.conditions import wait_until
from tests.harness.mock_kafka import MockKafka
from tests.harness.tls import Authority


class Advertiser:
    """A Kafka that tells of one broker, at `advertised`, and knows no more than that: its own bootstrap.

    `keys`: the requests that it says it knows, with the highest version of each (Kafka protocol guide).
    """

    def __init__(self, advertised: tuple[str, int], keys: dict[int, int]) -> None:
        self._advertised = advertised
        self._keys = keys
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, struct.error):
            while head := sock.recv(4, socket.MSG_WAITALL):
                request = sock.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)
                key, version, number = struct.unpack_from(">hhi", request)
                if key == 18:
                    answer = self._api_versions(version)
                elif key == 3 and 3 in self._keys:
                    answer = self._metadata()
                else:
                    return
                sock.sendall(struct.pack(">ii", len(answer) + 4, number) + answer)

    def _api_versions(self, version: int) -> bytes:
        keys = b"".join(struct.pack(">hhh", key, 0, highest) for key, highest in self._keys.items())
        return struct.pack(">hi", 35 if version else 0, len(self._keys)) + keys  # 35: ask with version 0

    def _metadata(self) -> bytes:
        host, port = self._advertised
        broker = struct.pack(f">ih{len(host)}sih", 1, len(host), host.encode(), port, -1)
        return struct.pack(">i", 1) + broker + struct.pack(">ii", 1, 0)  # one broker; controller, no topics


BROKER_KEYS = {0: 7, 3: 1, 18: 0, 22: 1}


@pytest.fixture(scope="module")
def kafka() -> MockKafka:
    return MockKafka(3)


def check(bootstrap: str, **options: str) -> ClusterCheck:
    given = {name.replace("_", "."): value for name, value in options.items()}
    return ClusterCheck(KafkaSettings.model_validate({"bootstrap_servers": bootstrap, "options": given}))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.kafka.cluster_check._TIMEOUT", 3.0)
    monkeypatch.setattr(service, "read_status", lambda _site: None)


def test_each_broker_is_connected_to_at_the_address_that_it_advertises(kafka: MockKafka) -> None:
    with contextlib.closing(check(kafka.bootstrap.partition(",")[0])) as cluster:
        found = cluster.brokers()
        assert not cluster.why_no_producer_id()
    assert sorted(broker.address for broker in found) == sorted(kafka.bootstrap.split(","))
    assert not [broker for broker in found if broker.why_not]


@pytest.mark.parametrize(
    ("error", "reason", "way_out"),
    [
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, "authorization failed", "--operation IdempotentWrite"),
        (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "within 3 s", "start a majority"),
    ],
)
def test_a_kafka_that_gives_no_producer_id_is_a_failure_with_its_way_out(
    error: int, reason: str, way_out: str
) -> None:
    """Every broker lets the bridge in, and the service could still produce nothing."""
    kafka = MockKafka()
    kafka.refuse_producer_ids(error)
    site = Site(
        Settings.model_validate(
            {
                "mqtt": {"host": "127.0.0.1"},
                "kafka": {"bootstrap_servers": kafka.bootstrap},
                "routes": [{"name": "a", "filter": "a/#", "topic": "a"}],
            }
        ),
        "looks",
        Path("/nowhere/bridge.toml"),
    )
    (check,) = (each for each in CHECKS if each.id == "kafka.brokers")
    (result,) = examine(site, [dataclasses.replace(check, needs=())])
    came, refused = result.outcomes
    assert (came.level, came.found) == (Level.GOOD, f"1 broker: {kafka.bootstrap}")
    assert refused.level is Level.FAILED
    assert reason in refused.found
    assert way_out in refused.remedy


@pytest.mark.parametrize("advertised", [("kafka.invalid", 9092), ("127.47.0.1", 1)])
def test_an_address_that_nobody_reaches_is_named_with_the_setting_of_the_broker(
    advertised: tuple[str, int],
) -> None:
    with (
        contextlib.closing(Advertiser(advertised, BROKER_KEYS)) as kafka,
        contextlib.closing(check(f"127.0.0.1:{kafka.port}")) as cluster,
    ):
        (broker,) = cluster.brokers()
    assert broker.address == f"{advertised[0]}:{advertised[1]}"
    assert "advertised.listeners" in broker.why_not
    assert "resolve" in broker.why_not or "refused" in broker.why_not


def test_an_address_that_nobody_reaches_is_named_also_where_nobody_is_left_to_ask() -> None:
    """librdkafka may have left the bootstrap broker before the question is put: then the question fails."""

    class NobodyLeft:
        """The producer, once it knows the advertised address."""

        def __init__(self, cluster: ClusterCheck) -> None:
            self._cluster, self._producer = cluster, cluster._producer
            self.poll, self.close = self._producer.poll, self._producer.close

        def list_topics(self, timeout: float) -> None:
            wait_until(
                lambda: self._cluster._poll(0.1) and self._cluster._states, 20.0, "it knows the address"
            )
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    with (
        contextlib.closing(Advertiser(("kafka.invalid", 9092), BROKER_KEYS)) as kafka,
        contextlib.closing(check(f"127.0.0.1:{kafka.port}")) as cluster,
    ):
        cluster._producer = NobodyLeft(cluster)
        (broker,) = cluster.brokers()
    assert broker.address == "kafka.invalid:9092"
    assert "advertised.listeners" in broker.why_not


def test_an_mqtt_broker_is_said_to_be_one() -> None:
    with mqtt_port() as port:
        assert look("127.0.0.1", port) == Listener(False, None, is_mqtt=True)
        with (
            contextlib.closing(check(f"127.0.0.1:{port}")) as cluster,
            pytest.raises(BridgeError, match="it is the port of an MQTT broker"),
        ):
            cluster.brokers()


@contextlib.contextmanager
def mqtt_port() -> Iterator[int]:
    """An MQTT broker, as far as it answers CONNECT and hangs up on everything else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    with sock, contextlib.suppress(OSError):
                        if sock.recv(100).startswith(b"\x10\x0c\x00\x04MQTT\x04\x02"):
                            sock.sendall(b"\x20\x02\x00\x00")

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])


def test_tls_against_a_plain_listener_is_said_as_what_it_is(kafka: MockKafka) -> None:
    with (
        contextlib.closing(check(kafka.bootstrap, security_protocol="SSL")) as cluster,
        pytest.raises(BridgeError, match=r'set security\.protocol = "PLAINTEXT"'),
    ):
        cluster.brokers()


def test_a_controller_is_said_to_be_one() -> None:
    with (
        contextlib.closing(Advertiser(("x", 1), {18: 0, 52: 0})) as kafka,
        contextlib.closing(check(f"127.0.0.1:{kafka.port}")) as cluster,
        pytest.raises(BridgeError, match="port of a Kafka controller"),
    ):
        cluster.brokers()


def test_nobody_listens() -> None:
    with (
        contextlib.closing(check("127.47.0.1:1")) as cluster,
        pytest.raises(BridgeError, match=r"^127.47.0.1:1: .* \(do the brokers run"),
    ):
        cluster.brokers()


@pytest.mark.parametrize("bootstrap", ["refuses", "hangs up", "advertises what refuses"])
def test_brokers_that_have_refused_are_not_waited_for(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`bridge check` waited for 10 s, although each broker had refused in the first second."""
    monkeypatch.setattr("bridge.kafka.cluster_check._TIMEOUT", 600.0)
    began = time.monotonic()
    with (
        contextlib.closing(Advertiser(("127.47.0.1", 1), BROKER_KEYS)) as kafka,
        contextlib.closing(Advertiser(("x", 1), {})) as hangs_up,
    ):
        servers = {
            "refuses": "127.47.0.1:1,127.47.0.2:1",
            "hangs up": f"127.47.0.1:1,127.0.0.1:{hangs_up.port}",
            "advertises what refuses": f"127.0.0.1:{kafka.port}",
        }
        hangs_up._api_versions = lambda _: (_ for _ in ()).throw(OSError)  # type: ignore[method-assign]
        with contextlib.closing(check(servers[bootstrap])) as cluster:
            try:
                said = " ".join(f"{broker.address}: {broker.why_not}" for broker in cluster.brokers())
            except BridgeError as error:
                said = str(error)
    assert "127.47.0.1:1: Connection refused" in said
    assert time.monotonic() - began < 100


def test_nothing_of_librdkafkas_is_printed(kafka: MockKafka, capfd: pytest.CaptureFixture[str]) -> None:
    test_nobody_listens()
    assert capfd.readouterr() == ("", "")


# -- what answers at an address ----------------------------------------------------------------------------


def test_a_plain_listener_is_seen(kafka: MockKafka) -> None:
    assert look(*listeners.host_and_port(kafka.bootstrap.partition(",")[0])) == Listener(False, False)


def test_a_listener_that_hangs_up_without_a_login_wants_sasl() -> None:
    with contextlib.closing(Advertiser(("x", 1), BROKER_KEYS)) as kafka:
        kafka._metadata = lambda: (_ for _ in ()).throw(OSError)  # type: ignore[method-assign]
        assert look("127.0.0.1", kafka.port) == Listener(tls=False, sasl=True)


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """Something that speaks TLS, and nothing of Kafka's."""
    signed = Authority(tmp_path).sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed.certificate, signed.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as peer:
                        peer.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])


def test_a_listener_with_tls_is_seen(tls_port: int) -> None:
    assert look("127.0.0.1", tls_port) == Listener(tls=True, sasl=None)


def test_where_nobody_listens_there_is_nothing_to_say() -> None:
    assert look("127.47.0.1", 1) is None


@pytest.mark.parametrize(
    ("found", "protocol", "right"),
    [
        (Listener(False, False), None, None),
        (Listener(False, False), "SSL", "PLAINTEXT"),
        (Listener(False, False), "SASL_PLAINTEXT", "PLAINTEXT"),
        (Listener(False, True), "plaintext", "SASL_PLAINTEXT"),
        (Listener(True, None), "PLAINTEXT", "SSL"),
        (Listener(True, None), "SASL_PLAINTEXT", "SASL_SSL"),
        (Listener(True, True), "ssl", "SASL_SSL"),
        (Listener(True, False), "SASL_SSL", "SSL"),
        (Listener(True, True), "SASL_SSL", None),
    ],
)
def test_the_right_protocol_is_named(found: Listener, protocol: str | None, right: str | None) -> None:
    said = explain("k:9092", found, {"security.protocol": protocol} if protocol else {})
    assert bool(said) == bool(right)
    if right:
        assert f'set security.protocol = "{right}"' in said


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (
            "ssl://k:9092/bootstrap: SSL handshake failed: Disconnected: SSL connection closed by peer:"
            " connecting to a PLAINTEXT broker listener? (after 9ms in state SSL_HANDSHAKE)",
            "does not speak TLS",
        ),
        (
            "sasl_plaintext://k:9092/bootstrap: SASL SCRAM-SHA-512 mechanism handshake failed: Broker:"
            " Request not valid in current SASL state: broker's supported mechanisms:  (after 2ms)",
            "does not use SASL",
        ),
        (
            "Idempotent producer not supported by any of the 1 connected broker(s): requires Apache Kafka"
            " broker version >= 0.11.0",
            "controller",
        ),
        (
            "Failed to acquire SASL OAUTHBEARER token: Failed to connect to 127.0.0.1:1 after 0 ms",
            "sasl.oauthbearer.token.endpoint.url",
        ),
        ("sasl_ssl://k:9094/1: SASL authentication error: invalid credentials", ""),
    ],
)
def test_librdkafkas_words_are_understood(words: str, meaning: str) -> None:
    assert meaning in explain_words(words)
    assert bool(explain_words(words)) == bool(meaning)
