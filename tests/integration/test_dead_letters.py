"""Dead letters: the bridge keeps them, and `dead-letters` lists and replays them beside a running bridge."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.kit import ROOT
from tests.harness.records import records

LIMIT = 20_000  # bytes: max.message.bytes of a small topic


def dead_letters(bridge: BridgeProcess, *arguments: str, status: int = 0) -> list[dict[str, Any]]:
    """`bridge dead-letters ARGUMENTS` with the bridge's own settings: the lines of JSON that it prints."""
    command = [sys.executable, "-m", "bridge", "dead-letters", *arguments, "--config", str(bridge.settings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (status, ""), done
    return [json.loads(line) for line in done.stdout.splitlines()]


def replayed(bridge: BridgeProcess, *arguments: str) -> bool:
    """Whether the one dead letter that the arguments choose was delivered now."""
    command = [sys.executable, "-m", "bridge", "dead-letters", *arguments, "--config", str(bridge.settings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90)
    (fate,) = map(json.loads, done.stdout.splitlines())
    assert fate["delivered"] is (done.returncode == 0)
    return done.returncode == 0


def test_what_kafka_could_not_take_is_delivered_exactly_once_when_it_can(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    haproxy: HAProxy,
    kafka: KafkaCluster,
) -> None:
    def publish(topic: str, payload: bytes) -> None:
        command = ["mosquitto_pub", "-h", haproxy.host.address, "-p", str(DEVICES), "-q", "1", "-t", topic]
        subprocess.run([*command, "-s"], input=payload, check=True, timeout=20)

    small, copies, rescue = (
        new_topic(partitions=1, config={"max.message.bytes": LIMIT}),
        new_topic(),
        new_topic(),
    )
    routes = [
        {"name": "small", "filter": "t/{device}", "topic": small, "key": "{device}"},
        {"name": "named", "filter": "n/{topic_name}", "topic": "{topic_name}"},
    ]
    large = os.urandom(2 * LIMIT)
    with new_bridge(routes=routes, dead_letters={"topic": copies}) as bridge:
        publish("t/1", b"before")
        publish("t/1", large)
        publish("n/", b"of no name")
        publish("t/1", b"after")
        listed = wait_until(
            lambda: (found := dead_letters(bridge, "list", "--json"))[1:] and found, 40.0, "two dead letters"
        )
        second, first = sorted(listed, key=lambda letter: letter["topic"])
        assert (first["topic"], first["bytes"], first["route"]) == ("t/1", 2 * LIMIT, "small")
        assert "max.message.bytes" in first["reason"]
        assert (second["topic"], second["route"], second["kafka_topic"]) == ("n/", None, None)

        wait_until(
            lambda: len(records(kafka.bootstrap, copies)) == 2, 30.0, "a copy of each is in their topic"
        )
        (of_large,) = [record for record in records(kafka.bootstrap, copies) if record.value == large]
        assert of_large.header("dead-letter.kafka-topic") == small.encode()

        chosen = ["replay", "--json", "--reason", "max.message.bytes"]
        (stays,) = dead_letters(bridge, *chosen, status=1)
        assert (stays["delivered"], "max.message.bytes" in stays["reason"]) == (False, True)
        kafka.alter_topic_config(small, {"max.message.bytes": 10 * LIMIT})
        wait_until(  # the brokers learn the new limit one after the other
            lambda: replayed(bridge, *chosen), 60.0, "the topic's new limit is in force"
        )
        (stays,) = dead_letters(bridge, "replay", "--json", status=1)
        assert (stays["id"], stays["kafka_topic"]) == (second["id"], None)
        dead_letters(bridge, "replay", "--json", "--to", rescue, str(second["id"]))
        assert dead_letters(bridge, "list", "--json") == []
        assert dead_letters(bridge, "replay", "--json") == []

        publish("n/", b"to be removed")
        wait_until(lambda: dead_letters(bridge, "list", "--json"), 30.0, "a third dead letter")
        assert dead_letters(bridge, "purge", "--yes", "--json") == [{"removed": 1}]

    found = records(kafka.bootstrap, small)
    assert [(record.key, record.value) for record in found] == [
        (b"1", b"before"),
        (b"1", b"after"),
        (b"1", large),
    ]
    assert [(record.key, record.value) for record in records(kafka.bootstrap, rescue)] == [
        (b"n/", b"of no name")
    ]
    (last,) = bridge.entries("service.stopped")
    assert (last["delivered"], last["dead_lettered"], last["in_flight"]) == (2, 3, 0)
