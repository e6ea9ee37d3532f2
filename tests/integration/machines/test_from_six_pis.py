"""The tutorial for six Pis: its commands are taken from the page and run in its order on booted machines."""

import re
import shlex
import subprocess
from string import Template

from tests.artefacts import pages
from tests.harness.conditions import wait_until
from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.machine import Machine
from tests.harness.records import records
from tests.integration.machines.conftest import TOPIC, WHEELS, NewMachine, on
from tests.integration.machines.test_haproxy import NODE

PAGE = ROOT / "docs" / "tutorial" / "from-six-pis.md"
SECTIONS = dict(re.findall(r"^## (\d)\. (.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))
COMMANDS = {number: pages.commands_in(text) for number, text in SECTIONS.items()}

UNIT_FILE = "/etc/systemd/system/kafka.service"
# Ends as Java does, and says that it is there once it would.
KAFKA_START = """#!/bin/sh
trap 'exit 143' TERM
touch /var/lib/kafka/here /opt/kafka/logs/here || exit 1
sleep infinity &
wait
"""


def test_no_command_is_left_out() -> None:
    assert {number: len(commands) for number, commands in COMMANDS.items() if commands} == {
        "2": 3,
        "4": 1,
        "5": 3,
        "6": 2,
    }


def test_the_settings_of_kafka_are_those_of_all_tests() -> None:
    (shown,) = pages.fenced(PAGE, "properties")
    ours = dict(
        line.split("=", 1)
        for line in (ROOT / "tests" / "harness" / "kafka" / "server.properties").read_text().splitlines()
        if line and not line.startswith("#")
    )
    for line in shown.splitlines():
        name, value = line.split("=", 1)
        own = Template(ours[name]).safe_substitute(replicas=3, in_sync=2, address="172.30.1.31")
        assert value == own or name in ("node.id", "controller.quorum.voters", "log.dirs"), line


def test_step_2_makes_kafka_a_service_that_comes_back(lone_pi: Machine) -> None:
    user, directories, enable = COMMANDS["2"]
    (unit,) = pages.fenced(PAGE, "ini")
    ((program, settings),) = re.findall(r"^ExecStart=(\S+) (\S+)$", unit, re.MULTILINE)
    assert f"`{settings}`" in SECTIONS["2"]
    lone_pi.run("mkdir", "-p", "/opt/kafka/bin")
    lone_pi.write(program, KAFKA_START)
    lone_pi.run("chmod", "755", program)
    lone_pi.write(UNIT_FILE, unit)
    on(lone_pi, user)
    on(lone_pi, directories)
    assert lone_pi.shell(f"systemd-analyze verify {UNIT_FILE} 2>&1") == ""

    on(lone_pi, enable)
    written = ("/var/lib/kafka/here", "/opt/kafka/logs/here")
    wait_until(lambda: lone_pi.run("ls", *written, status=None).split() == sorted(written), 30.0, "it writes")
    assert lone_pi.run("stat", "--format=%U", "/var/lib/kafka/here").strip() == "kafka"
    assert lone_pi.run("systemctl", "is-enabled", "kafka").strip() == "enabled"

    lone_pi.run("systemctl", "kill", "--signal=KILL", "kafka")
    wait_until(
        lambda: (lone_pi.show("kafka", "NRestarts"), lone_pi.show("kafka", "SubState")) == ("1", "running"),
        30.0,
        "it was started again",
    )
    lone_pi.run("systemctl", "stop", "kafka")
    assert lone_pi.show("kafka", "ExecMainStatus") == "143"
    assert lone_pi.show("kafka", "ActiveState") == "inactive"


def test_step_4_puts_haproxy_before_both_nodes(lone_pi: Machine) -> None:
    """The nodes are on this machine too, so not at port 1883, which is HAProxy's."""
    (command,) = COMMANDS["4"]
    for address in ("172.30.1.25", "172.30.1.9"):
        assert f" {address}" in command
        lone_pi.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        lone_pi.run("systemd-run", "--quiet", "--service-type=exec", "python3", "-c", NODE, address)
    said = on(lone_pi, re.sub(r"(172[.\d]+)", r"\1:2883", command))
    assert said.count("answers as a broker") == 2, said


def test_steps_5_and_6_bring_a_message_to_kafka(
    chain: list[str], new_machine: NewMachine, haproxy: HAProxy, kafka: KafkaCluster
) -> None:
    here = {number: [each.replace("172.30.1.", "127.30.2.") for each in COMMANDS[number]] for number in "56"}
    install, check, status = here["5"]
    publish, dry_run = here["6"]
    with new_machine("bookworm") as pi:
        assert on(pi, install, *WHEELS).count("good    ") == 6
        assert on(pi, check).count("good    ") == 6
        assert "live" in on(pi, status)
        subprocess.run(shlex.split(publish), check=True, timeout=30)
        wanted = (b"sensors/kitchen/temp", b"21.5")
        wait_until(
            lambda: wanted in [(each.key, each.value) for each in records(kafka.bootstrap, TOPIC)],
            30.0,
            "the message is in Kafka",
        )
        with Devices(haproxy.host.address, DEVICES, rate=20):
            assert "not produced" in on(pi, dry_run)
