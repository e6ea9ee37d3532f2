"""docs/how-to/one-pi.md as a newcomer walks it: each command of the page, in its order, on a bare Debian.

The machine is booted and alone in its network.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artefacts import pages
from tests.harness import kit
from tests.harness.conditions import wait_until
from tests.harness.machine import Machine, debian_root, wheels
from tests.harness.netns import Namespace
from tests.integration.machines.conftest import (
    JARS,
    KAFKA_HERE,
    SOURCE,
    WHEELS,
    Source,
    apt_install,
    on,
    says_that_all_works,
)

PAGE = kit.ROOT / "docs" / "how-to" / "one-pi.md"
(UPDATE, INSTALL_MOSQUITTO, RESTART, KAFKA, INSTALL, CREATE, ENABLE, CHECK, PUBLISH, CONSUME, WEAR) = (
    pages.commands(PAGE)
)
LISTENER = "/etc/mosquitto/conf.d/bridge.conf"
ORDER = "/etc/systemd/system/mqtt-kafka-bridge.service.d/override.conf"  # what `systemctl edit` writes


@pytest.fixture
def pi(source: Source, jars: Path, tmp_path: Path) -> Iterator[Machine]:
    """A Debian with the page's packages."""
    clone = {SOURCE: source(), WHEELS[1]: wheels(), JARS: jars}
    with (
        contextlib.closing(Namespace()) as network,
        Machine(
            [_with_packages(tmp_path), debian_root("bookworm")], tmp_path, files=clone, network=network
        ) as pi,
    ):
        yield pi


def _with_packages(directory: Path) -> Path:
    # The machine has this machine's network here, for apt; mosquitto must not start in it.
    with Machine([debian_root("bookworm")], directory, name="packages") as machine:
        machine.run("systemctl", "mask", "mosquitto")
        on(machine, UPDATE, clone="/root")
        on(machine, INSTALL_MOSQUITTO, "--yes", clone="/root")
        apt_install(machine, "default-jre-headless", "--no-install-recommends")
        machine.run("systemctl", "unmask", "mosquitto")
        machine.shut_down()
    return machine.written


def test_each_command_of_the_page_runs_as_it_stands_and_a_message_arrives(pi: Machine) -> None:
    (listener,), (order,) = pages.fenced(PAGE, "text"), pages.fenced(PAGE, "ini")

    name = pi.run("hostname").strip()
    pi.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n")  # as Debian's installer does
    pi.write(LISTENER, listener)
    on(pi, RESTART)
    assert "wait until it is in sync" in on(pi, KAFKA, *KAFKA_HERE)

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
    shown = on(pi, CONSUME, "--count", "1")
    assert re.fullmatch(r"mqtt/\d@0 \| sensors/kitchen/temp \| .* \| 21\.5\n", shown), shown

    # systemd starts Kafka again if it dies, and a stop is no failure.
    pi.run("systemctl", "kill", "--signal=KILL", "kafka")
    wait_until(
        lambda: pi.show("kafka", "NRestarts") == "1" and pi.run("ss", "-Hltn", "sport = :9092"),
        60.0,
        lambda: pi.journal("kafka"),
    )
    assert on(pi, CONSUME, "--count", "1") == shown
    pi.run("systemctl", "stop", "kafka")
    assert (pi.show("kafka", "ExecMainStatus"), pi.show("kafka", "ActiveState")) == ("143", "inactive")
