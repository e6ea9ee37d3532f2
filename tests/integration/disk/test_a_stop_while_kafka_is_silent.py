"""A stop while Kafka is silent is short: messages on disk are safe, and EMQ's queue fills meanwhile."""

from collections.abc import Callable
from pathlib import Path

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.harness.records import records
from tests.harness.scripted import ScriptedBroker
from tests.integration.disk.conftest import Feed, NewBridge, connected, number_of, on_disk


def test_all_is_on_disk_and_the_deadline_is_not_waited_for(
    broker: ScriptedBroker,
    new_bridge: NewBridge,
    new_topic: Callable[..., str],
    kafka: KafkaCluster,
    tmp_path: Path,
) -> None:
    topic, spool = new_topic(partitions=1), tmp_path / "spool"

    def bridge(stop_timeout: str) -> BridgeProcess:
        to = {"bootstrap_servers": kafka.bootstrap}
        return new_bridge(spool, topic=topic, kafka=to, stop_timeout=stop_timeout)

    first = bridge("60s")
    first.start()
    feed = Feed(connected(broker, first))
    feed.wait_acked(feed.send(10))
    wait_until(lambda: len(records(kafka.bootstrap, topic)) == 10, 30.0, "Kafka has the first ones")
    with kafka.all_hung():
        sent = feed.send(100)
        feed.wait_acked(sent)
        assert first.terminate(deadline=30) == 0
        assert first.entries("service.stop_deadline", in_flight=0)
        assert set(sent) <= set(on_disk(spool))
    second = bridge("20s")
    second.start()
    broker.next_connection().connack(session_present=True)
    second.wait_for("spool.empty", deadline=60)
    assert second.terminate() == 0
    assert {number_of(record.value) for record in records(kafka.bootstrap, topic)} == set(range(1, 111))
