"""kill -9 before and after each step of a transaction, on three real brokers: nothing is lost or doubled."""

import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from bridge.delivery.intent import IntentVerdict
from bridge.delivery.segment import cut, pack
from bridge.kafka.transactions import State
from bridge.message import Message
from bridge.spool.store import Store
from tests.harness.conditions import wait_until
from tests.harness.drain import Drain
from tests.harness.kafka import KafkaCluster
from tests.harness.killed_drain import STEPS
from tests.harness.kit import ROOT
from tests.harness.records import records

_names = count(1)
# At its first time nothing was committed before; later the disk and Kafka know of earlier transactions.
_ONCE = ("init_transactions", "settle", "confirm")
MOMENTS = [
    (when, step, times)
    for step in STEPS
    for when in ("before", "after")
    for times in ((1,) if step in _ONCE else (1, 3))
]


def write(directory: Path, topic: str, values: list[bytes], begin: int) -> None:
    """Put messages on disk, in rows of 10."""
    store = Store(directory)
    for place in range(0, len(values), 10):
        messages = []
        for number, value in enumerate(values[place : place + 10], begin + place):
            message = Message.of(topic.encode(), 0x02, 1, None, value)
            message.sequence, message.timestamp = number, -1
            messages.append(message)
        for segment in cut(messages):
            store.write([(topic, segment, pack(segment.messages))])
    store.close()


@pytest.mark.parametrize(("when", "step", "times"), MOMENTS)
def test_the_bridge_is_killed(
    kafka: KafkaCluster, new_topic: Callable[..., str], tmp_path: Path, when: str, step: str, times: int
) -> None:
    topic, name = new_topic(partitions=1), f"killed.{next(_names)}"
    values = [b"%d" % number for number in range(100)]
    write(tmp_path, topic, values, 1)
    if step == "settle":  # there is something to settle after a kill
        run(kafka, tmp_path, name, "after", "commit_transaction", 2)
    run(kafka, tmp_path, name, when, step, times)
    with Drain(kafka.bootstrap, tmp_path, name) as drain:
        drain.until(
            lambda: drain.is_done and drain.cluster.transactions.state is State.READY, 60, "all is delivered"
        )
        verdict = drain.cluster.transactions.verdict
        assert verdict
        assert not verdict.is_loud
    # The markers of a commit follow its answer.
    wait_until(lambda: len(records(kafka.bootstrap, topic)) >= len(values), 30.0, "the reader has all")
    assert [record.value for record in records(kafka.bootstrap, topic)] == values
    assert not Store(tmp_path).backlogs()


def test_what_was_in_the_last_transaction_alone_is_doubled_where_its_number_is_gone(
    kafka: KafkaCluster, new_topic: Callable[..., str], tmp_path: Path
) -> None:
    """The bridge is killed after its third commit of 25 messages, before the disk knows of that."""
    topic, name = new_topic(partitions=1), f"killed.{next(_names)}"
    values = [b"%d" % number for number in range(100)]
    write(tmp_path, topic, values, 1)
    run(kafka, tmp_path, name, "after", "commit_transaction", 3)
    kafka.admin.delete_consumer_groups([name])[name].result(timeout=15.0)
    with Drain(kafka.bootstrap, tmp_path, name) as drain:
        drain.until(
            lambda: drain.is_done and drain.cluster.transactions.state is State.READY, 60, "all is delivered"
        )
        assert drain.cluster.transactions.verdict is IntentVerdict.GONE
    expected = values[:75] + values[50:]
    wait_until(lambda: len(records(kafka.bootstrap, topic)) >= len(expected), 30.0, "the reader has all")
    assert [record.value for record in records(kafka.bootstrap, topic)] == expected


def run(kafka: KafkaCluster, directory: Path, name: str, when: str, step: str, times: int) -> None:
    command = [sys.executable, "-m", "tests.harness.killed_drain", kafka.bootstrap, directory, name]
    ended = subprocess.run([*command, when, step, str(times)], cwd=ROOT, timeout=90, check=False)
    assert ended.returncode == -signal.SIGKILL
