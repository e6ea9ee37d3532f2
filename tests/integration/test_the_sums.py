"""What the bridge counts agrees with what an independent consumer finds in Kafka, under faults."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.harness.brokers import Brokers
from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.integration.flow import Flow, NewFlow, assert_nothing_lost_or_doubled

_EVERY = 0.25  # seconds between two looks: the bridge makes a snapshot each second


class Looker:
    """Reads /status.json as often as the test wants, and all the time in a thread."""

    def __init__(self, listen: str) -> None:
        self._url = f"http://{listen}/status.json"
        self._over = threading.Event()
        self.seen: dict[str, dict[str, Any]] = {}  # the flow of each snapshot, by its time

    def look(self) -> dict[str, Any]:
        with urllib.request.urlopen(self._url, timeout=5) as answer:
            snapshot = json.load(answer)["snapshot"]
        flow: dict[str, Any] = snapshot["flow"]
        self.seen[snapshot["made_at"]] = flow
        return flow

    def run(self) -> None:
        while not self._over.wait(_EVERY):
            try:
                self.look()
            except (OSError, urllib.error.URLError, ValueError):
                continue  # the bridge starts or is busy; the number of looks is checked at the end

    @contextmanager
    def looking(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run, name="looker")
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()


def _listen() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def _difference(flow: dict[str, Any]) -> int:
    """What came in, less where it is: 0, or a message is missing from the sums."""
    parts = [flow[name] for name in ("delivered", "in_flight", "spooled", "unreadable")]
    parts += [sum(flow[name].values()) for name in ("dead_lettered", "skipped", "dropped")]
    return int(flow["received"] + flow["restored"] - sum(parts))


def test_the_sums_agree_with_what_kafka_holds_while_brokers_die_and_hang(
    new_flow: NewFlow, emq: Brokers, kafka: KafkaCluster
) -> None:
    listen = _listen()
    looker = Looker(listen)
    with new_flow(rate=50.0, tables={"http": {"listen": listen}}) as flow, looker.looking():
        with kafka.node(2).hung():
            flow.goes_on()
        with kafka.all_dead():
            flow.devices.wait_sent(100)
            wait_until(lambda: looker.look()["spooled"] > 0, 30, "messages wait on disk")
        flow.goes_on()
        with emq.node(1).dead():
            flow.goes_on()
        flow.goes_on()
        wait_until(lambda: len(looker.seen) > 20, 30, "a quick machine has made enough snapshots too")
        flow.devices.stop()
        flow.catches_up()
        wait_until(
            lambda: _agree(looker.look(), flow),
            30,
            lambda: f"the sums agree with Kafka: {looker.look()}, {flow.verifier.delivered} in Kafka",
        )
    assert_nothing_lost_or_doubled(flow)
    assert len(looker.seen) > 20
    assert [each for each in looker.seen.values() if each["unaccounted"] or _difference(each)] == []


def _agree(counted: dict[str, Any], flow: Flow) -> bool:
    """Nothing waits, and each message that the bridge counts as delivered is a record in Kafka."""
    records = flow.verifier.delivered + flow.verifier.doubled
    waits = counted["in_flight"] + counted["spooled"]
    return not waits and counted["received"] == counted["delivered"] == records
