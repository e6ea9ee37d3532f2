"""The Debian package on a booted Debian: the same checks as for install.sh, and those for dpkg."""

import json
from pathlib import Path

import pytest

from tests.harness.conditions import wait_until
from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.machine import Machine, debian_root
from tests.harness.verifier import Verifier
from tests.integration.machines import test_service
from tests.integration.machines.conftest import (
    APT,
    INSTALL,
    INSTALLED_SH,
    PACKAGE,
    SETTINGS,
    TOPIC,
    UNIT,
    Installed,
    NewMachine,
    NewPackage,
    Source,
    apt_install,
    assert_what_is_sent_arrives_once,
    say_where,
    wait_live,
)
from tests.integration.machines.test_install import FILES, levels, permissions
from tests.integration.machines.test_upgrade import version

GARDEN = f"{UNIT}@garden"
NEWER = "/root/newer.deb"


@pytest.fixture
def pi(new_package: NewPackage, tmp_path: Path) -> Machine:
    files = {PACKAGE: new_package("bookworm"), NEWER: new_package("bookworm", "0.9.0")}
    return Machine([debian_root("bookworm")], tmp_path, files=files)


def remove(pi: Machine, how: str, status: int = 0) -> str:
    return pi.run("apt-get", "-q", "-y", how, UNIT, status=status, env=APT)


def go_live(pi: Machine, chain: list[str]) -> None:
    apt_install(pi, PACKAGE)
    say_where(pi, chain)
    pi.run("systemctl", "enable", "--now", UNIT)
    wait_live(pi)


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_package_waits_for_settings_and_is_then_as_live_as_what_install_sh_installs(
    chain: list[str],
    new_package: NewPackage,
    tmp_path: Path,
    haproxy: HAProxy,
    kafka: KafkaCluster,
    suite: str,
) -> None:
    machine = Machine([debian_root(suite)], tmp_path, files={PACKAGE: new_package(suite)})
    with machine as pi:
        said = apt_install(pi, PACKAGE)
        assert f"not started yet. Say in {SETTINGS} where HAProxy and Kafka are" in said
        assert (pi.show(UNIT, "ActiveState"), pi.show(UNIT, "UnitFileState")) == ("inactive", "disabled")

        say_where(pi, chain)
        pi.run("systemctl", "enable", "--now", UNIT)
        wait_live(pi)
        assert_what_is_sent_arrives_once(haproxy, kafka)

        files = {name.replace("/local", ""): mode for name, mode in FILES.items() if "/log/" not in name}
        assert permissions(pi, files) == files
        assert pi.shell("find /opt/mqtt-kafka-bridge ! -type l -perm /022") == ""
        assert pi.run("dpkg", "--verify", UNIT) == ""
        assert levels(pi.journal(UNIT)) <= {"info", "warning"}
        assert "active, live, since" in pi.run(INSTALLED_SH, "status")

        pi.run("useradd", "--groups", UNIT, "--shell", "/bin/bash", "--create-home", "anna")
        login = ("runuser", "-l", "anna", "-c")
        assert pi.run(*login, "bridge --version") == pi.run("mqtt-kafka-bridge", "--version")
        assert 'topic = "mqtt"' in pi.run(*login, "bridge config")
        assert pi.run("sh", "-c", "command -v bridge") == "/usr/sbin/bridge\n"


def test_upgrade_refused_settings_and_downgrade_under_load_lose_and_double_nothing(
    chain: list[str], pi: Machine, haproxy: HAProxy, kafka: KafkaCluster
) -> None:
    with pi, Verifier(kafka.bootstrap, [TOPIC]) as verifier:
        go_live(pi, chain)
        before, settings = version(pi), pi.read(SETTINGS)
        with Devices(haproxy.host.address, DEVICES, rate=100) as devices:
            devices.wait_sent(200)

            said = apt_install(pi, NEWER)
            wait_live(pi)
            assert version(pi) == "0.9.0"
            assert f"{SETTINGS}.new shows what is new in the settings" in said
            assert pi.read(SETTINGS) == settings
            assert pi.read(f"{SETTINGS}.new").endswith("# New in 0.9.0.\n")
            assert pi.run("ls", "/opt/mqtt-kafka-bridge").split() == ["0.9.0", "current"]

            # The bridge goes on with its code in memory, though its files are gone.
            pi.write(SETTINGS, settings.replace("[mqtt]", "[mqtt]\nnew = 1", 1))
            started = pi.show(UNIT, "InvocationID")
            failed = apt_install(pi, PACKAGE, "--allow-downgrades", status=100)
            assert "mqtt.new (/etc/mqtt-kafka-bridge/bridge.toml:" in failed
            assert "put them right, then: sudo dpkg --configure mqtt-kafka-bridge" in failed
            devices.wait_sent(100)
            assert (pi.show(UNIT, "InvocationID"), pi.show(UNIT, "StatusText")) == (started, "live")

            pi.write(SETTINGS, settings)
            pi.run("dpkg", "--configure", UNIT)
            wait_live(pi)
            assert version(pi) == before
            devices.wait_sent(100)
        verifier.wait_for(devices.tally.acked, deadline=60.0)
        verdict = verifier.verdict(devices.tally)
        assert (verdict.lost, verdict.doubled, verdict.inversions) == (set(), {}, ()), verdict


