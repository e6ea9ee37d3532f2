"""install.sh kafka on booted machines: three nodes with the founding addresses, and one alone."""

import contextlib
import hashlib
import itertools
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from confluent_kafka import KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from tests.artefacts import pages
from tests.harness import kit
from tests.harness.conditions import wait_until
from tests.harness.machine import Machine, debian_root
from tests.harness.records import records
from tests.harness.universe import Universe
from tests.harness.wall_clock import WallClock
from tests.integration.machines.conftest import (
    INSTALL,
    JARS,
    KAFKA_HERE,
    NOT_LIVE,
    SOURCE,
    Source,
    pack,
)

A, B, C = NODES = ("172.30.1.31", "172.30.1.32", "172.30.1.33")
BROKERS = ",".join(f"{node}:9092" for node in NODES)
PAGE = kit.ROOT / "docs" / "how-to" / "install-kafka.md"
THREE, PACK, CREATE, CERTIFICATES, SECURED, READ, ONE, STATUS, REPLACE, UPGRADE, UNINSTALL = (
    shlex.split(command.replace("sudo deploy/install.sh", INSTALL).replace("sudo ", ""))
    for command in pages.commands(PAGE)
)
(BRIDGE,) = pages.fenced(PAGE, "toml")
KAFKA = tuple(THREE)
ARCHIVE = ("--archive", JARS)
HOW = KAFKA_HERE
TOPICS = ("/opt/kafka/current/bin/kafka-topics.sh", "--bootstrap-server", BROKERS)
ALONE = "127.30.1.99"  # an address that no other test uses: this machine shares the network with them
SUITES = ("bookworm", "bookworm", "trixie")
DATA = "/var/lib/kafka/data"
# Undoes what a test has broken, one or the other way.
MENDS = f"""
umount /proc/meminfo; ip addr del {B}/24 dev eth0; systemctl stop 'run-*.service'
cd /root; rm -rf /usr/bin/java /opt/kafka /etc/systemd/system/kafka.service /var/lib/kafka
rm -rf k k.tgz half.tgz src.tgz kafka-4.4.0-src kafka_2.13-4.5.0.tgz libs changed.tgz {JARS}.sha512; true
"""
# Kafka starts sooner with the quick compiler alone: three starts share this machine's cores.
JAVA = """[Manager]
DefaultEnvironment="JDK_JAVA_OPTIONS=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""
SETTLED = ("/etc", "/opt", "/usr/local", "/var/lib/dpkg", "/root")
EVERYWHERE = (*SETTLED, "/var/lib/kafka")
FILES = {
    "/etc/kafka/server.properties": "640 root kafka",
    "/etc/kafka/log4j2.xml": "644 root root",
    "/etc/default/kafka": "644 root root",
    "/etc/systemd/system/kafka.service": "644 root root",
    "/opt/kafka/current": "777 root root",
    "/var/lib/kafka": "750 kafka kafka",
    "/var/lib/kafka/data/meta.properties": "644 kafka kafka",
}


@pytest.fixture(scope="session")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of Kafka 4.3, with a file that has its hash, as Apache publishes them."""
    archive = tmp_path_factory.mktemp("older") / "kafka_2.13-4.3.0.tgz"
    pack(kit.older_kafka_jars(), archive, "kafka_2.13-4.3.0/libs")
    digest = hashlib.sha512(archive.read_bytes()).hexdigest().upper()
    groups = [digest[at : at + 8] for at in range(0, 128, 8)]
    beside = f"{archive.name}: {' '.join(groups[:8])}\n{' ' * 22}{' '.join(groups[8:])}\n"
    archive.with_name(f"{archive.name}.sha512").write_text(beside)
    return archive.parent


@dataclass
class Pis:
    universe: Universe
    machines: list[Machine]
    new_card: Callable[[], Machine]  # boots a blank machine at the address of node 3


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates") / "tls"
    subprocess.run([kit.ROOT / CERTIFICATES[0], directory, *CERTIFICATES[2:]], check=True)
    return directory


@pytest.fixture(scope="module")
def universe() -> Iterator[Universe]:
    """A network with the founding addresses. A test enters it by `universe.inside()`."""
    with Universe() as universe:
        yield universe


