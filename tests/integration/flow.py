"""Messages that flow through the whole chain while something happens to it, and the verdict on them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.verdict import Verdict
from tests.harness.verifier import Verifier


@dataclass
class Flow:
    """`verdict` is there once the flow has ended and Kafka has all that was acknowledged."""

    bridge: BridgeProcess
    devices: Devices
    verifier: Verifier
    verdict: Verdict | None = None

    def goes_on(self, deadline: float = 60.0) -> None:
        """Wait until messages sent from now on arrive: what was broken is whole again."""
        before = self.verifier.delivered
        self.devices.wait_sent(20)
        wait_until(
            lambda: self.verifier.delivered >= before + 20,
            deadline,
            lambda: f"messages flow again: {self.verifier.delivered} delivered, {before} before",
        )

    def catches_up(self, deadline: float = 60.0) -> None:
        """Wait until what EMQ had queued by now is in Kafka: only its window is in flight again."""
        self.verifier.wait_for(set(self.devices.tally.acked), deadline)


NewFlow = Callable[..., "contextmanager[Flow]"]


@pytest.fixture
def new_flow(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    haproxy: HAProxy,
    kafka: KafkaCluster,
) -> Callable[..., object]:
    """with new_flow(rate=100, qos=1, version=4, protocol="auto") as flow: ..."""

    @contextmanager
    def create(
        rate: float = 100.0,
        qos: int = 1,
        version: int = 4,
        protocol: str = "auto",
        filter: str = "sensors/{site}/{device}/temp",  # noqa: A002 - the setting's name
    ) -> Iterator[Flow]:
        topic = new_topic()
        route = {"name": "sensors", "filter": filter, "topic": topic, "qos": qos}
        with (
            Verifier(kafka.bootstrap, [topic]) as verifier,
            new_bridge(routes=[route | {"key": "{device}"}], mqtt={"protocol": protocol}) as bridge,
        ):
            devices = Devices(haproxy.host.address, DEVICES, rate=rate, qos=qos, version=version)
            with devices:
                flow = Flow(bridge, devices, verifier)
                # Only once an identifier above Receive Maximum was seen is it known that this broker
                # counts upward (bridge/ledger.py, rule 3); before that a lost PUBACK may double.
                devices.wait_sent(150 if qos else 0)
                flow.goes_on()
                yield flow
            verifier.wait_for(devices.tally.acked, deadline=90.0)
        flow.verdict = verifier.verdict(devices.tally)

    return create


def assert_nothing_lost_or_doubled(flow: Flow) -> None:
    verdict = flow.verdict
    assert verdict is not None
    good = not (verdict.lost or verdict.doubled or verdict.inversions)
    assert good, f"{verdict}{flow.bridge.log_tail(100)}"
