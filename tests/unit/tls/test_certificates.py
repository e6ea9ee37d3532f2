"""Until when certificates are valid, and that the bridge logs an expiry in time and once a day."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.tls import expiry
from bridge.tls.certificate import in_pem, not_after
from bridge.tls.expiry import Expiry, File
from tests.harness.tls import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


# From 2050 on the certificate has a four-digit year (RFC 5280, 4.1.2.5).
@pytest.mark.parametrize("days", [-1, 2, 400, 365 * 40])
def test_it_expires_when_openssl_says_so(authority: Authority, days: int) -> None:
    certificate = authority.sign(f"in-{days}", days=days).certificate
    command = ["openssl", "x509", "-in", certificate, "-noout", "-enddate"]
    end = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    (der,) = in_pem(certificate.read_text())
    assert not_after(der) == datetime.strptime(end, "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_what_is_no_certificate_is_refused(authority: Authority, cut: int) -> None:
    (der,) = in_pem(authority.certificate.read_text())
    with pytest.raises(ValueError, match=r"no X\.509|time data"):
        not_after(der[:cut])
    with pytest.raises(ValueError, match=r"no X\.509"):
        not_after(bytes(cut))


def warnings(watch: Expiry) -> list[str]:
    with capture_logs() as logged:
        watch.look()
    assert {line["event"] for line in logged} <= {"tls.expires_soon"}
    return [f"{line['certificate']}: {line['days_left']}" for line in logged]


def test_what_expires_within_two_weeks_is_said_once_a_day(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon, later = (authority.sign(f"own-{days}", days=days).certificate for days in (13, 15))
    watch = Expiry([File("mqtt.tls.cert_file", soon), File("ssl.certificate.location", later)], {})
    assert warnings(watch) == [f"mqtt.tls.cert_file = {soon}: 12"]
    assert warnings(watch) == []
    monkeypatch.setattr(expiry, "_SAY_AGAIN_AFTER", timedelta(0))
    assert warnings(watch) == [f"mqtt.tls.cert_file = {soon}: 12"]


def test_a_certificate_that_was_renewed_is_noticed_within_a_minute(authority: Authority) -> None:
    own = authority.sign("own", days=13).certificate
    watch = Expiry([File("mqtt.tls.cert_file", own)], {})
    watch.look()
    assert watch._pause() == 60.0
    own.write_text(authority.sign("renewed", days=90).certificate.read_text())
    watch.look()
    assert watch._pause() == 6 * 3600.0


def test_of_a_chain_the_first_and_of_authorities_the_last_date_counts(
    authority: Authority, tmp_path: Path
) -> None:
    both = tmp_path / "both.crt"
    both.write_text("".join(authority.sign(f"x{d}", days=d).certificate.read_text() for d in (400, 5)))
    assert warnings(Expiry([File("chain", both)], {})) == [f"chain = {both}: 4"]
    assert warnings(Expiry([File("authorities", both, authorities=True)], {})) == []


def test_what_peers_show_is_watched_too(authority: Authority) -> None:
    (der,) = in_pem(authority.sign("peer", days=3).certificate.read_text())
    watch = Expiry([], {"kafka1:9094": lambda: der, "kafka2:9094": lambda: None})
    assert warnings(watch) == ["shown by kafka1:9094: 2"]
    with capture_logs() as logged:
        watch.shown("emq:8884", der)
    assert [line["certificate"] for line in logged] == ["shown by emq:8884"]


@pytest.mark.parametrize(
    "content", [None, "", "-----BEGIN CERTIFICATE-----\n####\n-----END CERTIFICATE-----"]
)
def test_a_file_of_no_use_is_said_elsewhere(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "own.crt"
    if content is not None:
        file.write_text(content)
    assert warnings(Expiry([File("mqtt.tls.cert_file", file)], {})) == []