@pytest.fixture(scope="module")
def machine(
    universe: Universe,
    source: Source,
    jars: Path,
    older: Path,
    certificates: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Machine]:
    """machine(1) is a machine with the address of node 1, not booted.

    The wall clock of its /root/clock is 26 hours ahead.
    """
    directory = tmp_path_factory.mktemp("machines")
    (java := directory / "java.conf").write_text(JAVA)
    (clock := directory / "clock").mkdir()
    WallClock(clock).set(hours=26)

    def create(number: int, name: str = "") -> Machine:
        host = universe.host(f"kafka{number}", 30 + number)
        files = {SOURCE: source(), JARS: jars, "/root/clock": clock, "/root/older": older}
        files["/etc/systemd/system.conf.d/java.conf"] = java
        return Machine(
            [debian_root(SUITES[number - 1])],
            directory,
            name=name or host.name,
            files={**files, f"{SOURCE}/kafka-tls": certificates / host.name},
            network=host.wires.namespace,
        )

    return create


@pytest.fixture(scope="module")
def machines(machine: Callable[..., Machine]) -> Iterator[list[Machine]]:
    """Three booted machines for all tests of this module. Only the last two tests leave Kafka on them."""
    with contextlib.ExitStack() as running:
        yield [running.enter_context(machine(number)) for number in (1, 2, 3)]


@pytest.fixture
def pis(universe: Universe, machine: Callable[..., Machine], machines: list[Machine]) -> Iterator[Pis]:
    """The three machines, without Kafka. They have Java if an earlier test has installed it."""
    with universe.inside(), contextlib.ExitStack() as running:
        for pi in machines:
            if not pi.is_on:
                pi.boot()
            remove_kafka(pi)
        yield Pis(universe, machines, lambda: running.enter_context(machine(3, "kafka3-new-card")))


def remove_kafka(pi: Machine) -> None:
    """Kafka is killed first: where no quorum is left, it stops only after minutes."""
    pi.run("systemctl", "kill", "--signal=KILL", "kafka", status=None)
    pi.run(*UNINSTALL, "--purge", "--force")


