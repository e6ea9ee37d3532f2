"""The service on a booted machine: what systemd does when it dies, hangs, or is removed."""

import json

import pytest

from tests.artefacts import pages
from tests.harness.conditions import wait_until
from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.machine import Machine
from tests.harness.verifier import Verifier
from tests.integration.machines.conftest import (
    INSTALL,
    INSTALLED_SH,
    NOT_LIVE,
    SETTINGS,
    TOPIC,
    UNIT,
    Installed,
    NewMachine,
    on,
    wait_live,
)

WINDOW = 100  # mqtt.receive_maximum


@pytest.fixture(params=["install.sh", "deb"])
def pi(new_machine: NewMachine, installed: Installed, request: pytest.FixtureRequest) -> Machine:
    """A machine with the bridge, installed by install.sh or by the Debian package."""
    return new_machine("bookworm", [installed("bookworm", request.param)])


def test_it_survives_reboot_and_power_cut_under_load(
    chain: list[str], pi: Machine, haproxy: HAProxy, kafka: KafkaCluster
) -> None:
    with pi, Verifier(kafka.bootstrap, [TOPIC]) as verifier:
        wait_live(pi)
        with Devices(haproxy.host.address, DEVICES, rate=50) as devices:
            devices.wait_sent(150)
            wait_until(lambda: verifier.delivered >= 150, 60.0, "messages flow")
            pi.shut_down()
            pi.boot()
            wait_live(pi)
            verifier.wait_for(set(devices.tally.acked), deadline=60.0)
            assert verifier.doubled == 0, pi.journal(UNIT)

            pi.power_cut()
            pi.boot()
            wait_live(pi)
        verifier.wait_for(devices.tally.acked, deadline=60.0)
        verdict = verifier.verdict(devices.tally)
    assert verdict.lost == set(), verdict
    assert verdict.copies <= WINDOW, verdict


def test_it_is_started_again_when_it_dies_hangs_or_finds_no_name_but_not_on_wrong_settings(
    chain: list[str], pi: Machine
) -> None:
    with pi:
        # Shorter times than the watchdog's half a minute and the restart's 5 s; nothing else differs.
        pi.run("mkdir", "-p", f"/run/systemd/system/{UNIT}.service.d")
        pi.write(
            f"/run/systemd/system/{UNIT}.service.d/times.conf",
            "[Service]\nWatchdogSec=3s\nRestartSec=100ms\n",
        )
        pi.run("systemctl", "daemon-reload")
        pi.run("systemctl", "restart", UNIT)
        wait_live(pi)

        died = pi.show(UNIT, "MainPID")
        pi.run("kill", "-9", died)
        wait_until(lambda: pi.show(UNIT, "MainPID") not in ("0", died), 20, "another process")
        wait_live(pi)

        hung = pi.show(UNIT, "MainPID")
        pi.run("kill", "-STOP", hung)
        wait_until(lambda: pi.show(UNIT, "MainPID") not in ("0", hung), 30, "the hung one is gone")
        wait_live(pi)
        assert "Current thread" in pi.journal(UNIT), "a traceback says where it hung"
        assert "level=" not in pi.journal(UNIT)

        good = pi.read(SETTINGS)
        pi.write(SETTINGS, good.replace('host = "', 'host = "emq.example" # '))
        pi.run("systemctl", "restart", UNIT)
        assert pi.show(UNIT, "StatusText") == "waiting for the broker at emq.example"
        address = chain[1].partition(":")[0]
        pi.shell(f"echo '{address} emq.example' >>/etc/hosts")
        wait_live(pi)

        pi.write(SETTINGS, good.replace("[mqtt]", "[mqtt]\nkeepalive = 0", 1))
        pi.run("systemctl", "restart", UNIT, status=1)
        assert pi.show(UNIT, "ActiveState") == "failed"
        assert pi.show(UNIT, "ExecMainStatus") == "2"
        assert pi.show(UNIT, "NRestarts") == "0"
        said = pi.run(INSTALLED_SH, "status", status=NOT_LIVE)
        assert "its settings are wrong, it waits for you" in said
        assert "mqtt.keepalive = 0" in pi.journal(UNIT)

        pi.write(SETTINGS, good)
        pi.run("systemctl", "start", UNIT)
        wait_live(pi)
        pi.run("systemctl", "stop", UNIT)
        assert pi.show(UNIT, "Result") == "success"
        assert pi.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", f"{UNIT}*") == ""


