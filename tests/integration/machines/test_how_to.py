"""The how-to pages: their commands are run, as the pages show them, on booted machines."""

import re
from pathlib import Path

from tests.artefacts import pages
from tests.harness.conditions import wait_until
from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.machine import Machine, debian_root
from tests.harness.verifier import Verifier
from tests.integration.machines.conftest import (
    APT,
    SETTINGS,
    SOURCE,
    UNIT,
    WHEELS,
    Installed,
    NewMachine,
    NewPackage,
    Source,
    on,
    say_where,
    says_that_all_works,
    wait_live,
)
from tests.integration.machines.test_haproxy import BEFORE, CFG, NODE, status_of_console
from tests.integration.machines.test_service import left, rows
from tests.integration.machines.test_upgrade import version

HOW_TO = ROOT / "docs" / "how-to"

# Replacement for ssh between two machines: the client's end of a pipe, and the server's end.
SSH = """#!/usr/bin/python3
import shutil, socket, sys
with socket.create_connection(("127.0.0.1", 2222)) as there, there.makefile("wb") as pipe:
    shutil.copyfileobj(sys.stdin.buffer, pipe)
    pipe.flush()
    there.shutdown(socket.SHUT_WR)
    sys.exit(there.recv(1)[0])
"""
SSHD = """
import socket, subprocess, sys
connection, _ = socket.create_server(("127.0.0.1", 2222)).accept()
connection.sendall(bytes([subprocess.run(sys.argv[1:], stdin=connection).returncode]))
"""

# HAProxy's settings of the founding document, appended to Debian's own file.
FOUNDING = """
frontend http-in
    bind *:8080
    default_backend servers
backend servers
    balance roundrobin
    server server1 172.30.1.25:18083 maxconn 2048
    server server2 172.30.1.9:18083 maxconn 2048
listen tcp-in
    bind *:1883
    mode tcp
    log global
    option tcplog
    balance roundrobin
    server server1 172.30.1.25:1883
    server server2 172.30.1.9:1883
listen mqtt-kafka
    bind *:1884
    mode tcp
    log global
    option tcplog
    option clitcpka
    timeout client 3h
    timeout server 3h
    balance leastconn
    server server1 172.30.1.25:1883 check
    server server2 172.30.1.9:1883 check
listen stats
    bind *:8081
    stats enable
    stats uri /haproxy?stats
    stats auth admin:admin
    stats refresh 5s
"""


def test_install_upgrade_go_back_and_remove_by_install_sh_and_then_as_a_package(
    chain: list[str], new_machine: NewMachine, source: Source, new_package: NewPackage, tmp_path: Path
) -> None:
    commands = [each.replace("172.30.1.", "127.30.2.") for each in pages.commands(HOW_TO / "install.md")]
    install, show, restart, upgrade, rollback, uninstall, build, package, enable, check, *_by_pip = commands
    newer = "/root/newer"
    with new_machine("bookworm", files={newer: source("0.9.0")}) as pi:
        assert says_that_all_works(on(pi, install, *WHEELS))
        before = version(pi)
        assert f'host = "{chain[1].split(":")[0]}"' in on(pi, show)
        on(pi, restart)
        wait_live(pi)
        on(pi, upgrade, *WHEELS, clone=newer)
        assert (version(pi), pi.show(UNIT, "StatusText")) == ("0.9.0", "live")
        on(pi, rollback)
        assert (version(pi), pi.show(UNIT, "StatusText")) == (before, "live")
        on(pi, uninstall)

    # The page's command, changed to this architecture.
    assert build == "deploy/build-deb bookworm arm64"
    file = new_package("bookworm")
    package = package.replace("arm64", "amd64")
    with Machine(
        [debian_root("bookworm")], tmp_path, name="other", files={f"{SOURCE}/{file.name}": file}
    ) as pi:
        on(pi, package, "--yes")
        say_where(pi, chain)
        on(pi, enable)
        wait_live(pi)
        assert says_that_all_works(on(pi, check))