WRONG = {
    "no node": ("", ("--nodes", ""), "--nodes: needs a value"),
    "a port": (
        "",
        ("--nodes", f"{A}:9092"),
        f"--nodes {A}:9092: must be an address or a name, without a port",
    ),
    "twice the same": ("", ("--nodes", f"{A},{B},{A}"), f"--nodes names {A} twice"),
    "two nodes": ("", ("--nodes", f"{A},{B}"), "2 nodes endure no more failures than 1: give 1, 3 or 5"),
    "no address of this machine": (
        "",
        ("--nodes", "172.30.1.77"),
        f"none of --nodes 172.30.1.77 is this machine, which has {A}: correct them, or say which with --node",
    ),
    "two addresses of this machine": (
        f"ip addr add {B}/24 dev eth0",
        (),
        "nodes 1,2 of --nodes are both this machine: say which with --node",
    ),
    "a node that is none": ("", ("--node", "4"), f"--node 4 is not in --nodes {A},{B},{C}"),
    "an id that is none": ("", ("--cluster-id", "mine"), "--cluster-id mine: must have 22 letters, digits"),
    "a lost disk, and no other node": (
        "",
        ("--replace",),
        "no other node answers: --replace needs 2 that run, so start them first",
    ),
    "a lost disk of one node": (
        "",
        ("--nodes", A, "--replace"),
        "one node has no others that keep its messages",
    ),
    "force for nothing": ("", ("--force",), "kafka: --force: only with --replace"),
    "no certificate": ("", ("--tls", "/root/none"), "--tls /root/none: no such directory"),
    "users without a certificate": ("", ("--user", "bridge"), "--user bridge: needs --tls DIRECTORY too"),
    "a user that is none": ("", ("--user", "a b"), "--user a b: must have up to 100 letters, digits"),
    "a machine with 1 GB": (
        "echo 'MemTotal: 950000 kB' >/run/meminfo; mount --bind /run/meminfo /proc/meminfo",
        (),
        "Kafka needs a machine with 2 GB of memory, this one has 927 MB",
    ),
    "a heap beyond the memory": (
        "",
        ("--heap", "9000000"),
        "--heap 9000000: must be a number of MB from 128 to",
    ),
    "a port that is taken": (
        "systemd-run --quiet --service-type=exec python3 -m http.server 9093;"
        " timeout 60 bash -c 'until ss -Hltn sport = :9093 | grep -q .; do sleep 0.1; done'",
        (),
        'port 9093 is served by "python3", and Kafka needs it: stop that first',
    ),
    "an old Java": (
        r"""printf '#!/bin/sh\necho version \\"11.0.2\\" >&2\n' >/usr/bin/java"""
        "; chmod +x /usr/bin/java",
        (),
        "/usr/bin/java is version 11, Kafka needs 17",
    ),
    "another Kafka": ("mkdir -p /opt/kafka/libs", (), "/opt/kafka is not from install.sh"),
    "another Kafka's unit": (
        "echo '[Unit]' >/etc/systemd/system/kafka.service",
        (),
        "kafka.service is not from install.sh: this machine has another Kafka",
    ),
    "data of another cluster": (
        f"mkdir -p {DATA}; printf 'cluster.id=MkU3OEVBNTcwNTJENDM2Qg\\nnode.id=1\\n' >{DATA}/meta.properties",
        (),
        "to keep the data --cluster-id MkU3OEVBNTcwNTJENDM2Qg, to delete them first",
    ),
    "data of another node": (
        f"mkdir -p {DATA}; printf 'cluster.id=MkU3OEVBNTcwNTJENDM2Qg\\nnode.id=2\\n' >{DATA}/meta.properties",
        ("--cluster-id", "MkU3OEVBNTcwNTJENDM2Qg"),
        f"{DATA} is of node 2, and this would be node 1",
    ),
    "no archive": ("", ("--archive", "/root/none.tgz"), "--archive /root/none.tgz: no such file"),
    "half an archive": (
        f"head -c 100000 {JARS} >/root/half.tgz",
        ("--archive", "/root/half.tgz"),
        "damaged, or no .tgz: download it again",
    ),
    "an archive of the sources": (
        "cd /root; mkdir kafka-4.4.0-src; tar -czf src.tgz kafka-4.4.0-src",
        ("--archive", "/root/src.tgz"),
        "take kafka_2.13-VERSION.tgz, not the sources",
    ),
    "an archive of an old version": (
        "cd /root; mkdir -p k/libs; touch k/libs/kafka_2.13-3.9.1.jar; tar -czf k.tgz k",
        ("--archive", "/root/k.tgz"),
        "Kafka 3.9.1, and these settings are for 4.3.0 and newer",
    ),
    "an archive without a known hash": (
        "cd /root; mkdir -p k/libs; touch k/libs/kafka_2.13-4.5.0.jar; tar -czf kafka_2.13-4.5.0.tgz k",
        ("--archive", "/root/kafka_2.13-4.5.0.tgz"),
        "https://downloads.apache.org/kafka/4.5.0/kafka_2.13-4.5.0.tgz.sha512, or put that file beside it",
    ),
    "an archive with another hash": (
        "",
        ("--sha512", "12" * 64),
        "not 1212121212121212...: do not install it",
    ),
    "an archive with another hash in Apache's file": (
        f"echo 'jars.tgz: {'AB ' * 32}' >{JARS}.sha512; echo '{' ' * 10}{'CD ' * 32}' >>{JARS}.sha512",
        (),
        "not abababababababab...: do not install it",
    ),
    "one jar changed": (
        "cd /root; tar -xzf jars.tgz; echo >>libs/re2j-1.8.jar; tar -czf changed.tgz libs",
        ("--archive", "/root/changed.tgz"),
        "no SHA-512 is known for changed.tgz",
    ),
}