def test_several_bridges_have_settings_state_and_passwords_of_their_own(
    chain: list[str], pi: Machine
) -> None:
    *copy_settings, edit, start = pages.commands(ROOT / "docs" / "how-to" / "several-bridges.md")
    with pi:
        wait_live(pi)
        for command in copy_settings:
            on(pi, command)
        program, settings = edit.split()[1:]
        assert (program, pi.run("stat", "-c", "%a %G", settings)) == ("nano", "640 mqtt-kafka-bridge\n")
        its_own = '[mqtt]\nclient_id = "garden"\nusername = "two"'
        pi.write(settings, pi.read(settings).replace("[mqtt]", its_own, 1))
        pi.write("/etc/credstore/mqtt-kafka-bridge@garden.mqtt-password", "hunter2")
        pi.run("chmod", "600", "/etc/credstore/mqtt-kafka-bridge@garden.mqtt-password")
        on(pi, start)
        wait_live(pi, f"{UNIT}@garden")

        secret = f"/run/credentials/{UNIT}@garden.service/mqtt-password"
        assert pi.read(secret) == "hunter2"
        state = pi.run("stat", "-c", "%U %a", "/var/lib/mqtt-kafka-bridge/garden")
        assert state == "mqtt-kafka-bridge 700\n"
        said = pi.run(INSTALLED_SH, "status")
        assert said.count("active, live, since") == 2
        assert "hunter2" not in pi.run("journalctl", "--no-pager")
        assert pi.show(UNIT, "StatusText") == "live"


def test_uninstall_leaves_settings_and_state_and_purge_no_undelivered_message(
    chain: list[str], new_machine: NewMachine, installed: Installed, haproxy: HAProxy
) -> None:
    with new_machine("bookworm", [installed("bookworm")]) as pi:
        wait_live(pi)
        # The Kafka topic is missing, so its messages wait on disk.
        pi.run("sed", "-i", 's/^topic = .*/topic = "nobody.made"/', SETTINGS)
        pi.run("systemctl", "restart", UNIT)
        wait_live(pi)
        with Devices(haproxy.host.address, DEVICES, rate=20) as devices:
            devices.wait_sent(20)
            wait_until(lambda: rows(pi), 60.0, "something waits on disk")
        refused = pi.run(INSTALL, "uninstall", "--purge", status=1)
        assert "undelivered messages of mqtt-kafka-bridge are in /var/lib/mqtt-kafka-bridge" in refused
        assert pi.show(UNIT, "StatusText") == "live"

        said = pi.run(INSTALL, "uninstall")
        assert "kept: " in said
        assert pi.show(UNIT, "LoadState") == "not-found"
        assert left(pi) == {"/etc/mqtt-kafka-bridge", "/var/lib/mqtt-kafka-bridge"}
        assert "not installed" in pi.run(INSTALL, "status", status=NOT_LIVE)

        pi.run(INSTALL, "bridge", "--wheels", "/root/wheels", status=NOT_LIVE)  # the topic is still missing
        wait_live(pi)
        pi.run(INSTALL, "uninstall", "--purge", "--force")
        assert left(pi) == set()
        assert "mqtt-kafka-bridge" not in pi.read("/etc/passwd")


def rows(pi: Machine) -> int:
    return int(json.loads(pi.run("mqtt-kafka-bridge", "spool", "status", "--json"))["rows"])


def left(pi: Machine) -> set[str]:
    """The bridge's files on the machine, without the clone and the logs."""
    found = pi.shell("find /etc /opt /usr /var/lib /run/systemd -xdev -name '*mqtt-kafka-bridge*' -prune")
    return set(found.splitlines())
