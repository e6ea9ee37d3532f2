"""The shipped haproxy.cfg: valid without a warning, true to the founding document, and consistent.

$HAPROXY_BINARIES names further haproxy programs to test it with, separated by colons; the installed one is
always tested.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from bridge.settings.mqtt import MqttSettings
from bridge.units import DURATION
from tests.harness.haproxy import CONFIGURATION
from tests.harness.kit import ROOT

TEXT = CONFIGURATION.read_text()
README = (CONFIGURATION.parent / "README.md").read_text()


def binaries() -> list[str]:
    further = os.environ.get("HAPROXY_BINARIES", "").split(":")
    return [shutil.which("haproxy") or "haproxy", *filter(None, further)]


def directives(text: str) -> dict[str, list[str]]:
    """Section header -> its lines without TLS, comments and repeated blanks."""
    sections: dict[str, list[str]] = {}
    open_conditions: list[bool] = []
    for line in text.splitlines():
        words = " ".join(line.split())
        if words.startswith(".if"):
            open_conditions.append("TLS" in words)
        elif words == ".endif":
            open_conditions.pop()
        if not words or words.startswith(("#", ".")) or any(open_conditions):
            continue
        if line[0].isspace():
            [*sections.values()][-1].append(words)
        else:
            sections[words] = []
    return sections


SECTIONS = directives(TEXT)


@pytest.mark.parametrize("binary", binaries())
@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="as it is"),
        pytest.param({"LISTEN": "127.0.0.1", "EMQ1": "10.0.0.1", "EMQ2": "10.0.0.2"}, id="other addresses"),
        pytest.param({"LISTEN": "::", "EMQ1": "fd00::1", "EMQ2": "fd00::2"}, id="IPv6"),
        pytest.param({"STATS_PASSWORD_HASH": "$6$salt$" + "x" * 86}, id="a password"),
        pytest.param({"STATS_PASSWORD_HASH": ""}, id="an empty password"),
        pytest.param({"LOG": "127.0.0.1:514", "EMQ1_PORT": "2883"}, id="remote syslog, another port"),
        pytest.param({"UNPRIVILEGED": "1", "ADMIN_SOCKET": "/tmp/haproxy.sock"}, id="an ordinary user"),
    ],
)
def test_haproxy_accepts_it_without_a_warning(binary: str, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [binary, "-c", "-f", CONFIGURATION],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("haproxy") / "tls"
    subprocess.run([ROOT / "deploy" / "make-certificates", directory, "haproxy=172.30.1.10"], check=True)
    return directory / "haproxy"


@pytest.mark.parametrize("binary", binaries())
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        pytest.param({"TLS_CERT": "haproxy.pem"}, "", id="TLS ends here"),
        pytest.param(
            {"TLS_CERT": "haproxy.pem", "TLS_DEVICE_CA": "ca.crt", "TLS_BRIDGE_CA": "ca.crt"},
            "",
            id="TLS ends here, mutual",
        ),
        pytest.param({"TLS_PASS": "1"}, "", id="TLS is passed on"),
        pytest.param({"TLS_CERT": "haproxy.pem", "TLS_PASS": "1"}, "keep one of them", id="both"),
    ],
)
def test_tls_is_switched_on_in_the_environment(
    binary: str, environment: Mapping[str, str], said: str, certificates: Path
) -> None:
    done = subprocess.run(
        [binary, "-c", "-f", CONFIGURATION],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=certificates,
        capture_output=True,
        text=True,
    )

    assert (done.returncode == 0) == (not said)
    assert said in done.stderr
    assert said or done.stderr == ""


@pytest.mark.parametrize(
    ("section", "lines"),
    [
        ("frontend http-in from web", ['bind "${LISTEN-*}:8080"', "default_backend servers"]),
        ("backend servers from web", ["balance roundrobin"]),
        ("listen tcp-in from mqtt", ["balance roundrobin"]),
        (
            "listen mqtt-kafka from mqtt",
            ["balance leastconn", "option clitcpka", "timeout client 3h", "timeout server 3h"],
        ),
        (
            "listen stats from web",
            ['bind "${LISTEN-*}:8081"', "stats uri /haproxy?stats", "stats refresh 5s"],
        ),
        ("defaults mqtt", ["mode tcp", "option tcplog", "log global"]),
    ],
)
def test_the_founding_sections_are_what_they_were(section: str, lines: list[str]) -> None:
    assert [line for line in lines if line not in SECTIONS[section]] == []


@pytest.mark.parametrize(
    ("section", "port"),
    [
        ("backend servers from web", "18083"),
        ("listen tcp-in from mqtt", "${EMQ%d_PORT-1883}"),
        ("listen mqtt-kafka from mqtt", "${EMQ%d_PORT-1883}"),
    ],
)
@pytest.mark.parametrize(("number", "address"), [(1, "172.30.1.25"), (2, "172.30.1.9")])
def test_the_founding_nodes_stand_behind_each_section(
    section: str, port: str, number: int, address: str
) -> None:
    port = port % number if "%" in port else port
    expected = f'server server{number} "${{EMQ{number}-{address}}}:{port}" '

    assert any(line.startswith(expected) for line in SECTIONS[section])


def test_dashboards_take_2048_connections_each() -> None:
    servers = [line for line in SECTIONS["backend servers from web"] if line.startswith("server ")]

    assert [re.findall(r" maxconn (\d+)", line) for line in servers] == [["2048"], ["2048"]]


def test_a_storm_of_devices_cannot_take_the_place_of_the_bridge() -> None:
    def maxconn(section: str) -> int:
        (limit,) = (line for line in SECTIONS[section] if line.startswith("maxconn "))
        return int(limit.split()[1])

    listeners = [section for section in SECTIONS if section.startswith(("frontend", "listen"))]

    assert sum(map(maxconn, listeners)) < maxconn("global")


def seconds(section: str, directive: str) -> float:
    (value,) = (line.split()[-1] for line in SECTIONS[section] if line.startswith(f"{directive} "))
    return float(DURATION.parse(value))


@pytest.mark.parametrize("section", ["defaults mqtt", "listen mqtt-kafka from mqtt"])
def test_the_bridge_expects_the_idle_limit_that_is_configured_here(section: str) -> None:
    """The bridge checks its keepalive against this default of mqtt.idle_limit."""
    shortest = min(seconds(section, "timeout client"), seconds(section, "timeout server"))

    assert MqttSettings.model_fields["idle_limit"].default == shortest


@pytest.mark.parametrize(
    ("section", "side", "limit"),
    [
        ("defaults mqtt", "srvtcpka", r"default-server .* tcp-ut (\S+)"),
        ("listen mqtt-kafka from mqtt", "clitcpka", r"bind .* tcp-ut (\S+)"),
    ],
)
def test_a_host_that_vanished_is_found_as_soon_when_busy_as_when_idle(
    section: str, side: str, limit: str
) -> None:
    idle, interval = (seconds(section, f"{side}-{name}") for name in ("idle", "intvl"))
    (count,) = (int(line.split()[1]) for line in SECTIONS[section] if line.startswith(f"{side}-cnt "))
    (busy,) = (found[1] for line in SECTIONS[section] if (found := re.match(limit, line)))

    assert idle + interval * count == DURATION.parse(busy)


def test_the_check_asks_what_every_broker_must_refuse() -> None:
    check = SECTIONS["listen mqtt-kafka from mqtt"]
    (packet,) = (line.split()[-1] for line in check if line.startswith("tcp-check send-binary"))

    # CONNECT of MQTT 3.1.1 without clean session and without client id: CONNACK 2 (MQTT-3.1.3-8)
    assert (
        bytes.fromhex(packet) == b"\x10\x0c" + b"\x00\x04MQTT" + b"\x04" + b"\x00" + b"\x00\x3c" + b"\x00\x00"
    )
    assert "tcp-check expect rbinary ^2002000[0-5]" in check


@pytest.mark.parametrize("section", ["frontend http-in from web", "listen stats from web"])
def test_dashboards_and_console_are_for_the_house_alone(section: str) -> None:
    (rule,) = (line for line in SECTIONS[section] if line.startswith("http-request deny unless { src "))

    assert {"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} <= set(rule.split())


def test_no_password_works_by_default() -> None:
    assert SECTIONS["userlist console"] == ['user admin password "${STATS_PASSWORD_HASH-!}"']


def test_every_variable_and_its_default_is_in_the_readme() -> None:
    variables = set(re.findall(r"\$\{(\w+)-([^}]*)\}", TEXT)) | {
        (name, "") for name in re.findall(r"defined\((\w+)\)", TEXT)
    }
    documented = {
        (name, default.strip("`"))
        for name, default in re.findall(r"^\| `(\w+)` \|\s*([^|]*?)\s*\|", README, flags=re.MULTILINE)
    }

    assert documented == variables
