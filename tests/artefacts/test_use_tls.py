"""deploy/make-certificates, and docs/how-to/use-tls.md: the page's commands are run line by line."""

import os
import re
import shlex
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template

import pytest

from bridge.tls.certificate import in_pem, not_after
from tests.artefacts import pages
from tests.harness.haproxy import CONFIGURATION
from tests.harness.kit import ROOT
from tests.harness.tls import Certificate, TlsDoor

PAGE = ROOT / "docs" / "how-to" / "use-tls.md"
SCRIPT = ROOT / "deploy" / "make-certificates"
HOSTS = ("emq1", "emq2", "haproxy", "kafka1", "kafka2", "kafka3", "bridge")


def make(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with deploy/, and with tls/ as the page's first command makes it."""
    directory = tmp_path_factory.mktemp("site")
    (directory / "deploy").symlink_to(SCRIPT.parent)
    subprocess.run(["deploy/make-certificates", "tls"], cwd=directory, check=True)
    return directory


# -- the script ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_a_certificate_bears_out_the_strictest_check(site: Path, host: str) -> None:
    own = site / "tls" / host
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", own / "ca.crt"]
    for purpose in ("sslserver", "sslclient"):
        subprocess.run([*verify, "-purpose", purpose, own / f"{host}.crt"], check=True, capture_output=True)
    assert (own / f"{host}.pem").read_text() == (own / f"{host}.crt").read_text() + (
        own / f"{host}.key"
    ).read_text()


def test_keys_are_for_their_owner_alone(site: Path) -> None:
    secrets = [*(site / "tls").rglob("*.key"), *(site / "tls").rglob("*.pem")]
    assert len(secrets) == 2 * len(HOSTS) + 1
    assert {stat.S_IMODE(secret.stat().st_mode) for secret in secrets} == {0o600}


def test_a_second_run_keeps_what_is_good_and_makes_what_is_missing_or_expires_soon(tmp_path: Path) -> None:
    tls = tmp_path / "tls"
    assert make(tls, "a=10.0.0.1", "b", "c").returncode == 0
    before = {name: (tls / name / f"{name}.crt").read_text() for name in "abc"}
    (tls / "b" / "b.crt").unlink()
    soon = ["openssl", "x509", "-in", tls / "c/c.crt", "-signkey", tls / "c/c.key", "-days", "29"]
    done = subprocess.run(soon, check=True, capture_output=True, text=True)
    (tls / "c" / "c.crt").write_text(done.stdout)

    done = make(tls, "a=10.0.0.1", "b", "c")

    assert (done.returncode, done.stderr) == (0, "")
    assert f"{tls}/a: kept" in done.stdout
    assert (tls / "a" / "a.crt").read_text() == before["a"]
    for name in "bc":
        (der,) = in_pem((tls / name / f"{name}.crt").read_text())
        assert not_after(der) - datetime.now(UTC) > timedelta(days=800)


def test_a_certificate_for_another_address_is_replaced(tmp_path: Path) -> None:
    """install.sh kafka names this command if a certificate is not for the node."""
    tls = tmp_path / "tls"
    assert make(tls, "a=10.0.0.1,fd00::1,a.example", "b=10.0.0.2").returncode == 0
    done = make(tls, "a=10.0.0.1,fd00::1,a.example", "b=10.0.0.2,10.0.0.3")
    assert done.stdout.splitlines()[:2] == [f"{tls}/a: kept", f"{tls}/b: is not for 10.0.0.3"]
    assert addresses(tls, "b") == "DNS:b, IP Address:10.0.0.2, IP Address:10.0.0.3"
    assert f"{tls}/b: kept" in make(tls, "a", "b").stdout


def test_without_hosts_those_of_the_directory_are_renewed_with_their_own_addresses(tmp_path: Path) -> None:
    tls = tmp_path / "tls"
    assert make(tls, "kafka1=10.0.0.1,fd00::1,pi4.example", "b").returncode == 0
    before = addresses(tls, "kafka1")
    soon = ["openssl", "x509", "-in", tls / "kafka1/kafka1.crt", "-signkey", tls / "kafka1/kafka1.key"]
    done = subprocess.run([*soon, "-days", "29"], check=True, capture_output=True, text=True)
    (tls / "kafka1" / "kafka1.crt").write_text(done.stdout)
    done = make(tls)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{tls}/b: kept", f"{tls}/kafka1: made, for 825 days"]
    assert set(addresses(tls, "kafka1").split(", ")) == set(before.split(", "))


def addresses(tls: Path, name: str) -> str:
    words = ["openssl", "x509", "-in", tls / name / f"{name}.crt", "-noout", "-ext", "subjectAltName"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[1].strip()


def test_no_new_authority_is_made_beside_an_old_key(tmp_path: Path) -> None:
    assert make(tmp_path / "tls", "a").returncode == 0
    (tmp_path / "tls" / "ca.crt").unlink()
    done = make(tmp_path / "tls", "a")
    assert done.returncode == 1
    assert "a new authority needs new certificates on every host" in done.stderr


@pytest.mark.parametrize("host", ["=10.0.0.1", "ca", "a/b=10.0.0.1", "../x"])
def test_a_name_that_is_none_is_refused_before_anything_is_made(tmp_path: Path, host: str) -> None:
    done = make(tmp_path / "tls", "good", host)
    assert done.returncode == 1
    assert f"{host}: must be NAME=ADDRESS" in done.stderr
    assert not (tmp_path / "tls").exists()


def test_what_openssl_refuses_is_said(tmp_path: Path) -> None:
    done = make(tmp_path / "tls", "a=999.1.1.1")
    assert done.returncode == 1
    assert done.stderr.startswith("make-certificates: openssl: ")


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 2), (["--unknown"], 2)])
def test_how_it_is_used_is_shown(arguments: list[str], status: int) -> None:
    done = make(*arguments)
    assert done.returncode == status
    assert "make-certificates DIRECTORY" in done.stdout + done.stderr