def test_a_bridge_moves_to_another_machine_with_what_waits_on_disk_and_loses_and_doubles_nothing(
    chain: list[str],
    new_machine: NewMachine,
    installed: Installed,
    haproxy: HAProxy,
    kafka: KafkaCluster,
) -> None:
    install, stop, take, start, check, remove = pages.commands(HOW_TO / "back-up.md")
    old = new_machine("bookworm", [installed("bookworm")], name="old")
    new = new_machine("bookworm", name="new")
    with old, new:
        # The Kafka topic is missing, so its messages wait on disk.
        edit = r's/^topic = .*/topic = "moved"/; s/^\[mqtt\]$/&\nusername = "bridge"/'
        old.run("sed", "-i", edit, SETTINGS)
        old.write("/etc/credstore/mqtt-kafka-bridge.mqtt-password", "hunter2")
        old.run("systemctl", "restart", UNIT)
        old.write("/usr/bin/ssh", SSH)
        old.run("chmod", "755", "/usr/bin/ssh")
        wait_live(old)
        assert f"not started: {start}" in on(new, f"{install} {' '.join(WHEELS)}")
        assert new.show(UNIT, "ActiveState") == "inactive"
        _, there = take.split(" | ssh kafka2 sudo ")
        new.run("systemd-run", "--quiet", "--service-type=exec", "python3", "-c", SSHD, *there.split())
        wait_until(lambda: new.run("ss", "-Hltn", "sport = :2222"), 30.0, "the other machine listens")

        with Devices(haproxy.host.address, DEVICES, rate=50) as devices:
            wait_until(lambda: rows(old), 60.0, "something waits on disk")
            on(old, stop)
            on(old, take)
            on(new, start)
            wait_live(new)
            devices.wait_sent(50)
        assert new.run("stat", "--format=%a %U", "/var/lib/mqtt-kafka-bridge") == "700 mqtt-kafka-bridge\n"
        assert new.read(f"/run/credentials/{UNIT}.service/mqtt-password") == "hunter2"
        kafka.create_topic("moved", 3)
        with Verifier(kafka.bootstrap, ["moved"]) as verifier:
            verifier.wait_for(devices.tally.acked, deadline=60.0)
            verdict = verifier.verdict(devices.tally)
        assert (verdict.lost, verdict.doubled, verdict.inversions) == (set(), {}, ()), verdict
        assert says_that_all_works(on(new, check))

        on(old, remove)
        assert left(old) == set()
    kafka.delete_topic("moved")


def test_from_the_founding_documents_haproxy_cfg_to_ours_and_back(lone_pi: Machine) -> None:
    install, compare, copy, restart = pages.commands(HOW_TO / "move-the-haproxy-cfg.md")
    for address in ("172.30.1.25", "172.30.1.9"):
        lone_pi.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        lone_pi.run("systemd-run", "--quiet", "--service-type=exec", "python3", "-c", NODE, address)
    lone_pi.run("apt-get", "-q", "-y", "install", "haproxy", env=APT)
    founding = lone_pi.read(CFG) + FOUNDING
    lone_pi.write(CFG, founding)
    lone_pi.run("systemctl", "restart", "haproxy")
    assert status_of_console(lone_pi, "admin:admin") == "200"

    said = on(lone_pi, re.sub(r"(172\.30\.1\.(25|9))\b", r"\1:2883", install))
    assert said.count("answers as a broker") == 2, said
    assert lone_pi.read(BEFORE) == founding
    assert lone_pi.read(CFG) == (ROOT / "haproxy" / "haproxy.cfg").read_text()
    assert status_of_console(lone_pi, "admin:admin") == "401"
    assert "timeout" in lone_pi.shell(compare, status=1)

    on(lone_pi, copy)
    on(lone_pi, restart)
    assert status_of_console(lone_pi, "admin:admin") == "200"