def test_remove_keeps_settings_and_messages_and_purge_refuses_while_some_are_undelivered(
    chain: list[str], pi: Machine, haproxy: HAProxy, kafka: KafkaCluster
) -> None:
    garden = "/etc/mqtt-kafka-bridge/garden.toml"
    with pi:
        go_live(pi, chain)
        # One of two bridges routes to a missing Kafka topic: its messages wait on disk.
        pi.run("cp", "--preserve=all", SETTINGS, garden)
        edit = 's/^topic = .*/topic = "garden.late"/; s/^.mqtt.$/&\\nclient_id = "garden"/'
        pi.run("sed", "-i", edit, garden)
        pi.run("systemctl", "enable", "--now", GARDEN)
        wait_live(pi, GARDEN)
        with Devices(haproxy.host.address, DEVICES, rate=20) as devices:
            devices.wait_sent(20)
            wait_until(lambda: rows(pi, garden), 60.0, "something waits on disk")

        assert f"undelivered messages of {GARDEN} are in" in remove(pi, "remove")
        kept = {"/etc/mqtt-kafka-bridge", "/var/lib/mqtt-kafka-bridge"}
        wanted = "/etc/systemd/system/multi-user.target.wants"  # what was enabled
        kept |= {f"{wanted}/{UNIT}.service", f"{wanted}/{GARDEN}.service"}
        assert left(pi) == kept | {"/etc/profile.d/mqtt-kafka-bridge.sh"}
        assert pi.show(UNIT, "LoadState") == "not-found"

        refused = remove(pi, "purge", status=100)
        assert "holds messages that only this machine has" in refused
        assert "To have them delivered, install the package again" in refused
        assert left(pi) == kept

        # The enabled units start again, and the waiting messages arrive.
        apt_install(pi, PACKAGE)
        wait_live(pi)
        kafka.create_topic("garden.late", 3)
        with Verifier(kafka.bootstrap, ["garden.late"]) as verifier:
            verifier.wait_for(devices.tally.acked, deadline=60.0)
            assert verifier.verdict(devices.tally).lost == set()
        wait_until(lambda: not rows(pi, garden), 60.0, "nothing waits any more")

        assert "undelivered" not in remove(pi, "purge")
        assert left(pi) == set()
        assert "mqtt-kafka-bridge" not in pi.read("/etc/passwd")
        kafka.delete_topic("garden.late")


def test_a_machine_of_install_sh_refuses_the_package_until_that_one_is_uninstalled_and_the_other_way_round(
    chain: list[str],
    new_machine: NewMachine,
    installed: Installed,
    new_package: NewPackage,
    source: Source,
) -> None:
    files = {PACKAGE: new_package("bookworm"), "/root/mqtt-kafka-bridge": source()}
    with new_machine("bookworm", [installed("bookworm")], files) as pi:
        wait_live(pi)
        settings, started = pi.read(SETTINGS), pi.show(UNIT, "InvocationID")
        refused = apt_install(pi, PACKAGE, status=100)
        assert f"sudo {INSTALLED_SH} uninstall" in refused
        assert (pi.show(UNIT, "InvocationID"), pi.show(UNIT, "StatusText")) == (started, "live")

        pi.run(INSTALLED_SH, "uninstall")
        apt_install(pi, PACKAGE)
        pi.run("systemctl", "enable", "--now", UNIT)
        wait_live(pi)
        assert pi.read(SETTINGS) == settings

        for command in (["bridge", *chain], ["upgrade"], ["rollback"], ["uninstall", "--purge", "--force"]):
            assert "the Debian package mqtt-kafka-bridge is installed" in pi.run(INSTALL, *command, status=1)
        assert pi.show(UNIT, "StatusText") == "live"


def left(pi: Machine) -> set[str]:
    """The bridge's files on the machine, apart from dpkg's own records."""
    return {name for name in test_service.left(pi) if not name.startswith("/var/lib/dpkg/")}


def rows(pi: Machine, settings: str) -> int:
    state = f"STATE_DIRECTORY=/var/lib/mqtt-kafka-bridge/{Path(settings).stem}"
    command = ("env", state, "mqtt-kafka-bridge", "spool", "status", "--json", "--config", settings)
    return int(json.loads(pi.run(*command))["rows"])
