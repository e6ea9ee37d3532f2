"""install.sh kafka --tls and --user: what it refuses, what it makes of a good directory, and the settings."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.artefacts.test_readme import rows
from tests.harness import installer
from tests.harness.kit import ROOT
from tests.harness.tls import Authority

DEPLOY = ROOT / "deploy"
NODES = ("172.30.1.31", "172.30.1.32", "172.30.1.33")
CERTIFICATES = tuple(f"kafka{number}={node}" for number, node in enumerate(NODES, 1))
CERTIFICATES += ("oven=172.30.1.31", "here=127.0.0.1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "tls"
    subprocess.run([DEPLOY / "make-certificates", directory, *CERTIFICATES], check=True, capture_output=True)
    return directory


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """What make-certificates made for node 1."""
    shutil.copytree(made / "kafka1", tmp_path / "own")
    return tmp_path / "own"


Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a script with the functions of install.sh, as node 1 of three, with its files below tmp_path."""

    def run(script: str, *, nodes: str = " ".join(NODES), user: str = "") -> subprocess.CompletedProcess[str]:
        head = (
            "COMMAND=kafka; systemctl() { return 3; };"
            ' finish() { printf "note: %s\\n" "${WARNINGS[@]}"; };'
            f" NODES=({nodes}) NODE=1 BIND={NODES[0]} HEAP=512 KAFKA_USER={user};"
            f" KAFKA_PROPERTIES={tmp_path}/server.properties; "
        )
        return installer.run(tmp_path, head + script)

    return run


# -- the certificate -----------------------------------------------------------------------------------


def test_what_make_certificates_makes_is_taken(shell: Shell, own: Path, tmp_path: Path) -> None:
    done = shell(f"check_certificate {own}")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    ssl.create_default_context(cafile=tmp_path / "scratch" / "tls" / "ca.crt").load_cert_chain(
        tmp_path / "scratch" / "tls" / "node.pem"
    )
    assert "BEGIN PRIVATE KEY" in (tmp_path / "scratch" / "tls" / "node.pem").read_text()  # as Kafka wants it


Spoil = Callable[[Path, Path], None]
"""Makes the directory of node 1 useless: own directory, and that of all hosts."""


def nothing(own: Path, made: Path) -> None:
    shutil.rmtree(own)


def the_authoritys_own(own: Path, made: Path) -> None:
    shutil.copy(made / "ca.key", own)


def no_key(own: Path, made: Path) -> None:
    (own / "kafka1.key").unlink()


def two_keys(own: Path, made: Path) -> None:
    shutil.copy(made / "kafka2" / "kafka2.key", own)


def no_authority(own: Path, made: Path) -> None:
    (own / "ca.crt").unlink()


def unreadable(own: Path, made: Path) -> None:
    """Reading /proc/self/mem fails for root too, as a damaged card does."""
    (own / "kafka1.crt").unlink()
    os.symlink("/proc/self/mem", own / "kafka1.crt")


def half(own: Path, made: Path) -> None:
    file = own / "kafka1.crt"
    file.write_text(file.read_text()[:200])


def a_passphrase(own: Path, made: Path) -> None:
    key = own / "kafka1.key"
    words = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", own / "locked"]
    subprocess.run(words, check=True)
    (own / "locked").rename(key)


def another_key(own: Path, made: Path) -> None:
    shutil.copy(made / "kafka2" / "kafka2.key", own / "kafka1.key")


def another_authority(own: Path, made: Path) -> None:
    shutil.copy(Authority(own.parent / "stranger").certificate, own / "ca.crt")


def expired(own: Path, made: Path) -> None:
    authority = Authority(own.parent / "old")
    certificate = authority.sign("kafka1", address=NODES[0], days=-1)
    shutil.copy(authority.certificate, own / "ca.crt")
    shutil.copy(certificate.certificate, own / "kafka1.crt")
    shutil.copy(certificate.key, own / "kafka1.key")


def of_another_node(own: Path, made: Path) -> None:
    shutil.rmtree(own)
    shutil.copytree(made / "kafka2", own)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (nothing, "--tls {own}: no such directory"),
        (the_authoritys_own, "has the authority's ca.key, which belongs on no Pi"),
        (no_key, "must have one NAME.key, NAME.crt and ca.crt, and has 0 keys"),
        (two_keys, "must have one NAME.key, NAME.crt and ca.crt, and has 2 keys"),
        (no_authority, "{own}/ca.crt: no such file, deploy/make-certificates makes it"),
        (unreadable, "{own}/kafka1.crt: cannot be read"),
        (half, "{own}/kafka1.crt: is no certificate: copy it again"),
        (a_passphrase, "{own}/kafka1.key: is no key, or has a passphrase: openssl pkey"),
        (another_key, "{own}/kafka1.key: does not fit {own}/kafka1.crt: copy both again"),
        (another_authority, "{own}/kafka1.crt: unable to get local issuer certificate"),
        (expired, "{own}/kafka1.crt: certificate has expired: is the clock right (timedatectl)?"),
        (of_another_node, "kafka2.crt: is not for 172.30.1.31, but for DNS:kafka2, IP Address:172.30.1.32"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_with_a_certificate_is_said_in_one_line(
    shell: Shell, own: Path, made: Path, tmp_path: Path, spoil: Spoil, said: str
) -> None:
    spoil(own, made)
    done = shell(f"check_certificate {own}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert said.format(own=own) in done.stderr
    assert not (tmp_path / "scratch" / "tls").exists()


def test_a_certificate_that_ends_soon_is_taken_with_a_note(shell: Shell, own: Path) -> None:
    authority = Authority(own.parent / "short")
    certificate = authority.sign("kafka1", address=NODES[0], days=10)
    shutil.copy(authority.certificate, own / "ca.crt")
    shutil.copy(certificate.certificate, own / "kafka1.crt")
    shutil.copy(certificate.key, own / "kafka1.key")
    done = shell(f"check_certificate {own}; finish")
    assert (done.returncode, "ends within 30 days" in done.stdout) == (0, True), done


# -- the settings --------------------------------------------------------------------------------------


def settings(shell: Shell, own: Path, tmp_path: Path, **options: str) -> dict[str, str]:
    done = shell(f"choose_security {own}; write_kafka_files", **options)
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "scratch" / "kafka" / "server.properties").read_text()
    assert "@" not in text.replace("@172.30.1.", "")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] != "#")


