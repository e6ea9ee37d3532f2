"""bridge consume: prints what is in Kafka; with three brokers, and with access rules."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AclOperation

from tests.harness.bridge import toml
from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.integration.access_rules import allow


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., list[str]]:
    """command("--count", "1", kafka={...}, topic="...") is `bridge consume` with a route to this topic."""

    def words(*more: str, kafka: dict[str, Any], topic: str) -> list[str]:
        file = tmp_path / "bridge.toml"
        file.write_text(
            toml(
                {
                    "state_directory": tmp_path,
                    "mqtt": {"host": "nobody.invalid"},
                    "kafka": kafka,
                    "routes": [{"name": "r", "filter": "r/{site}", "topic": topic}],
                }
            )
        )
        return [sys.executable, "-m", "bridge", "consume", *more, "--config", str(file)]

    return words


def ended(words: list[str]) -> tuple[int, list[str], str]:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


@contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def produce(bootstrap: str, topic: str, *values: bytes | None, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
    for value in values:
        headers: Any = [("mqtt.topic", b"r/attic"), ("null", None)]
        producer.produce(topic, value, b"attic", partition, headers=headers)
    assert producer.flush(30.0) == 0


def test_what_kafka_has_already_and_what_comes_is_read_from_all_partitions(
    command: Callable[..., list[str]], kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(partitions=3)
    there: dict[str, Any] = {"kafka": {"bootstrap_servers": kafka.bootstrap}, "topic": topic}
    produce(kafka.bootstrap, topic, b"one", b"\xff\x00", None)
    produce(kafka.bootstrap, topic, b"two\nlines", partition=2)

    for words in ((topic,), ()):  # without a name: the routes' topics
        status, lines, errors = ended(command(*words, "--from-beginning", "--count", "4", **there))
        assert (status, errors) == (0, "")
        head = f"{topic}/{{}} | attic | mqtt.topic=r/attic null=(null) | {{}}"
        assert sorted(lines) == [
            head.format("0@0", "one"),
            head.format("0@1", "0xff00"),
            head.format("0@2", "(null, a tombstone)"),
            head.format("2@0", r"two\nlines"),
        ]
    status, lines, errors = ended(command("--from-beginning", "--count", "4", "--json", **there))
    found = {each["offset"]: each for each in map(json.loads, lines) if each["partition"] == 0}
    assert (status, found[1]["value_base64"], found[2]["value"]) == (0, "/wA=", None)

    with running(command(topic, "--count", "1", **there)) as process:
        # It reads what is stored after its start, so produce until it has started.
        def one_is_shown() -> bool:
            produce(kafka.bootstrap, topic, b"new", partition=1)
            return process.poll() is not None

        wait_until(
            one_is_shown,
            30.0,
            "the new record is shown",
        )
        assert process.stdout is not None
        assert process.stdout.read().endswith(" | new\n")
        assert process.returncode == 0


def test_head_and_ctrl_c_end_it_without_a_word(
    command: Callable[..., list[str]], kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    words = command(topic, "--from-beginning", kafka={"bootstrap_servers": kafka.bootstrap}, topic=topic)
    produce(kafka.bootstrap, topic, *(b"%d" % number for number in range(2000)))
    with running(words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(" | 0\n")
        process.stdout.close()
        assert (process.wait(30.0), process.stderr.read()) == (0, "")
    with running(words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert (process.wait(30.0), process.stderr.read()) == (0, "")


def test_it_joins_no_group(
    command: Callable[..., list[str]], kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    produce(kafka.bootstrap, topic, b"1", b"2")
    words = command("--from-beginning", kafka={"bootstrap_servers": kafka.bootstrap}, topic=topic)
    with running(words) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        groups = kafka.admin.list_consumer_groups().result(timeout=15.0).valid
        assert [each.group_id for each in groups if "consume" in each.group_id] == []


def test_a_topic_that_is_not_there_is_one_line_with_the_way_out(
    command: Callable[..., list[str]], kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    there: dict[str, Any] = {"kafka": {"bootstrap_servers": kafka.bootstrap}, "topic": "consume.absent"}
    near = new_topic()
    for words, way_out in (
        ((), "bridge: Kafka has none of the topics that the settings name; create them: "),
        (("consume.absent",), "bridge: Kafka has no topic consume.absent yet; create it: "),
        ((f"{near}x",), f"bridge: Kafka has no topic {near}x; did you mean {near}?"),
    ):
        status, lines, errors = ended(command(*words, **there))
        assert (status, lines, errors.count("\n")) == (1, [], 1), errors
        assert errors.startswith(way_out)
    assert "consume.absent" not in kafka.admin.list_topics(timeout=10).topics


def test_it_misses_nothing_while_a_broker_is_killed(
    command: Callable[..., list[str]], kafka: KafkaCluster, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(partitions=3)
    words = command(
        "--from-beginning", "--count", "6", kafka={"bootstrap_servers": kafka.bootstrap}, topic=topic
    )
    for partition in range(3):
        produce(kafka.bootstrap, topic, b"before", partition=partition)
    with running(words) as process:
        assert process.stdout is not None
        assert "before" in process.stdout.readline()
        with kafka.node(2).dead():
            for partition in range(3):
                produce(kafka.bootstrap, topic, b"after", partition=partition)
            shown = process.stdout.read()
    assert (process.returncode, shown.count("| after\n")) == (0, 3)


# -- access rules ------------------------------------------------------------------------------------------


def test_a_missing_right_is_named_with_the_command_that_grants_it(
    command: Callable[..., list[str]],
    alone: KafkaCluster,
    as_user: dict[str, Any],
) -> None:
    topic = "consume.denied"
    words = command(topic, "--from-beginning", "--count", "1", kafka=as_user, topic=topic)
    alone.create_topic(topic, 1)
    produce(alone.bootstrap, topic, b"secret")
    server = as_user["bootstrap_servers"]
    grant = f"kafka-acls.sh --bootstrap-server {server} --add --allow-principal User:bridge --operation"

    status, lines, errors = ended(words)
    assert (status, lines, errors.count("\n")) == (1, [], 1), errors
    assert f"{grant} Describe --topic {topic}" in errors

    allow(alone, topic, AclOperation.WRITE)  # the service needs no more

    def denied() -> str:
        return ended(words)[2]

    wait_until(lambda: f"to read the topic; allow it: {grant} Read --topic {topic}" in denied(), 30.0, denied)

    allow(alone, topic, AclOperation.READ)
    wait_until(
        lambda: ended(words)[1] == [f"{topic}/0@0 | attic | mqtt.topic=r/attic null=(null) | secret"],
        30.0,
        denied,
    )


def test_kafka_is_not_there(command: Callable[..., list[str]]) -> None:
    began = time.monotonic()
    status, lines, errors = ended(command(kafka={"bootstrap_servers": "127.0.0.1:1"}, topic="t"))
    assert (status, lines) == (1, [])
    assert errors.startswith("bridge: 127.0.0.1:1: ")
    assert "do the brokers run" in errors
    assert time.monotonic() - began < 20.0
