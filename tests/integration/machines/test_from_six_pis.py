"""The tutorial for six Pis: runs each of its commands, taken from the page, in the page's order.

Pis 3 to 6 are booted machines with the founding addresses. EMQX is not available here: the harness simulates
EMQ on Pis 1 and 2.
"""

import contextlib
import itertools
import re
from pathlib import Path

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
from tests.integration.machines.conftest import (
    JARS,
    KAFKA_HERE,
    SOURCE,
    TOPIC,
    WHEELS,
    Source,
    apt_install,
    on,
    says_that_all_works,
)

PAGE = kit.ROOT / "docs" / "tutorial" / "from-six-pis.md"
SECTIONS = dict(re.findall(r"^## (\d)\. (.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL))
COMMANDS = {number: pages.commands_in(text) for number, text in SECTIONS.items()}
KAFKA, KAFKA_STATUS, CREATE = COMMANDS["2"]
(HAPROXY,) = COMMANDS["4"]
INSTALL, CHECK, STATUS = COMMANDS["5"]
UPDATE, MOSQUITTO, PUBLISH, CONSUME, DRY_RUN = COMMANDS["6"]
LOG, STOP, COUNT, START = COMMANDS["7"]

BROKERS = "172.30.1.31:9092,172.30.1.32:9092,172.30.1.33:9092"


def test_what_the_page_shows_are_commands_and_files() -> None:
    assert re.findall(r"^```(\w+)$", PAGE.read_text(), re.MULTILINE) == ["erlang"]
    assert [number for number, commands in COMMANDS.items() if not commands] == ["1", "3"]


def test_from_six_pis_to_messages_in_kafka_and_what_happens_when(
    source: Source, jars: Path, tmp_path: Path
) -> None:
    prepared = with_packages(tmp_path)
    clone = {SOURCE: source(), WHEELS[1]: wheels(), JARS: jars}
    with Universe() as universe, universe.inside(), contextlib.ExitStack() as running:

        def boot(host: Wired, *layers: Path, suite: str = "bookworm") -> Machine:
            roots, network = [*layers, debian_root(suite)], host.wires.namespace
            machine = Machine(roots, tmp_path, name=host.name, files=clone, network=network)
            return running.enter_context(machine)

        pi3 = boot(universe.host("haproxy", 10))
        pi4 = boot(universe.host("kafka1", 31))
        pi5 = boot(universe.host("kafka2", 32), prepared)
        pi6 = boot(universe.host("kafka3", 33), suite="trixie")
        emq = running.enter_context(TwoDoors(universe, tmp_path))

        kafka_is_set_up(pi4, pi5, pi6)
        assert on(pi3, HAPROXY).count("answers as a broker") == 2
        assert says_that_all_works(on(pi4, INSTALL, *WHEELS))
        assert says_that_all_works(on(pi4, CHECK))
        assert "live" in on(pi4, STATUS)

        publish(pi5, "21.5")
        wait_until(lambda: in_kafka() == ["21.5"], 30.0, "the message is in Kafka")
        assert "sensors/kitchen/temp\t21.5\n" in on(pi5, CONSUME, "--max-messages", "1")
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
            on(pi, STOP)
            assert (pi.show("kafka", "ExecMainStatus"), pi.show("kafka", "ActiveState")) == (
                "143",
                "inactive",
            )
        for value in "345":
            publish(pi5, value)
        wait_until(lambda: "3 messages" in on(pi4, COUNT), 60.0, lambda: on(pi4, COUNT))
        for pi in (pi4, pi5):
            on(pi, START)
        everything = ["21.5", "1", "2", "3", "4", "5"]
        wait_until(lambda: in_kafka() == everything, 90.0, lambda: f"what waited is in Kafka: {in_kafka()}")
        assert "live" in on(pi4, STATUS)


def with_packages(directory: Path) -> Path:
    """A layer for Pi 5: mosquitto-clients as on the page, and Java, which must fit apt's new lists."""
    with Machine([debian_root("bookworm")], directory, name="packages") as machine:
        on(machine, UPDATE, clone="/root")
        on(machine, MOSQUITTO, "--yes", clone="/root")
        apt_install(machine, "default-jre-headless", "--no-install-recommends")
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
    """Run step 2, and check that systemd restarts a service that dies."""
    assert "it waits for the others" in on(pis[0], KAFKA, *KAFKA_HERE)
    for pi in pis[1:]:
        assert "wait until it is in sync" in on(pi, KAFKA, *KAFKA_HERE)
    wait_until(lambda: nodes() == {1, 2, 3}, 90.0, lambda: f"Kafka is complete: {pis[0].journal('kafka')}")
    assert on(pis[0], KAFKA_STATUS).count(": up") == 3
    on(pis[0], CREATE)

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
