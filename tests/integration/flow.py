"""Messages that flow through the whole chain during a fault, and the verdict on them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest

from tests.harness.blame import Blame, blame
from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers
from tests.harness.conditions import NotInTime, wait_until
from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES, SUBSCRIBER, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.relay import RecordingRelay
from tests.harness.verdict import Verdict
from tests.harness.verifier import Verifier


@dataclass
class Flow:
    """`verdict` is available once the flow has ended and Kafka has all acknowledged messages.

    A recorded flow waits only for messages that the broker did not lose, and also has `blame`.
    """

    bridge: BridgeProcess
    devices: Devices
    verifier: Verifier
    relay: RecordingRelay | None = None
    verdict: Verdict | None = None
    blame: Blame | None = None

    def goes_on(self, deadline: float = 60.0) -> None:
        """Wait until messages sent from now on arrive: the chain has recovered."""
        before = self.verifier.delivered
        self.devices.wait_sent(20)
        wait_until(
            lambda: self.verifier.delivered >= before + 20,
            deadline,
            lambda: f"messages flow again: {self.verifier.delivered} delivered, {before} before",
        )

    def catches_up(self, deadline: float = 60.0) -> None:
        """Wait until Kafka has all messages that EMQ has queued by now."""
        self.verifier.wait_for(set(self.devices.tally.acked), deadline)


NewFlow = Callable[..., "contextmanager[Flow]"]


@pytest.fixture
def new_flow(
    new_bridge: Callable[..., BridgeProcess],
    new_topic: Callable[..., str],
    emq: Brokers,
    haproxy: HAProxy,
    kafka: KafkaCluster,
) -> Callable[..., object]:
    """with new_flow(rate=100, qos=1, version=4, protocol="auto") as flow: ...

    `tables` are further settings of the bridge. If `recorded`, the bridge connects to HAProxy through a relay
    that records the packets and can cut the connection.
    """

    @contextmanager
    def create(
        rate: float = 100.0,
        qos: int = 1,
        version: int = 4,
        protocol: str = "auto",
        filter: str = "sensors/{site}/{device}/temp",  # noqa: A002 - the setting's name
        tables: Mapping[str, Any] = MappingProxyType({}),
        recorded: bool = False,
    ) -> Iterator[Flow]:
        topic = new_topic()
        route = {"name": "sensors", "filter": filter, "topic": topic, "qos": qos, "key": "{device}"}

        def new_devices(**options: Any) -> Devices:
            given = {"rate": rate, "qos": qos, "version": version, "credentials": emq.credentials} | options
            return Devices(haproxy.host.address, DEVICES, **given)

        with contextlib.ExitStack() as running:
            verifier = running.enter_context(Verifier(kafka.bootstrap, [topic]))
            settings = {**tables, "mqtt": {"protocol": protocol, **tables.get("mqtt", {})}}
            relay = None
            if recorded:
                relay = running.enter_context(RecordingRelay((haproxy.host.address, SUBSCRIBER)))
                settings["mqtt"] |= {"host": relay.address, "port": relay.port}
            bridge = running.enter_context(new_bridge(routes=[route], **settings))
            devices = new_devices()
            with devices:
                flow = Flow(bridge, devices, verifier, relay)
                # The bridge knows that this broker counts upward once it has seen an identifier above Receive
                # Maximum (bridge/delivery/ledger.py, rule 3); before that a lost PUBACK may cause a
                # duplicate.
                devices.wait_sent(150 if qos else 0)
                flow.goes_on()
                yield flow
            acked = devices.tally.acked
            if relay:
                # The last messages, one through each node: a message not sent before them will never be sent.
                with new_devices(count=2, prefix="last") as last:
                    last.wait_sent(2)
                verifier.wait_for(last.tally.acked, deadline=90.0)
                with contextlib.suppress(NotInTime):  # `blame` gives a better message
                    verifier.wait_for(acked & relay.ids, deadline=20.0)
            else:
                verifier.wait_for(acked, deadline=90.0)
        flow.verdict = verifier.verdict(devices.tally)
        if relay:
            flow.blame = blame(flow.verdict, relay.sightings, verifier.missing(relay.ids))

    return create


def assert_nothing_lost_or_doubled(flow: Flow) -> None:
    verdict = flow.verdict
    assert verdict is not None
    good = not (verdict.lost or verdict.doubled or verdict.inversions)
    assert good, f"{verdict}{flow.bridge.log_tail(100)}"


def assert_the_bridge_lost_nothing(flow: Flow, doubled: int = 0) -> None:
    """Check that Kafka has every message that the broker sent to the bridge, and at most `doubled` extra
    records, each of a message that the broker resent, and that the order is kept. Needs a recorded flow.
    """
    verdict, found = flow.verdict, flow.blame
    assert verdict is not None
    assert found is not None
    assert flow.relay is not None
    wrong = found.lost_by_bridge | found.doubled_by_bridge | {late for late, _ in found.reordered_by_bridge}
    wrong |= set() if verdict.copies <= doubled else verdict.doubled.keys()
    story = "\n".join(flow.relay.story(name) for name in sorted(wrong)[:5])
    assert not wrong, f"{verdict}; {found}\n{story}{flow.bridge.log_tail(100)}"