def test_what_is_wrong_is_said_in_one_line_before_anything_is_changed(machines: list[Machine]) -> None:
    pi = machines[0]
    for name, (breaks, options, why) in WRONG.items():
        if breaks:
            pi.shell(f"set -e; {breaks}")
        before = pi.tree(*EVERYWHERE)
        said = pi.run(*KAFKA, *ARCHIVE, *options, status=None)
        lines = [line for line in said.splitlines() if not line.startswith("note: ")]
        changed = {path for path, _ in before.items() ^ pi.tree(*EVERYWHERE).items()}
        assert (len(lines), changed) == (1, set()), f"{name}: {said}"
        assert lines[0].startswith("install.sh: "), f"{name}: {said}"
        assert why in lines[0], f"{name}: {said}"
        pi.shell(MENDS)


def test_the_heap_suits_the_memory(machines: list[Machine]) -> None:
    pi = machines[0]
    pi.shell("touch /run/meminfo; mount --bind /run/meminfo /proc/meminfo")
    for memory, heap in ((1_850_000, 512), (3_880_000, 1024), (8_010_000, 2048)):
        pi.shell(f"echo 'MemTotal: {memory} kB' >/run/meminfo")
        assert f"with a heap of {heap} MB, node 1 of 3" in pi.run(*KAFKA, *ARCHIVE, "--dry-run")
    pi.shell("umount /proc/meminfo")


def test_a_node_that_cannot_be_installed_leaves_the_machine_as_it_was(machines: list[Machine]) -> None:
    pi = machines[1]
    users = pi.read("/etc/passwd")
    pi.write("/etc/apt/apt.conf.d/90-retries", 'Acquire::Retries "0";\n')  # Debian 13 waits between its three
    pi.shell("mv /var/cache/apt/archives/*.deb /var/tmp")
    said = pi.run(*KAFKA, *HOW, status=1)
    assert "no network, which is needed to download packages" in said
    assert (pi.read("/etc/passwd"), left(pi)) == (users, set())

    pi.shell("mv /var/tmp/*.deb /var/cache/apt/archives")
    said = pi.run(*KAFKA, *HOW, *a_version_that_does_not_run(pi), status=1)
    assert "could not find or load main class" in said.lower(), said
    assert "putting everything back ... as it was before" in said
    assert (pi.read("/etc/passwd"), left(pi)) == (users, set())
    assert pi.show("kafka", "LoadState") == "not-found"


def a_version_that_does_not_run(pi: Machine) -> tuple[str, ...]:
    pi.shell("cd /root; mkdir -p k/libs; touch k/libs/kafka_2.13-4.5.0.jar; tar -czf kafka_2.13-4.5.0.tgz k")
    digest = pi.run("sha512sum", "/root/kafka_2.13-4.5.0.tgz").split()[0]
    return "--archive", "/root/kafka_2.13-4.5.0.tgz", "--sha512", digest


def test_a_node_is_found_by_its_name_by_ipv6_and_by_being_told(
    universe: Universe, machines: list[Machine]
) -> None:
    pi = machines[1]
    pi.shell("echo 127.0.1.1 pi6 >>/etc/hosts; ip addr add fd00::33/64 dev eth0 nodad")

    def install(nodes: str, *options: str) -> str:
        said = pi.run(INSTALL, "kafka", "--nodes", nodes, *options, *HOW)
        return said + pi.run(*STATUS, status=None)

    # Debian's /etc/hosts has 127.0.1.1 for a machine's own name, and others could not connect to that.
    assert "node 1     pi6: up, leads the controllers, this machine" in install("pi6")
    assert pi.run("ss", "-Hltn", "sport = :9092").split()[3].rpartition(":")[0] in ("0.0.0.0", "*")
    pi.run(*UNINSTALL, "--purge")
    assert "node 1     fd00::33: up, leads the controllers, this machine" in install("fd00::33")
    assert pi.run("ss", "-Hltn", "sport = :9092").split()[3] == "[fd00::33]:9092"

    # What has no partitions is purged without a question. What was not purged is taken up again.
    pi.run(*UNINSTALL)
    assert left(pi) == {"/etc/kafka", "/var/lib/kafka"}
    assert "format" not in install("fd00::33")
    pi.run(*UNINSTALL, "--purge")
    assert left(pi) == set()
    network = universe.host("kafka2", 32).wires.namespace
    network.ip("ntable change name arp_cache dev eth0 retrans 100")  # no answer after 0.3 s, not after 3 s
    with universe.cable_out(universe.kafka[0]):
        network.ip("neighbour flush all")  # an earlier test may have made A known
        said = install(f"{A},{B},pi6", "--node", "2")
    assert f"node 2 of 3: {B}" in said
    assert "it waits for the others" in said
    assert f"{A}:9093: not in the network. Is the node on, and the address right?" in said, said
    remove_kafka(pi)
    pi.shell("sed -i '$d' /etc/hosts; ip addr del fd00::33/64 dev eth0")