# -- the page ------------------------------------------------------------------------------------------


@pytest.fixture
def door(site: Path, tmp_path: Path) -> Iterator[TlsDoor]:
    own = site / "tls" / "haproxy"
    certificate = Certificate(own / "haproxy.pem", own / "haproxy.crt", own / "haproxy.key")
    door = TlsDoor(("127.0.0.1", 1), certificate, tmp_path)
    door.start()
    yield door
    door.terminate()


@pytest.mark.parametrize("command", pages.commands(PAGE))
def test_each_command_works(command: str, site: Path, door: TlsDoor) -> None:
    """Run in this order; HAProxy's address is that of a door that uses its certificate."""
    command = command.replace("172.30.1.10:8883", f"{door.address}:{door.port}")
    done = subprocess.run(["sh", "-c", command], cwd=site, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_that_looks_from_outside_can_fail(site: Path, door: TlsDoor) -> None:
    (command,) = (each for each in pages.commands(PAGE) if "s_client" in each)
    command = command.replace("172.30.1.10:8883", f"{door.address}:{door.port}")
    for wrong in (("-verify_ip 172.30.1.10", "-verify_ip 172.30.1.11"), ("tls/ca.crt", "tls2/ca.crt")):
        subprocess.run(["deploy/make-certificates", "tls2", "x"], cwd=site, check=True, capture_output=True)
        done = subprocess.run(
            ["sh", "-c", command.replace(*wrong)], cwd=site, capture_output=True, timeout=30
        )
        assert done.returncode != 0


def test_the_files_that_the_table_names_are_there(site: Path) -> None:
    rows = [line for line in PAGE.read_text().splitlines() if "/` |" in line]
    assert len(rows) == 4
    for row in rows:
        files = re.findall(r"`([^`]+)`", row.split("|")[2])
        directory = site / "tls" / files[0].partition("/")[0]
        for file in files:
            name = f"{directory.name}{file}" if file.startswith(".") else file.rpartition("/")[2]
            assert (directory / name).is_file()


@pytest.mark.parametrize("text", pages.fenced(PAGE, "sh"))
def test_what_is_set_for_haproxy_is_accepted(text: str, site: Path) -> None:
    settings = dict(word.split("=", 1) for word in shlex.split(text))
    here = str(site / "tls" / "haproxy")
    environment = {name: value.replace("/etc/haproxy/tls", here) for name, value in settings.items()}
    subprocess.run(["haproxy", "-c", "-f", CONFIGURATION], check=True, env=os.environ | environment)


def test_what_is_set_for_kafka_is_what_the_tests_brokers_have() -> None:
    (shown,) = pages.fenced(PAGE, "properties")
    template = Template((ROOT / "tests/harness/kafka/tls.properties").read_text())
    tried = template.substitute(
        address="172.30.1.31", certificate="/etc/kafka/tls/kafka1.pem", authority="/etc/kafka/tls/ca.crt"
    )
    assert shown.splitlines() == [line for line in tried.splitlines() if not line.startswith("#")]
