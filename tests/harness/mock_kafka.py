"""A Kafka that is there in half a second: librdkafka's mock cluster, in a process of its own.

It stores what is produced and serves it to consumers, which makes it enough for all tests whose subject is
MQTT; it proves nothing about Kafka (no replication, no fencing, no limits of size). Being a process it can
be hung: nothing is confirmed then, which is how a test keeps a message unsettled for as long as it likes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Producer

from tests.harness.process import Process

ROOT = Path(__file__).parents[2]


class MockKafka(Process):
    """`topics` exist from the start; a producer that asks for another creates it. `bootstrap` is known once
    it has started.
    """

    def __init__(self, directory: Path, topics: Sequence[str] = ()) -> None:
        self._address = directory / "mock-kafka.address"
        super().__init__(
            "mock-kafka",
            [sys.executable, "-m", "tests.harness.mock_kafka", self._address, *topics],
            log=directory / "mock-kafka.log",
            cwd=ROOT,
            ready=self._address.exists,
        )

    @property
    def bootstrap(self) -> str:
        return self._address.read_text()


def main(address: Path, topics: Sequence[str]) -> None:
    """Run the cluster and write where it listens to `address`, until somebody ends this process."""
    # It lives inside a producer which itself produces nothing.
    cluster = Producer({"test.mock.num.brokers": 1})
    for topic in topics:
        cluster.list_topics(topic, timeout=10)  # asking creates
    brokers = cluster.list_topics(timeout=10).brokers.values()
    unfinished = address.with_suffix(".new")
    unfinished.write_text(",".join(f"{broker.host}:{broker.port}" for broker in brokers))
    unfinished.rename(address)
    while True:
        cluster.poll(3600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