@pytest.fixture
def lone_pi_online(source: Source, tmp_path: Path) -> Iterator[Machine]:
    """A booted machine that shares this machine's network, for Maven."""
    with Machine([debian_root("trixie")], tmp_path, files={SOURCE: source()}) as machine:
        yield machine


def test_one_node_takes_its_jars_from_maven(lone_pi_online: Machine) -> None:
    pi = lone_pi_online
    one = (*(ALONE if word == A else word for word in ONE), "--heap", "256", "--wait", "240")
    said = pi.run(*one, timeout=900.0)
    assert "its jars from Maven Central" in said
    pi.run("env", "-C", "/root", *PACK)
    said = pi.run(*STATUS)
    assert f"node 1     {ALONE}: up, leads the controllers, this machine" in said
    bootstrap = ("--bootstrap-server", f"{ALONE}:9092")
    pi.run("/opt/kafka/current/bin/kafka-topics.sh", *bootstrap, "--create", "--topic", "mqtt")
    wait_until(lambda: "partitions 3, of which 3 here" in status(pi), 30.0, lambda: status(pi))
    settings = pi.read("/etc/kafka/server.properties")
    assert "\nmin.insync.replicas=1\n" in settings
    assert "\nlog.flush.interval.messages=1\n" in settings  # no other node has a copy
    pi.run(f"{SOURCE}/deploy/make-certificates", "/root/tls", f"pi={ALONE}")
    assert "settings and unit, changed" in pi.run(*one, "--tls", "/root/tls/pi")
    assert "whoever reaches port 9092 may" in status(pi)
    assert "security   TLS, with a certificate until" in status(pi)
    refused = pi.run(*UNINSTALL, "--purge", status=1)
    assert "3 partitions are (mqtt-0, mqtt-1, mqtt-2) in sync on no other node; --force purges" in refused
    pi.run(*UNINSTALL, "--purge", "--force")
    assert left(pi) == set()
    assert f"from {Path(JARS).name}" in pi.run(*one, *ARCHIVE)


