"""docs/how-to/one-pi.md as a newcomer walks it: each command of the page, in its order, on a bare Debian.

The machine is booted and alone in its network. Kafka's archive is not available here: replacements of its
scripts start the same programs from the same jars.
"""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artefacts import pages
from tests.harness import kit
from tests.harness.conditions import wait_until
from tests.harness.machine import Machine, debian_root, wheels
from tests.harness.netns import Namespace
from tests.integration.machines import test_from_six_pis as six_pis
from tests.integration.machines.conftest import SOURCE, WHEELS, Source, on, says_that_all_works

PAGE = kit.ROOT / "docs" / "how-to" / "one-pi.md"
(UPDATE, INSTALL_MOSQUITTO, RESTART, INSTALL, CREATE, ENABLE, CHECK, PUBLISH, CONSUME, WEAR) = pages.commands(
    PAGE
)
LISTENER = "/etc/mosquitto/conf.d/bridge.conf"
ORDER = "/etc/systemd/system/mqtt-kafka-bridge.service.d/override.conf"  # what `systemctl edit` writes


@pytest.fixture
def pi(source: Source, tmp_path: Path) -> Iterator[Machine]:
    """A Debian with the page's packages and Kafka's archive unpacked, not set up."""
    clone = {SOURCE: source(), WHEELS[1]: wheels()}
    with (
        contextlib.closing(Namespace()) as network,
        Machine(
            [_with_packages(tmp_path), debian_root("bookworm")], tmp_path, files=clone, network=network
        ) as pi,
    ):
        yield pi


def _with_packages(directory: Path) -> Path:
    content = directory / "kafka_2.13-4.4.0"
    shutil.copytree(kit.kafka_jars(), content / "libs")
    for name in ("config", "bin"):
        (content / name).mkdir()
    for name, program in six_pis.SCRIPTS.items():
        (content / "bin" / name).write_text(six_pis.SCRIPT.format(program))
        (content / "bin" / name).chmod(0o755)
    archive = directory / f"{content.name}.tgz"
    subprocess.run(["tar", "-czf", archive, "-C", directory, content.name], check=True)
    files = {f"/root/{archive.name}": archive}
    # The machine has this machine's network here, for apt; mosquitto must not start in it.
    with Machine([debian_root("bookworm")], directory, name="packages", files=files) as machine:
        machine.run("systemctl", "mask", "mosquitto")
        on(machine, UPDATE, clone="/root")
        on(machine, INSTALL_MOSQUITTO, "--yes", clone="/root")
        for command in (six_pis.UNPACK, six_pis.RENAME):
            on(machine, command, clone="/root")
        machine.run("systemctl", "unmask", "mosquitto")
        machine.shut_down()
    return machine.written


def test_each_command_of_the_page_runs_as_it_stands_and_a_message_arrives(pi: Machine) -> None:
    (listener,), (properties,) = pages.fenced(PAGE, "text"), pages.fenced(PAGE, "properties")
    (order,), (unit,) = pages.fenced(PAGE, "ini"), pages.fenced(six_pis.PAGE, "ini")

    name = pi.run("hostname").strip()
    pi.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n")  # as Debian's installer does
    pi.write(LISTENER, listener)
    on(pi, RESTART)
    for command in (six_pis.USER, six_pis.DIRECTORIES):
        six_pis.at_kafka(pi, command)
    pi.write("/opt/kafka/config/server.properties", properties)
    pi.write(six_pis.UNIT_FILE, unit)
    cluster_id = six_pis.at_kafka(pi, six_pis.CLUSTER_ID).strip()
    six_pis.at_kafka(pi, six_pis.FORMAT.replace("THE-ID", cluster_id))
    six_pis.at_kafka(pi, six_pis.ENABLE)
    wait_until(lambda: "9092" in pi.run("ss", "-Hltn"), 90.0, lambda: f"Kafka listens: {pi.journal('kafka')}")

    on(pi, INSTALL, *WHEELS)
    assert "created   mqtt" in on(pi, CREATE, "--yes")
    on(pi, ENABLE)
    pi.run("mkdir", "-p", str(Path(ORDER).parent))
    pi.write(ORDER, order)
    pi.run("systemctl", "daemon-reload")
    pi.run("systemctl", "restart", "mqtt-kafka-bridge")
    said = on(pi, CHECK)
    assert says_that_all_works(said) or re.search(r"^The chain works, with warnings", said, re.MULTILINE), (
        said
    )
    assert "HAProxy" not in said

    on(pi, PUBLISH)
    shown = on(pi, CONSUME, "--max-messages", "1")
    assert "sensors/kitchen/temp\t21.5\n" in shown