def test_with_tls_no_port_is_without_it(shell: Shell, own: Path, tmp_path: Path) -> None:
    found = settings(shell, own, tmp_path)
    assert (
        found["listeners"]
        == "CLIENTS://172.30.1.31:9092,BROKERS://172.30.1.31:9094,CONTROLLER://172.30.1.31:9093"
    )
    assert found["listener.security.protocol.map"] == "CLIENTS:SSL,BROKERS:SSL,CONTROLLER:SSL"
    assert found["listener.name.brokers.ssl.client.auth"] == "required"
    assert found["listener.name.controller.ssl.client.auth"] == "required"
    assert "authorizer.class.name" not in found


def test_with_users_each_client_logs_in_and_the_nodes_may_do_everything(
    shell: Shell, own: Path, tmp_path: Path
) -> None:
    found = settings(shell, own, tmp_path, user="bridge")
    assert found["listener.security.protocol.map"] == "CLIENTS:SASL_SSL,BROKERS:SSL,CONTROLLER:SSL"
    # "CN=kafka1" can be no name of a user, so no password makes a user a node.
    assert found["super.users"] == "User:CN=kafka1;User:CN=kafka2;User:CN=kafka3"
    assert found["authorizer.class.name"].endswith("StandardAuthorizer")


def test_the_other_nodes_names_follow_from_this_ones(shell: Shell, made: Path) -> None:
    done = shell(f"choose_security {made}/oven", user="bridge")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert (
        "the certificate has the name oven: in the certificate of node 1 it must end with 1, such as kafka1"
        in done.stderr
    )
    alone = shell(
        f"rm -r $SCRATCH/tls; choose_security {made}/oven; echo ${{KAFKA_NAMES[@]}}",
        user="bridge",
        nodes=NODES[0],
    )
    assert alone.stdout == "CN=oven\n"


def test_a_node_with_tls_keeps_it_when_the_option_is_left_out(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "server.properties").write_text("inter.broker.listener.name=BROKERS\n")
    assert (
        shell('choose_security ""; echo $KAFKA_TLS ${KAFKA_PORTS[@]}').stdout
        == "/etc/kafka/tls 9092 9093 9094\n"
    )
    (tmp_path / "server.properties").write_text("inter.broker.listener.name=PLAINTEXT\n")
    assert shell('choose_security ""; echo $KAFKA_TLS ${KAFKA_PORTS[@]}').stdout == "9092 9093\n"


def test_users_need_tls_and_a_name(shell: Shell) -> None:
    done = shell('choose_security ""', user="bridge")
    assert (done.returncode, "--user bridge: needs --tls DIRECTORY too" in done.stderr) == (2, True)
    done = shell("check_user", user="'a user'")
    assert (done.returncode, "must have up to 100 letters, digits" in done.stderr) == (2, True)


# -- protocol.py and users.py --------------------------------------------------------------------------


@pytest.fixture
def protocol(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DEPLOY / "kafka"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("protocol", "users"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import protocol

    return protocol


def test_a_user_gets_the_rights_that_the_page_says_the_bridge_needs(protocol: ModuleType) -> None:
    import users

    page = (ROOT / "docs" / "how-to" / "prepare-kafka.md").read_text()
    assert set(users.RIGHTS) == {row[0].strip("`") for row in rows(page, "## Permissions")}


@pytest.fixture
def listener(protocol: ModuleType, monkeypatch: pytest.MonkeyPatch, made: Path) -> Iterator[None]:
    """A server with TLS at 127.0.0.1, at the port of a controller."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made / "here" / "here.pem")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(protocol, "CONTROLLERS", server.getsockname()[1])

        def serve() -> None:
            connection, _ = server.accept()
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@pytest.mark.usefixtures("listener")
def test_a_node_without_tls_notices_that_another_has_it(protocol: ModuleType) -> None:
    assert protocol.differs("127.0.0.1", None).endswith("that node has TLS: give --tls DIRECTORY here too")


@pytest.mark.usefixtures("listener")
def test_nodes_of_one_authority_are_alike(protocol: ModuleType, made: Path) -> None:
    assert protocol.differs("127.0.0.1", ssl.create_default_context(cafile=made / "ca.crt")) == ""


@pytest.mark.usefixtures("listener")
def test_a_node_notices_that_another_is_of_another_authority(protocol: ModuleType, tmp_path: Path) -> None:
    own = ssl.create_default_context(cafile=Authority(tmp_path / "own").certificate)
    assert "this node does not trust that one's certificate: " in protocol.differs("127.0.0.1", own)


def test_a_node_with_tls_notices_that_another_has_none(
    protocol: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = ssl.create_default_context(cafile=Authority(tmp_path / "own").certificate)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(protocol, "CONTROLLERS", server.getsockname()[1])
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        assert "that node has no TLS" in protocol.differs("127.0.0.1", own)
        thread.join()