def test_three_machines_become_a_cluster_that_survives_one_and_a_second_run_changes_nothing(pis: Pis) -> None:
    one, two, three = machines = pis.machines

    before = one.tree(*EVERYWHERE)
    said = one.run(*KAFKA, *HOW, "--dry-run")
    assert said.count("would: ") >= 7, said
    assert one.tree(*EVERYWHERE) == before

    said = one.run(*KAFKA, *HOW)
    assert "it waits for the others" in said, said
    assert f"{B}:9093: nothing listens there. Does Kafka run on that node?" in said
    assert f"{C}:9093: nothing listens there" in said
    assert "node 1 of 3" in said
    one.run(*STATUS, status=NOT_LIVE)

    # A firewall between the first two: only its owner can open it.
    one.run("ip", "route", "add", "blackhole", f"{B}/32")
    said = two.run(*KAFKA, *HOW)
    assert f"{A}:9093: no answer. Is the node on, and no firewall in the way?" in said, said
    one.run("ip", "route", "del", "blackhole", f"{B}/32")
    wait_until(lambda: status(two).count(": up") == 2, 120.0, lambda: status(two))

    for wrong, why in (
        (("--cluster-id", "MkU3OEVBNTcwNTJENDM2Qg"), "the other nodes are the cluster "),
        (("--nodes", f"{A},{C},{B}"), f"node 2 runs already, at {B}; this one would be {C}"),
        (("--node", "2"), f"node 2 runs already, at {B}, and this machine has none of its data: two nodes"),
        (("--node", "2", "--replace"), f"node 2 runs already, at {B}, and this machine has none of its data"),
    ):
        assert why in three.run(*KAFKA, *HOW, *wrong, status=1)
    ahead = {"LD_PRELOAD": "/root/clock/wall_clock.so", "WALL_CLOCK": "/root/clock/wall_clock"}
    said = three.run(*KAFKA, *HOW, status=1, env=ahead)
    assert "this clock is 26 hours ahead of that of node" in said, said
    assert "kafka" not in three.read("/etc/passwd")

    said = three.run(*KAFKA, *HOW)
    assert "wait until it is in sync" in said, said
    assert "next: deploy/install.sh bridge" in said, said
    assert f"--kafka {BROKERS}" in said
    for pi in machines:
        said = pi.run(*STATUS)
        assert said.count(": up") == 3, said
        assert "log.flush" not in pi.read("/etc/kafka/server.properties")
        assert "all replicas in sync" in said
        assert permissions(pi) == FILES
        exposed = pi.run("systemd-analyze", "security", "--threshold=20", "--no-pager", "kafka")
        assert "Overall exposure level" in exposed
        assert pi.shell("systemd-analyze verify /etc/systemd/system/kafka.service 2>&1") == ""
        assert "Kafka Server started" in pi.journal("kafka")
        assert "Kafka Server started" not in pi.run("journalctl", "-u", "kafka", "-p", "warning")
        assert "Fatal error" not in pi.journal("kafka")  # not even while the first one waited

    three.run("runuser", "-u", "nobody", "--", *TOPICS, "--create", "--topic", "mqtt")
    described = two.run(*TOPICS, "--describe", "--topic", "mqtt")
    assert "PartitionCount: 3\tReplicationFactor: 3\tConfigs: min.insync.replicas=2" in described, described
    produce("1")
    assert values() == ["1"]
    for pi in machines:
        before, started = pi.tree(*SETTLED), pi.show("kafka", "InvocationID")
        said = pi.run(*KAFKA, *HOW)
        assert "..." not in said, f"it made a step: {said}"
        assert "it runs, and is in sync" in said
        assert pi.tree(*SETTLED) == before
        assert pi.show("kafka", "InvocationID") == started

    # A person's own settings stay, and other settings of ours restart Kafka.
    two.shell("echo log.retention.hours=24 >>/etc/kafka/server.properties")
    assert "changed" not in two.run(*KAFKA, *HOW)
    two.shell("echo log.retention.bytes=999999999999 >>/etc/kafka/server.properties")
    assert "so many partitions can fill the disk" in two.run(*STATUS)
    two.shell("sed -i '$d' /etc/kafka/server.properties")
    assert "can fill the disk" not in two.run(*STATUS)
    said = two.run(*KAFKA, *HOW, "--heap", "300")
    assert "settings and unit, changed" in said
    assert "-Xmx300m" in two.read("/etc/default/kafka")
    assert two.read("/etc/kafka/server.properties").endswith("log.retention.hours=24\n")

    with pis.universe.cable_out(pis.universe.kafka[2]):
        three.power_cut()
        produce("2")
        refused = two.run(*KAFKA, *HOW, status=1)  # the heap again
        assert "Kafka is not restarted while that is so" in refused, refused
        wait_until(lambda: "away" in status(one), 60.0, lambda: status(one))
        one.run(*STATUS, status=NOT_LIVE)
        assert "-Xmx300m" in two.read("/etc/default/kafka")
    three.boot()
    wait_until(lambda: in_sync(three), 120.0, lambda: status(three))
    assert values() == ["1", "2"]

    three.run(*UNINSTALL, "--purge")
    assert left(three) == set()
    assert "kafka" not in three.read("/etc/passwd")
    assert values() == ["1", "2"]
    two.run("systemctl", "stop", "kafka")
    refused = one.run(*UNINSTALL, "--purge", status=1)
    assert "--force purges them all the same" in refused
    assert one.show("kafka", "ActiveState") == "active"


