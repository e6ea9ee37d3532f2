"""bridge topics: says what exists with what, and creates what is missing; with 3 brokers and with 1."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation

from bridge.errors import BridgeError
from bridge.kafka import error_verdicts, transactional_cluster
from bridge.kafka.topic_admin import Shape, TopicAdmin
from bridge.settings import KafkaSettings
from tests.harness.bridge import toml
from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.integration.access_rules import allow, grant

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def topics(tmp_path: Path) -> Run:
    """topics("--create", kafka={...}, topic=[...]) runs `bridge topics` with a route for each topic."""

    def run(
        *flags: str, kafka: dict[str, Any], topic: list[str], dead_letters: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        tables = {
            "state_directory": tmp_path,
            "mqtt": {"host": "nobody.invalid"},
            "kafka": kafka,
            "routes": [
                {"name": f"r{number}", "filter": f"t{number}", "topic": each}
                for number, each in enumerate(topic)
            ],
            **({"dead_letters": {"topic": dead_letters}} if dead_letters else {}),
        }
        file = tmp_path / "bridge.toml"
        file.write_text(toml(tables))
        command = [sys.executable, "-m", "bridge", "topics", "--config", str(file), *flags]
        return subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    return run


def objects(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {found["topic"]: found for found in map(json.loads, done.stdout.splitlines())}


# -- three brokers -----------------------------------------------------------------------------------------


def test_what_is_missing_is_listed_then_created_with_two_of_three_replicas_in_sync(
    topics: Run, kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    there = new_topic(partitions=2, config={"max.message.bytes": 20_000, "retention.ms": 3_600_000})
    given: dict[str, Any] = {
        "kafka": {"bootstrap_servers": kafka.bootstrap},
        "topic": [there, "topics.new"],
        "dead_letters": "topics.dead",
    }

    listed = topics(**given)

    assert (listed.returncode, listed.stderr) == (1, "")
    lines = listed.stdout.splitlines()
    assert lines[0].startswith(f"exists    {there}")
    assert lines[0].endswith(
        "  2 partitions, 3 replicas, min.insync.replicas 2, max.message.bytes 20000, kept for 1h"
    )
    assert lines[1].split() == ["missing", "topics.new", "route", '"r1"']
    assert lines[2].split() == ["missing", "topics.dead", "dead_letters.topic"]
    (advice,) = lines[3:]
    assert advice.startswith("2 topics are missing; this creates them: ")
    command = advice.partition("them: ")[2]
    assert command.startswith(f"{Path(sys.executable).with_name('bridge')} topics --create --config /")
    assert "topics.new" not in kafka.admin.list_topics(timeout=10).topics

    refused = topics("--create", **given)

    assert refused.returncode == 2
    assert "add --yes" in refused.stderr
    assert "topics.new" not in kafka.admin.list_topics(timeout=10).topics

    created = topics("--create", "--yes", **given)

    assert created.returncode == 0, created.stderr
    assert "creates 2 topics with 3 partitions, 3 replicas and min.insync.replicas 2:" in created.stderr
    assert [line.split()[:2] for line in created.stdout.splitlines()[3:]] == [
        ["created", "topics.new"],
        ["created", "topics.dead"],
    ]
    again = topics("--create", "--json", **given)
    assert again.returncode == 0
    found = objects(again)
    assert {each["state"] for each in found.values()} == {"exists"}
    shape = ("partitions", "replicas", "in_sync", "min_insync_replicas")
    assert [found["topics.new"][key] for key in shape] == [3, 3, 3, 2]
    assert [found["topics.dead"][key] for key in shape] == [3, 3, 3, 2]
    assert [found[there][key] for key in shape] == [2, 3, 3, 2]


def test_a_broker_that_is_down_costs_a_new_topic_no_replica(topics: Run, kafka: KafkaCluster) -> None:
    given: dict[str, Any] = {"kafka": {"bootstrap_servers": kafka.bootstrap}, "topic": ["topics.two.up"]}
    with kafka.node(3).dead():
        wait_until(lambda: 3 not in kafka.admin.list_topics(timeout=10).brokers, 30.0, "Kafka knows it")
        done = topics("--create", "--yes", "--partitions", "1", **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "with 1 partition, 3 replicas and min.insync.replicas 2" in done.stderr
    assert "not in sync: broker 3" in done.stdout


def test_a_topic_that_somebody_else_creates_meanwhile_stays_as_it_is(
    kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    there = new_topic(partitions=2)
    admin = TopicAdmin(KafkaSettings(bootstrap_servers=kafka.bootstrap))
    assert not admin.create(there, Shape(partitions=5, replicas=1, min_insync=1))
    found = admin.describe(there)
    assert found
    assert (found.partitions, found.replicas) == (2, 3)


def test_a_name_that_kafka_takes_for_another_one_is_not_created(topics: Run, kafka: KafkaCluster) -> None:
    kafka.create_topic("topics_room")
    done = topics(
        *("--create", "--yes"),
        kafka={"bootstrap_servers": kafka.bootstrap},
        topic=["topics.room", "topics.home.x", "topics.home_x"],
    )
    assert done.returncode == 1
    assert "topics.room beside topics_room, since . and _ are the same" in done.stdout
    assert "topics.home_x beside topics.home.x" in done.stdout
    there = kafka.admin.list_topics(timeout=10).topics
    assert "topics.home.x" in there
    assert not {"topics.room", "topics.home_x"} & set(there)


def test_kafka_is_not_there(topics: Run) -> None:
    done = topics(kafka={"bootstrap_servers": "127.0.0.1:1"}, topic=["t"])
    assert (done.returncode, done.stdout) == (1, "")
    assert "127.0.0.1:1: " in done.stderr
    assert "do the brokers run" in done.stderr


# -- Kafka's own tools -------------------------------------------------------------------------------------

_TOOLS = {"kafka-topics.sh": "TopicCommand", "kafka-configs.sh": "ConfigCommand"}


def test_kafkas_tools_take_each_command_of_the_pages(kafka: KafkaCluster) -> None:
    kafka.create_topic("ha.discovery", 1)
    found = [
        re.sub(r"--bootstrap-server \S+ ", "", command)
        for page in (ROOT / "docs" / "how-to").glob("*.md")
        for command in re.findall(r"^(?:kafka-topics|kafka-configs)\.sh .*", page.read_text(), re.MULTILINE)
    ]
    assert len(found) >= 5
    for command in sorted(found, key=lambda each: "--create" not in each):  # others change that topic
        tool, *arguments = shlex.split(command)
        kafka.tool(_TOOLS[tool], *arguments)


# -- one broker, with access rules -------------------------------------------------------------------------


def test_one_broker_gets_one_replica_and_a_list_creates_nothing(topics: Run, alone: KafkaCluster) -> None:
    given: dict[str, Any] = {"kafka": {"bootstrap_servers": alone.bootstrap}, "topic": ["alone.new"]}
    assert topics(**given).stdout.startswith("missing")
    assert "alone.new" not in alone.admin.list_topics(timeout=10).topics, "auto.create.topics.enable is set"
    too_many = topics("--create", "--yes", "--replicas", "3", **given)
    assert too_many.returncode == 1
    assert "choose fewer with --replicas" in too_many.stdout
    done = topics("--create", "--yes", "--partitions", "4", **given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "with 4 partitions, 1 replica and min.insync.replicas 1" in done.stderr
    assert "one broker alone has" in done.stderr
    assert objects(topics("--json", **given))["alone.new"]["partitions"] == 4


@pytest.mark.parametrize(
    "said",
    [
        *(error_verdicts.reason(code, "", "a.topic") for code in error_verdicts.DENIED),
        *(each.format(group="a.group", id="an.id") for each in transactional_cluster._WAYS_OUT.values()),
    ],
)
def test_kafkas_tool_takes_each_command_that_the_log_names(alone: KafkaCluster, said: str) -> None:
    assert "Adding ACLs for resource" in grant(alone, said)


def test_a_missing_right_is_named_with_the_command_that_grants_it(
    topics: Run, alone: KafkaCluster, as_user: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"kafka": as_user, "topic": ["alone.denied"]}

    blind = topics("--create", "--yes", **given)

    assert blind.returncode == 1
    assert blind.stdout.split()[:2] == ["unknown", "alone.denied"]
    server = as_user["bootstrap_servers"]
    grant = f"kafka-acls.sh --bootstrap-server {server} --add --allow-principal User:bridge --operation"
    assert f"{grant} Describe --topic alone.denied" in blind.stdout

    allow(alone, "alone.denied", AclOperation.WRITE)
    wait_until(lambda: topics(**given).stdout.startswith("missing"), 30.0, "WRITE lets it look")
    denied = topics("--create", "--yes", **given)

    assert denied.returncode == 1
    assert f"{grant} Create --topic alone.denied" in denied.stdout.splitlines()[-1]

    allow(alone, "alone.denied", AclOperation.CREATE)
    admin = TopicAdmin(KafkaSettings.model_validate(as_user))

    def created() -> bool:
        try:
            return admin.create("alone.denied", Shape(1, 1, 1))
        except BridgeError:
            return False

    wait_until(created, 30.0, "CREATE lets it create")
    listed = topics(**given)
    assert listed.returncode == 0
    assert "its settings are not shown (the bridge's user lacks DESCRIBE_CONFIGS)" in listed.stdout
