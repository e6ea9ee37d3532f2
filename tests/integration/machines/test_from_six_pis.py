"""The tutorial for six Pis: runs each of its commands, taken from the page, in the page's order.

Pis 3 to 6 are booted machines with the founding addresses. EMQX and Kafka's archive are not available here:
the harness simulates EMQ on Pis 1 and 2, and replacements of Kafka's scripts start the same programs from the
same jars.
"""

import contextlib
import itertools
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from string import Template

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.artefacts import pages
from tests.harness import kit
from tests.harness.brokers import TwoDoors
from tests.harness.conditions import NotInTime, wait_until
from tests.harness.devices import Devices
from tests.harness.machine import CommandFailed, Machine, debian_root, wheels
from tests.harness.records import records
from tests.harness.universe import Machine as Wired
from tests.harness.universe import Universe
from tests.integration.machines.conftest import SOURCE, TOPIC, WHEELS, Source, on, says_that_all_works

PAGE = kit.ROOT / "docs" / "tutorial" / "from-six-pis.md"
SECTIONS = dict(re.findall(r"^## (\d)\. (.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))
COMMANDS = {number: pages.commands_in(text) for number, text in SECTIONS.items()}
UPDATE, JAVA, UNPACK, RENAME, USER, DIRECTORIES, CLUSTER_ID, FORMAT, ENABLE, CREATE = COMMANDS["2"]
(HAPROXY,) = COMMANDS["4"]
INSTALL, CHECK, STATUS = COMMANDS["5"]
PUBLISH, CONSUME, DRY_RUN = COMMANDS["6"]
LOG, STOP, COUNT, START = COMMANDS["7"]

BROKERS = "172.30.1.31:9092,172.30.1.32:9092,172.30.1.33:9092"
UNIT_FILE = "/etc/systemd/system/kafka.service"
# Kafka's scripts, and the class that each starts.
SCRIPTS = {
    "kafka-server-start.sh": "kafka.Kafka",
    "kafka-storage.sh": "kafka.tools.StorageTool",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
}
SCRIPT = """#!/bin/sh
exec java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 $KAFKA_HEAP_OPTS -cp '/opt/kafka/libs/*' {} "$@"
"""

at_kafka = partial(on, clone="/opt/kafka")  # Kafka's machines need no clone


def test_what_the_page_shows_are_commands_and_files() -> None:
    assert re.findall(r"^```(\w+)$", PAGE.read_text(), re.MULTILINE) == ["properties", "ini", "erlang"]
    assert [number for number, commands in COMMANDS.items() if not commands] == ["1", "3"]


def test_the_settings_of_kafka_are_those_of_all_tests() -> None:
    (shown,) = pages.fenced(PAGE, "properties")
    ours = dict(
        line.split("=", 1)
        for line in (kit.ROOT / "tests" / "harness" / "kafka" / "server.properties").read_text().splitlines()
        if line and not line.startswith("#")
    )
    for line in shown.splitlines():
        name, value = line.split("=", 1)
        own = Template(ours[name]).safe_substitute(replicas=3, in_sync=2, address="172.30.1.31")
        assert value == own or name in ("node.id", "controller.quorum.voters", "log.dirs"), line


def test_from_six_pis_to_messages_in_kafka_and_what_happens_when(source: Source, tmp_path: Path) -> None:
    unpacked = with_java_and_kafka(tmp_path)
    clone = {SOURCE: source(), WHEELS[1]: wheels()}
    with Universe() as universe, universe.inside(), contextlib.ExitStack() as running:

        def boot(host: Wired, *layers: Path, files: dict[str, Path] | None = None) -> Machine:
            roots, network = [*layers, debian_root("bookworm")], host.wires.namespace
            machine = Machine(roots, tmp_path, name=host.name, files=files, network=network)
            return running.enter_context(machine)

        pi3 = boot(universe.host("haproxy", 10), files=clone)
        pi4 = boot(universe.host("kafka1", 31), unpacked, files=clone)
        pi5, pi6 = (boot(universe.host(f"kafka{n}", 30 + n), unpacked) for n in (2, 3))
        emq = running.enter_context(TwoDoors(universe, tmp_path))

        kafka_is_set_up(pi4, pi5, pi6)
        assert on(pi3, HAPROXY).count("answers as a broker") == 2
        assert says_that_all_works(on(pi4, INSTALL, *WHEELS))
        assert says_that_all_works(on(pi4, CHECK))
        assert "live" in on(pi4, STATUS)

        publish(pi5, "21.5")
        wait_until(lambda: in_kafka() == ["21.5"], 30.0, "the message is in Kafka")
        assert "sensors/kitchen/temp\t21.5\n" in at_kafka(pi5, CONSUME, "--max-messages", "1")
        with Devices("172.30.1.10", rate=20, topic="sensors/cellar/temp"):
            assert on(pi4, DRY_RUN).count("sensors/cellar/temp -> mqtt | ") == 3

        with universe.power_cut(emq.node(node_of_the_bridge(pi3))):
            publish(pi5, "1")
            wait_until(
                lambda: re.search(r"mqtt\.closed.*mqtt\.live", on(pi4, LOG), re.DOTALL),
                60.0,
                lambda: on(pi4, LOG),
            )
        with universe.cable_out(universe.kafka[2]):
            pi6.power_cut()
            publish(pi5, "2")
            wait_until(
                lambda: in_kafka() == ["21.5", "1", "2"], 60.0, lambda: f"both are in Kafka: {in_kafka()}"
            )
        pi6.boot()
        wait_until(all_in_sync, 90.0, lambda: f"all three are in sync again: {pi6.journal('kafka')}")

        for pi in (pi4, pi5):
            at_kafka(pi, STOP)
            assert (pi.show("kafka", "ExecMainStatus"), pi.show("kafka", "ActiveState")) == (
                "143",
                "inactive",
            )
        for value in "345":
            publish(pi5, value)
        wait_until(lambda: "3 messages" in on(pi4, COUNT), 60.0, lambda: on(pi4, COUNT))
        for pi in (pi4, pi5):
            at_kafka(pi, START)
        everything = ["21.5", "1", "2", "3", "4", "5"]
        wait_until(lambda: in_kafka() == everything, 90.0, lambda: f"what waited is in Kafka: {in_kafka()}")
        assert "live" in on(pi4, STATUS)


def with_java_and_kafka(directory: Path) -> Path:
    """A layer for machines: the page's packages, and the unpacked replacement of Kafka's archive."""
    content = directory / "kafka_2.13-4.4.0"
    shutil.copytree(kit.kafka_jars(), content / "libs")
    (content / "config").mkdir()
    (content / "bin").mkdir()
    for name, program in SCRIPTS.items():
        (content / "bin" / name).write_text(SCRIPT.format(program))
        (content / "bin" / name).chmod(0o755)
    archive = directory / f"{content.name}.tgz"
    subprocess.run(["tar", "-czf", archive, "-C", directory, content.name], check=True)
    machine = Machine(
        [debian_root("bookworm")], directory, name="unpacked", files={f"/root/{archive.name}": archive}
    )
    with machine:
        on(machine, UPDATE)
        on(machine, JAVA, "--yes")
        for command in (UNPACK, RENAME):
            on(machine, command, clone="/root")
        machine.shut_down()
    return machine.written


def node_of_the_bridge(balancer: Machine) -> int:
    """The EMQ node that HAProxy has connected the bridge to. Short-lived health checks do not count."""

    def only_one() -> str:
        sockets = balancer.run("ss", "-Hnt", "state", "established", "dport = :1883")
        found = {line.split()[3].rpartition(":")[0] for line in sockets.splitlines()}
        return found.pop() if len(found) == 1 else ""

    return 1 if wait_until(only_one, 30.0, "the bridge alone is connected") == "172.30.1.25" else 2


def kafka_is_set_up(*pis: Machine) -> None:
    """Run step 2 without Java, and check that systemd restarts a service that dies."""
    (unit,), (properties,) = pages.fenced(PAGE, "ini"), pages.fenced(PAGE, "properties")
    (settings,) = re.findall(r"^ExecStart=\S+ (\S+)$", unit, re.MULTILINE)
    assert f"`{settings}`" in SECTIONS["2"]
    cluster_id = at_kafka(pis[0], CLUSTER_ID).strip()
    for number, pi in enumerate(pis, 1):
        own = re.sub(r"^node\.id=1$", f"node.id={number}", properties, flags=re.MULTILINE)
        for listeners in re.findall(r"^.*listeners=.*$", own, re.MULTILINE):
            own = own.replace(listeners, listeners.replace("172.30.1.31", f"172.30.1.3{number}"))
        at_kafka(pi, USER)
        at_kafka(pi, DIRECTORIES)
        pi.write(settings, own)
        pi.write(UNIT_FILE, unit)
        assert pi.shell(f"systemd-analyze verify {UNIT_FILE} 2>&1") == ""
        at_kafka(pi, FORMAT.replace("THE-ID", cluster_id))
        at_kafka(pi, ENABLE)
        assert pi.run("systemctl", "is-enabled", "kafka").strip() == "enabled"
        assert pi.run("stat", "--format=%U", "/var/lib/kafka/meta.properties").strip() == "kafka"
    wait_until(lambda: nodes() == {1, 2, 3}, 90.0, lambda: f"Kafka is complete: {pis[0].journal('kafka')}")
    at_kafka(pis[0], CREATE)

    pis[2].run("systemctl", "kill", "--signal=KILL", "kafka")
    wait_until(
        lambda: pis[2].show("kafka", "NRestarts") == "1" and all_in_sync(),
        90.0,
        lambda: f"it was started again: {pis[2].journal('kafka')}",
    )


def publish(pi: Machine, value: str) -> None:
    """Publish, and retry like a user while HAProxy has not yet noticed that a node is gone."""
    command = PUBLISH.replace("21.5", value)

    def published() -> bool:
        with contextlib.suppress(CommandFailed):
            on(pi, f"timeout 5 {command}")
            return True
        return False

    wait_until(published, 30.0, f"{value} is published")


def in_kafka() -> list[str]:
    """The values of this sensor, in order; none while a partition has no leader.

    Repeated values in a row count once: a retried publish may have succeeded the first time.
    """
    with contextlib.suppress(KafkaException, NotInTime):
        found = [
            each.value.decode() for each in records(BROKERS, TOPIC) if each.key == b"sensors/kitchen/temp"
        ]
        return [value for value, _ in itertools.groupby(found)]
    return []


def nodes() -> set[int]:
    with contextlib.suppress(KafkaException):
        return set(_admin().list_topics(timeout=2.0).brokers)
    return set()


def all_in_sync() -> bool:
    with contextlib.suppress(KafkaException):
        partitions = _admin().list_topics(TOPIC, timeout=2.0).topics[TOPIC].partitions.values()
        return all(set(each.isrs) == {1, 2, 3} for each in partitions)
    return False


def _admin() -> AdminClient:
    return AdminClient({"bootstrap.servers": BROKERS, "log_level": 0, "error_cb": lambda _: None})