def test_a_cluster_with_users_is_upgraded_and_a_dead_card_replaced_and_nothing_is_lost_or_doubled(
    pis: Pis, certificates: Path, tmp_path: Path
) -> None:
    one, two, three = machines = pis.machines
    from_older = ("--archive", "/root/older/kafka_2.13-4.3.0.tgz", "--heap", "256", "--wait", "240")
    secured = ("env", "-C", SOURCE, *SECURED)

    said = one.run(*secured, *from_older)
    assert "run this command on the others; the user bridge is created then" in said, said
    refused = two.run(*KAFKA, *from_older, status=1)
    assert f"{A}:9093: that node has TLS: give --tls DIRECTORY here too" in refused, refused
    said = two.run(*secured, *from_older)
    password = said.partition("The password, shown only now:\n")[2].split()[0]
    login = bridge_as_the_page_says(tmp_path, certificates, password)
    assert "user bridge is there already" in three.run(*secured, *from_older)
    for pi in machines:
        wait_until(lambda pi=pi: in_sync(pi), 120.0, lambda pi=pi: status(pi))  # type: ignore[misc]
        assert pi.shell(f"grep -rlF -e {password} /var/log /etc /var/lib/kafka /run 2>&-", status=None) == ""
        assert "security   TLS, with a certificate until " in status(pi)
        assert pi.run("stat", "--format=%a %U %G", *SECRETS).splitlines() == [
            "750 root kafka",
            "640 root kafka",
        ]
    said = three.run(*SECURED[:-4], *from_older)
    assert "..." not in said, f"without its options it made a step: {said}"
    said = three.run(*SECURED[:-4], "--user", "oven", *from_older)
    assert "user oven, who may write to each topic, and create it" in said
    assert "changed" not in said

    said = bridge(CREATE[1:], tmp_path, "--yes")
    assert "mqtt" in said, said
    with pytest.raises(KafkaException):  # not everybody may
        AdminClient({"bootstrap.servers": BROKERS, "log_level": 0}).list_topics(timeout=3.0)
    one.run(*READ)
    assert values(login) == []
    assert "kafka upgrade --archive" in one.run(*secured, *HOW, status=1)

    upgrade = (*UPGRADE, *ARCHIVE, "--wait", "240")  # the page's archive is Apache's
    three.run("systemctl", "stop", "kafka")
    wait_until(lambda: "away" in status(one), 60.0, lambda: status(one))
    refused = one.run(*upgrade, status=1)
    assert "node 3, 172.30.1.33, is away: Kafka is not restarted while that is so" in refused, refused
    three.run("systemctl", "start", "kafka")
    wait_until(lambda: in_sync(one), 120.0, lambda: status(one))

    broken = a_version_that_does_not_run(one)
    said = one.run(*UPGRADE, *broken, "--wait", "240", status=1)
    assert "putting everything back ... as it was before" in said, said
    assert one.run("ls", "/opt/kafka").split() == ["4.3.0", "current"]
    wait_until(lambda: in_sync(one), 120.0, lambda: status(one))

    with Load(login) as load:
        for pi in machines:
            said = pi.run(*upgrade)
            assert "from 4.3.0 to 4.4.0" in said, said
            assert (
                ":9094 --command-config /etc/kafka/client.properties upgrade --release-version 4.4" in said
            ), said
            wait_until(lambda: in_sync(one) and in_sync(three), 120.0, lambda: status(one))
    assert "version    4.4.0" in status(two)
    assert load.failed == []
    assert values(login) == sorted(load.delivered)
    assert "4.4.0 is in force already" in two.run(*upgrade)

    features = ("/opt/kafka/current/bin/kafka-features.sh", "--bootstrap-server", f"{A}:9094")
    one.run(
        *features, "--command-config", "/etc/kafka/client.properties", "upgrade", "--release-version", "4.4"
    )
    wait_until(lambda: in_sync(one), 60.0, lambda: status(one))

    with Load(login, first=len(load.delivered)) as later:
        three.power_cut()
        wait_until(lambda: "away" in status(one), 60.0, lambda: status(one))
        blank = pis.new_card()
        before = blank.tree(*EVERYWHERE)
        refused = blank.run(*secured, *HOW, status=1)
        assert len([line for line in refused.splitlines() if not line.startswith("note: ")]) == 1, refused
        assert "none of its data: if its disk is lost, add --replace" in refused, refused
        assert blank.tree(*EVERYWHERE) == before
        said = blank.run(*REPLACE, "--tls", f"{SOURCE}/kafka-tls", "--user", "bridge", *HOW)
        assert "format /var/lib/kafka/data" in said, said
        assert in_sync(blank), status(blank)
        assert "it runs, and is in sync" in blank.run(*REPLACE, *HOW)
    assert later.failed == []
    assert values(login) == sorted([*load.delivered, *later.delivered])

    # The new card has all of it: without another node, node 3 and node 1 serve it.
    two.power_cut()
    wait_until(lambda: "away" in status(one), 60.0, lambda: status(one))
    assert values(login) == sorted([*load.delivered, *later.delivered])
    blank.run(*UNINSTALL, "--purge", "--force")
    assert left(blank) == set()


