"""Kafka's files of deploy/: the lock, the settings, and what cluster.py concludes from what brokers tell."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template
from types import ModuleType

import pytest

from tests.harness import kit

KAFKA = kit.ROOT / "deploy" / "kafka"
LOCK = (kit.ROOT / "deploy" / "kafka.lock").read_text()
VERSION = re.findall(r"<artifactId>kafka_2.13</artifactId>\s*<version>(.*)<", (KAFKA / "pom.xml").read_text())
NODES = {1: "pi4", 2: "pi5", 3: "pi6"}


def test_the_lock_has_the_jars_that_maven_takes() -> None:
    jars = sorted(kit.kafka_jars().glob("*.jar"))
    wanted = [f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}" for jar in jars]
    locked = [line for line in LOCK.splitlines() if not line.startswith("#") and len(line.split()[0]) == 64]
    assert locked == wanted, "write these lines into deploy/kafka.lock:\n" + "\n".join(wanted)
    assert f"kafka_2.13-{VERSION[0]}.jar" in LOCK


def test_all_parts_of_kafka_have_one_version() -> None:
    text = (KAFKA / "pom.xml").read_text()
    parts = re.findall(r"<groupId>org.apache.kafka</groupId>\s*<artifactId>.*\s*<version>(.*)<", text)
    assert set(parts) == set(VERSION)


def test_each_setting_has_its_reason() -> None:
    text = "\n\n".join(file.read_text() for file in sorted(KAFKA.glob("*.properties")))
    groups = text.split("\n\n")
    assert [group for group in groups if "=" in group and not re.search(r"^# ", group, re.MULTILINE)] == []


def test_the_settings_are_those_with_which_the_project_is_tested() -> None:
    """All but those that differ from machine to machine, and the memory of a tiny broker."""
    places = {"replicas": "@REPLICAS@", "in_sync": "@IN_SYNC@", "address": "@BIND@"}
    tested = {
        name: Template(value).safe_substitute(places)
        for name, value in settings(kit.ROOT / "tests" / "harness" / "kafka" / "server.properties").items()
    }
    ours = settings(KAFKA / "server.properties") | settings(KAFKA / "plain.properties")
    differ = {name for name in ours.keys() & tested.keys() if ours[name] != tested[name]}
    own = {"node.id", "controller.quorum.voters", "advertised.listeners", "log.dirs"}
    assert differ == own | {"log.cleaner.dedupe.buffer.size"}


def settings(file: Path) -> dict[str, str]:
    lines = (line for line in file.read_text().splitlines() if line and line[0] not in "#@")
    return dict(line.split("=", 1) for line in lines)  # type: ignore[misc]


def test_the_cluster_id_is_the_same_on_each_node_and_no_option_of_kafkas_commands() -> None:
    assert re.fullmatch(r"[\w-]{22}", cluster_id("pi4", "pi5", "pi6"))
    assert (
        cluster_id("pi4", "pi5", "pi6") == cluster_id("pi6", "pi4", "pi5") != cluster_id("pi4", "pi5", "pi7")
    )
    # "-", as base64 has it for 62, is the first character of one id in 64.
    hyphen = next(
        name for name in map(str, range(10_000)) if hashlib.sha256(name.encode()).digest()[0] >> 2 == 62
    )
    assert re.fullmatch(r"\w[\w-]{21}", cluster_id(hyphen))


def cluster_id(*nodes: str) -> str:
    script = f'set -eu; . {kit.ROOT}/deploy/install/kafka_checks.sh; NODES=("$@"); cluster_id'
    done = subprocess.run(["bash", "-c", script, "bash", *nodes], capture_output=True, text=True, check=True)
    return done.stdout.strip()


# -- cluster.py ----------------------------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(KAFKA))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("cluster", "protocol"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import cluster

    return cluster


class Brokers:
    """What each node would tell: `up` nodes are registered, partitions have these replicas in sync."""

    def __init__(
        self, cluster: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._cluster, self._capsys = cluster, capsys
        self.differs = ""
        self.protocol = cluster.protocol
        self.brokers = dict(NODES)
        self.in_sync: list[Sequence[int]] = [(1, 2, 3)]
        self.identifier = "the cluster"
        self.clock = 1000.0
        self.lag: dict[int, float] = {}
        self.away: dict[int, str] = {}
        self.ends = {1: 100, 2: 100, 3: 100}
        self.directories = dict.fromkeys(NODES, bytes(16))
        self.answer = True
        monkeypatch.setattr(cluster.protocol, "cluster", self._tell)
        monkeypatch.setattr(cluster.protocol, "quorum", self._tell_quorum)
        monkeypatch.setattr(cluster.protocol, "connected", self._connect)
        monkeypatch.setattr(cluster.protocol, "differs", lambda host, certificate: self.differs)
        monkeypatch.setattr(cluster.time, "time", lambda: 1000.0)

    def ask(self, command: str, node: int = 3, *more: str) -> tuple[int, str]:
        listed = ",".join(f"{number}@{host}" for number, host in NODES.items())
        status = self._cluster.main(command, listed, str(node), *more)
        return status, self._capsys.readouterr().out

    def _connect(self, host: str, port: int) -> object:
        raise self.protocol.Unreachable(f"{host}:{port} is away")

    def _tell(self, host: str, certificate: object) -> object:
        if not self.answer or host not in self.brokers.values():
            raise self.protocol.Unreachable
        partitions = [
            self.protocol.Partition("mqtt", number, 1, (1, 2, 3), tuple(replicas))
            for number, replicas in enumerate(self.in_sync)
        ]
        return self.protocol.Cluster(self.identifier, self.brokers, partitions, self.away)

    def _tell_quorum(self, host: str, certificate: object) -> object:
        caught_up = {node: self.clock - self.lag.get(node, 0.0) for node in NODES}
        return self.protocol.Quorum(1, self.clock, caught_up, 100, self.ends, self.directories)


@pytest.fixture
def brokers(
    cluster: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Brokers:
    return Brokers(cluster, monkeypatch, capsys)


def test_a_node_may_start_in_its_own_cluster_and_where_nobody_answers(brokers: Brokers) -> None:
    assert brokers.ask("before", 3, "the cluster", "kept") == (0, "")
    del brokers.brokers[3]
    assert brokers.ask("before", 3, "the cluster", "new") == (0, "")
    brokers.answer = False
    assert brokers.ask("before", 3, "another", "new") == (0, "")


def test_a_node_does_not_start_in_another_cluster_or_under_an_id_that_is_taken(brokers: Brokers) -> None:
    status, said = brokers.ask("before", 3, "another", "new")
    assert (status, "--cluster-id the cluster" in said) == (1, True)
    for disk in ("new", "lost"):
        status, said = brokers.ask("before", 3, "the cluster", disk)
        assert (status, "two nodes cannot have one id" in said) == (1, True)
    brokers.brokers[3] = "elsewhere"
    status, said = brokers.ask("before", 3, "the cluster", "kept")
    assert (status, "node 3 runs already, at elsewhere" in said) == (1, True)


def test_a_node_does_not_start_with_the_other_nodes_in_another_order(brokers: Brokers) -> None:
    brokers.brokers[1], brokers.brokers[2] = NODES[2], NODES[1]
    status, said = brokers.ask("before", 3, "the cluster", "kept")
    assert (status, "node 1 runs at pi5, and --nodes has pi4 in its place" in said) == (1, True)
    brokers.brokers = {**NODES, 4: "pi7"}
    status, said = brokers.ask("before", 3, "the cluster", "kept")
    assert (status, said) == (1, "the cluster has a node 4, at pi7, which is not in --nodes\n")


def test_a_node_that_cannot_talk_to_the_others_is_not_started(brokers: Brokers) -> None:
    brokers.answer, brokers.differs = False, "pi4:9093: that node has TLS"
    assert brokers.ask("before", 3, "the cluster", "new") == (1, "pi4:9093: that node has TLS\n")


# -- a lost disk ---------------------------------------------------------------------------------------


@pytest.fixture
def lost(brokers: Brokers) -> Brokers:
    """Node 3 was a member, and has lost its disk."""
    del brokers.brokers[3]
    brokers.away = {3: "pi6"}
    brokers.in_sync = [(1, 2)]
    return brokers


def test_a_member_starts_with_an_empty_disk_only_if_a_person_says_that_its_disk_is_lost(
    lost: Brokers,
) -> None:
    status, said = lost.ask("before", 3, "the cluster", "new")
    assert (status, said.count("\n"), said.endswith("if its disk is lost, add --replace\n")) == (1, 1, True)
    assert lost.ask("before", 3, "the cluster", "lost") == (0, "")


def test_it_starts_only_if_a_majority_of_the_others_has_the_whole_log(lost: Brokers) -> None:
    lost.lag[2] = 60.0
    status, said = lost.ask("before", 3, "the cluster", "lost")
    assert (status, said.count("\n")) == (1, 1)
    assert "needs 2 other nodes whose controllers have caught up, and node 2, pi5, has not" in said
    lost.lag.clear()
    lost.ends[2] = 99
    assert lost.ask("before", 3, "the cluster", "lost")[0] == 1
    lost.answer = False
    status, said = lost.ask("before", 3, "the cluster", "lost")
    assert (status, "--replace needs 2 that run, so start them first" in said) == (1, True)


def test_what_was_in_sync_on_the_lost_disk_alone_is_given_up_only_if_a_person_says_so(lost: Brokers) -> None:
    lost.in_sync = [(1, 2), (3,), ()]
    status, said = lost.ask("before", 3, "the cluster", "lost")
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith("2 partitions are (mqtt-1, mqtt-2) in sync on no other node")
    assert lost.ask("before", 3, "the cluster", "lost", "force") == (0, "")


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        (1000.0 + 86400 * 3, "3 days behind"),
        (1000.0 - 7200, "2 hours ahead of"),
        (1000.0 + 90, "90 s behind"),
    ],
)
def test_a_clock_that_differs_is_said(brokers: Brokers, clock: float, said: str) -> None:
    brokers.clock = clock
    assert brokers.ask("before", 3, "the cluster", "kept") == (
        1,
        f"this clock is {said} that of node 1: timedatectl shows why\n",
    )


def test_a_node_is_a_member_once_its_controller_and_its_replicas_have_caught_up(brokers: Brokers) -> None:
    assert brokers.ask("joined") == (0, "")
    brokers.lag[3] = 60.0
    assert brokers.ask("joined") == (1, "the controller of node 3 has not caught up yet\n")
    brokers.lag.clear()
    brokers.in_sync = [(1, 2, 3), (1, 2)]
    assert brokers.ask("joined") == (1, "1 partition is (mqtt-1) not in sync yet on node 3, of 2 there\n")
    assert brokers.ask("joined", 2) == (0, "")


def test_a_new_disk_takes_the_place_of_the_lost_one_in_a_quorum_that_knows_directories(
    brokers: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[object] = []
    monkeypatch.setattr(brokers.protocol, "remove_voter", lambda *words: done.append(words[2:]) or "")
    monkeypatch.setattr(brokers.protocol, "add_voter", lambda *words: done.append(words[2:]) or "")
    own = "AAAAAAAAAAAAAAAAAAAAAQ"  # Kafka's form of 15 zeros and a 1
    assert brokers.ask("join", 3, own) == (0, "")
    assert done == []
    brokers.directories = {1: b"1" * 16, 2: b"2" * 16, 3: b"3" * 16}
    assert brokers.ask("join", 3, own) == (1, "")
    assert done == [(3, b"3" * 16), (3, bytes(15) + b"\1", "pi6")]
    del brokers.directories[3]  # it was removed, and something failed then
    assert brokers.ask("join", 3, own) == (1, "")
    assert done[2:] == [(3, bytes(15) + b"\1", "pi6")]
    brokers.directories[3] = bytes(15) + b"\1"
    assert brokers.ask("join", 3, own) == (0, "")


def test_no_node_restarts_while_another_is_away_or_behind(brokers: Brokers) -> None:
    assert brokers.ask("whole") == (0, "")
    brokers.in_sync = [(1, 2)] * 4
    assert brokers.ask("whole") == (
        1,
        "4 partitions are (mqtt-0, mqtt-1, mqtt-2 ...) under-replicated\n",
    )
    brokers.in_sync = []
    del brokers.brokers[2]
    assert brokers.ask("whole") == (1, "node 2, pi5, is away\n")
    brokers.answer = False
    assert brokers.ask("whole") == (1, "no broker answers\n")


def test_the_last_replica_in_sync_is_kept(brokers: Brokers) -> None:
    brokers.in_sync = [(1, 2, 3), (3, 1)]
    assert brokers.ask("last") == (0, "")
    brokers.in_sync = [(1, 2, 3), (3,)]
    assert brokers.ask("last") == (1, "1 partition is (mqtt-1) in sync on no other node\n")
    # Kafka 4.4 with a topic that has one replica, on node 1, after node 1 had stopped.
    del brokers.brokers[3]
    brokers.in_sync = [(1, 2), ()]
    assert brokers.ask("last") == (1, "1 partition is (mqtt-1) in sync on no other node\n")
    brokers.answer = False
    status, said = brokers.ask("last")
    assert (status, "nobody knows" in said) == (1, True)


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-B", KAFKA / "cluster.py", "last", "1@127.0.0.1", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) in ((0, ""), (1, ""))
