"""Two bridges in one $share group, as docs/how-to/scale-out.md sets them up."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers
from tests.harness.conditions import wait_until
from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.harness.verifier import Verifier

FILTER = "$share/bridges/sensors/{site}/{device}/temp"


@pytest.fixture
def route(new_topic: Callable[..., str]) -> dict[str, Any]:
    return {"name": "sensors", "filter": FILTER, "topic": new_topic(), "key": "{device}"}


def test_they_divide_the_messages_and_none_is_lost_or_doubled(
    new_bridge: Callable[..., BridgeProcess],
    route: dict[str, Any],
    haproxy: HAProxy,
    kafka: KafkaCluster,
    emq: Brokers,
) -> None:
    topics = [route["topic"]]
    with (
        Verifier(kafka.bootstrap, topics) as verifier,
        new_bridge(routes=[route]) as one,
        new_bridge(routes=[route]) as other,
    ):
        with Devices(haproxy.host.address, DEVICES, rate=100) as devices:
            devices.wait_sent(200)
        verifier.wait_for(devices.tally.acked, deadline=60.0)
    verdict = verifier.verdict(devices.tally)
    assert not verdict.lost, verdict
    assert not verdict.doubled, verdict
    for bridge in (one, other):
        (last,) = bridge.entries("service.stopped")
        assert last["delivered"] > 0, f"{bridge.name} got nothing"


def test_a_member_that_is_stopped_delivers_its_share_when_it_is_back(
    new_bridge: Callable[..., BridgeProcess],
    route: dict[str, Any],
    haproxy: HAProxy,
    kafka: KafkaCluster,
    emq: Brokers,
) -> None:
    with (
        Verifier(kafka.bootstrap, [route["topic"]]) as verifier,
        new_bridge(routes=[route]),
        new_bridge(routes=[route]) as other,
        Devices(haproxy.host.address, DEVICES, rate=100) as devices,
    ):
        devices.wait_sent(50)
        other.terminate()
        devices.wait_sent(100)
        other.start()
        other.wait_live()
        acked = devices.stop().acked
        wait_until(
            lambda: not verifier.missing(acked), 60.0, lambda: f"missing {len(verifier.missing(acked))}"
        )
    assert not verifier.verdict(devices.tally).doubled