SECRETS = ("/etc/kafka/tls", "/etc/kafka/tls/node.pem")


def bridge_as_the_page_says(directory: Path, certificates: Path, password: str) -> dict[str, str]:
    """Write the settings of the page. The result is what librdkafka needs to log in."""
    certificate, file = certificates / "kafka1" / "ca.crt", directory / "kafka-password"
    file.write_text(f"{password}\n")
    file.chmod(0o600)
    text = BRIDGE.replace("/etc/mqtt-kafka-bridge/tls/kafka-ca.crt", str(certificate))
    text = text.replace("/etc/mqtt-kafka-bridge/kafka-password", str(file))
    (directory / "bridge.toml").write_text(text)
    options = dict(re.findall(r'^((?:security|sasl)\.\w+) = "(.*)"$', BRIDGE, re.MULTILINE))
    return {**options, "ssl.ca.location": str(certificate), "sasl.password": password}


def bridge(command: Sequence[str], directory: Path, *options: str) -> str:
    """Run a command of the bridge with the settings of the page."""
    words = [sys.executable, "-m", "bridge", *command, *options, "--config", directory / "bridge.toml"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=kit.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Load:
    """100 messages a second, each different, inside the `with` block."""

    def __init__(self, login: Mapping[str, str], first: int = 0) -> None:
        self._login, self._first = login, first
        self.delivered: list[str] = []
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        options = {"bootstrap.servers": BROKERS, "enable.idempotence": True, "log_level": 0}
        producer = Producer({**options, **self._login, "message.timeout.ms": 300_000})
        for number in itertools.count(self._first):
            if self._stop.wait(0.01):
                break
            producer.produce("mqtt", f"{number:06}".encode(), on_delivery=self._settle)
            producer.poll(0)
        producer.flush(300.0)

    def _settle(self, error: object, message: Message) -> None:
        (self.failed if error else self.delivered).append(message.value().decode())


def in_sync(pi: Machine) -> bool:
    with contextlib.suppress(AssertionError):
        return "all replicas in sync" in pi.run(*STATUS)
    return False


def status(pi: Machine) -> str:
    return pi.run(*STATUS, status=None)


def permissions(pi: Machine) -> dict[str, str]:
    lines = pi.run("stat", "--format=%n\t%a %U %G", *FILES).splitlines()
    return dict(line.split("\t") for line in lines)  # type: ignore[misc]


def left(pi: Machine) -> set[str]:
    """Kafka's files on the machine, without the clone and what apt keeps."""
    return set(pi.shell("find /etc /opt /usr/local /var/lib -xdev -name '*kafka*' -prune").splitlines())


def produce(value: str) -> None:
    failed: list[object] = []
    producer = Producer({"bootstrap.servers": BROKERS, "acks": "all", "log_level": 0})
    producer.produce("mqtt", value.encode(), on_delivery=lambda error, _: failed.append(error))
    producer.flush(120.0)
    assert failed == [None]


def values(login: Mapping[str, str] | None = None) -> list[str]:
    return sorted(each.value.decode() for each in records(BROKERS, "mqtt", login=login))
