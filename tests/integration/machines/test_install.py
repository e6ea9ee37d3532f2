"""install.sh bridge on a clean booted Debian: which files it leaves, and what a second run does."""

import json
import re

import pytest

from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.machine import Machine
from tests.integration.machines.conftest import (
    INSTALL,
    SOURCE,
    UNIT,
    WHEELS,
    NewMachine,
    assert_what_is_sent_arrives_once,
    says_that_all_works,
)

# The files that it installs, without Python packages: mode, owner, group.
FILES = {
    "/etc/mqtt-kafka-bridge": "750 root mqtt-kafka-bridge",
    "/etc/mqtt-kafka-bridge/bridge.toml": "640 root mqtt-kafka-bridge",
    "/etc/credstore": "700 root root",
    "/etc/profile.d/mqtt-kafka-bridge.sh": "644 root root",
    "/usr/local/bin/mqtt-kafka-bridge": "777 root root",
    "/usr/local/lib/systemd/system/mqtt-kafka-bridge.service": "644 root root",
    "/usr/local/lib/systemd/system/mqtt-kafka-bridge@.service": "644 root root",
    "/usr/local/lib/sysusers.d/mqtt-kafka-bridge.conf": "644 root root",
    "/usr/local/lib/tmpfiles.d/mqtt-kafka-bridge.conf": "644 root root",
    "/var/lib/mqtt-kafka-bridge": "700 mqtt-kafka-bridge mqtt-kafka-bridge",
    "/var/log/mqtt-kafka-bridge-install.log": "640 root root",
    "/opt/mqtt-kafka-bridge/current": "777 root root",
}
EVERYWHERE = ("/etc", "/opt", "/usr", "/var/lib/mqtt-kafka-bridge", "/root")


@pytest.fixture
def pi(new_machine: NewMachine) -> Machine:
    return new_machine("bookworm")


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_clean_machine_gets_a_live_bridge_and_a_second_run_changes_nothing(
    chain: list[str], new_machine: NewMachine, haproxy: HAProxy, kafka: KafkaCluster, suite: str
) -> None:
    with new_machine(suite) as pi:
        said = pi.run(INSTALL, "bridge", *chain)
        assert says_that_all_works(said), said
        assert pi.show(UNIT, "StatusText") == "live"
        assert pi.run("systemctl", "is-enabled", UNIT) == "enabled\n"

        assert_what_is_sent_arrives_once(haproxy, kafka)

        before, started = pi.tree(*EVERYWHERE), pi.show(UNIT, "InvocationID")
        again = pi.run(INSTALL, "bridge", *chain)
        assert "..." not in again, f"it made a step: {again}"
        assert pi.tree(*EVERYWHERE) == before
        assert pi.show(UNIT, "InvocationID") == started

        assert permissions(pi, FILES) == FILES
        assert pi.shell("find /opt/mqtt-kafka-bridge ! -type l -perm /022") == ""
        assert levels(pi.journal(UNIT)) <= {"info", "warning"}
        assert "active, live, since" in pi.run(INSTALL, "status")


def test_people_of_the_group_see_the_settings_and_what_would_be_produced_without_sudo(
    chain: list[str], pi: Machine, haproxy: HAProxy
) -> None:
    with pi, Devices(haproxy.host.address, DEVICES, rate=20):
        pi.run(INSTALL, "bridge", *chain, *WHEELS)
        pi.run("useradd", "--groups", UNIT, "--shell", "/bin/bash", "--create-home", "anna")
        pi.run("useradd", "--shell", "/bin/bash", "--create-home", "otto")
        login = ("runuser", "-l", "anna", "-c")

        assert pi.run(*login, "command -v bridge") == "/opt/mqtt-kafka-bridge/current/bin/bridge\n"
        assert pi.run(*login, "bridge --version") == pi.run("mqtt-kafka-bridge", "--version")
        assert 'topic = "mqtt"' in pi.run(*login, "bridge config")
        assert len(pi.run(*login, "bridge --dry-run --json --count 2").splitlines()) >= 2
        # Scripts and services read no profile: for them `bridge` is iproute2's command.
        assert pi.run("sh", "-c", "command -v bridge") == "/usr/sbin/bridge\n"
        assert "permission denied" in pi.run("runuser", "-l", "otto", "-c", "bridge config", status=2)


def test_a_dry_run_says_each_step_and_changes_nothing(chain: list[str], pi: Machine) -> None:
    with pi:
        before = pi.tree(*EVERYWHERE)
        said = pi.run(INSTALL, "bridge", *chain, "--dry-run")
        assert said.count("would: ") >= 6, said
        assert pi.tree(*EVERYWHERE) == before
        pi.run("test", "!", "-e", "/var/log/mqtt-kafka-bridge-install.log")


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        pytest.param("rm /root/wheels/paho*", "no package for this Python", id="a package is missing"),
        pytest.param(
            "echo changed >>/root/wheels/$(cd /root/wheels; echo paho*)",
            "do not install it",
            id="a changed package",
        ),
        pytest.param(
            f"echo nonsense >>{SOURCE}/bridge/app.py", "does not run", id="a version that does not run"
        ),
        pytest.param("mkdir /usr/local/bin/mqtt-kafka-bridge", "failed", id="a directory in the way"),
    ],
)
def test_an_installation_that_fails_says_why_and_leaves_the_machine_as_it_was(
    chain: list[str], pi: Machine, breaks: str, said: str
) -> None:
    with pi:
        pi.shell(breaks)
        before, users = names(pi), pi.read("/etc/passwd")
        failed = pi.run(INSTALL, "bridge", *chain, *WHEELS, "--wait", "20", status=1)
        assert said in failed
        assert names(pi) == before, failed
        assert pi.read("/etc/passwd") == users
        assert pi.show(UNIT, "LoadState") == "not-found"


def test_a_broken_chain_is_no_failure_but_is_said_link_by_link(
    chain: list[str], pi: Machine, kafka: KafkaCluster
) -> None:
    with pi:
        nobody = ["--mqtt", "127.0.0.1:1", "--kafka", kafka.bootstrap]
        said = pi.run(INSTALL, "bridge", *nobody, *WHEELS, "--wait", "5", status=3)
        assert re.search(r"FAILED  mqtt\.tcp +127\.0\.0\.1:1: Connection refused", said), said
        assert pi.show(UNIT, "StatusText") == "waiting for the broker at 127.0.0.1"
        assert pi.show(UNIT, "ActiveState") == "active"


def permissions(pi: Machine, files: dict[str, str]) -> dict[str, str]:
    lines = pi.run("stat", "--format=%n\t%a %U %G", *files).splitlines()
    return dict(line.split("\t") for line in lines)  # type: ignore[misc]


def names(pi: Machine) -> set[str]:
    """Every file that a removal could leave behind."""
    return set(pi.tree("/etc", "/opt", "/usr/local", "/var/lib", "/run/systemd/system"))


def levels(journal: str) -> set[str]:
    return {json.loads(line)["level"] for line in journal.splitlines() if line.startswith("{")}
