"""SIGHUP under load: routes come, go and change their topics, and nothing is lost, doubled or reordered."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.harness.verdict import Verdict
from tests.integration.flow import assert_nothing_lost_or_doubled

RELOADS = 20


def reload(bridge: BridgeProcess, event: str = "config.reloaded") -> dict[str, Any]:
    with bridge.log_contains(event):
        bridge._signal(signal.SIGHUP)
    return bridge.entries(event)[-1]


def route(name: str, filter_: str, topic: str) -> str:
    return f'\n[[routes]]\nname = "{name}"\nfilter = "{filter_}"\ntopic = "{topic}"\nqos = 2\n'


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize(("protocol", "version"), [("3.1.1", 4), ("5", 5)])
def test_routes_are_added_removed_and_changed_under_load(
    new_flow: Callable[..., Any], new_topic: Callable[..., str], qos: int, protocol: str, version: int
) -> None:
    """The flow's own route stays: its messages pass while 20 reloads change the routes beside it."""
    one, two = new_topic(partitions=1), new_topic(partitions=1)
    with new_flow(rate=200.0, qos=qos, protocol=protocol, version=version) as flow:
        before = flow.bridge.settings.read_text()
        for number in range(RELOADS):
            more = [
                route("a", "beside/a/#", one if number % 4 < 2 else two),
                route("b", f"beside/b{number}/#", two),
                "",
            ]
            flow.bridge.settings.write_text(before + "".join(more[number % 3 :]))
            said = reload(flow.bridge)
            assert said["changed"] == ["routes"]
            flow.devices.wait_sent(20)
        flow.goes_on()
        assert not flow.bridge.entries("config.needs_restart")
        wait_until(lambda: flow.bridge.entries("mqtt.unsubscribed"), 10.0, "old filters are unsubscribed")
    assert_nothing_lost_or_doubled(flow)
    (last,) = flow.bridge.entries("service.stopped")
    assert last["dead_lettered"] == 0


@pytest.mark.parametrize("qos", [1, 2])
def test_the_route_of_the_flow_itself_changes_its_topic(
    new_flow: Callable[..., Any], new_topic: Callable[..., str], kafka: Any, qos: int
) -> None:
    """Each message is in exactly one of the two topics. No order is promised between two topics."""
    with new_flow(rate=200.0, qos=qos) as flow:
        before = flow.bridge.settings.read_text()
        other = new_topic()
        own = flow.verifier._topics[0]
        flow.verifier.follow(other)
        for number in range(RELOADS):
            topic = own if number % 2 else other
            flow.bridge.settings.write_text(before.replace(f'"topic" = "{own}"', f'"topic" = "{topic}"'))
            assert reload(flow.bridge)["changed"] == ["routes"]
            flow.devices.wait_sent(20)
        flow.goes_on()
    verdict: Verdict = flow.verdict
    assert not verdict.lost, verdict
    assert not verdict.doubled, verdict


@pytest.mark.parametrize("qos", [1, 2])
def test_with_delivery_exactly_once_the_bridge_is_killed_after_a_reload(
    new_flow: Callable[..., Any], new_topic: Callable[..., str], kafka: KafkaCluster, qos: int
) -> None:
    """The start finds rows on disk that followed other routes; the first kills are while Kafka is away."""
    exactly_once = {"kafka": {"delivery": "exactly-once"}}
    with new_flow(rate=60.0, qos=qos, tables=exactly_once) as flow:
        before = flow.bridge.settings.read_text()
        other = new_topic()
        own = flow.verifier._topics[0]
        flow.verifier.follow(other)

        def move_and_kill(topic: str) -> None:
            flow.bridge.settings.write_text(before.replace(f'"topic" = "{own}"', f'"topic" = "{topic}"'))
            reload(flow.bridge)
            flow.devices.wait_sent(20)
            flow.bridge.kill9()
            flow.devices.wait_sent(20)
            flow.bridge.start()
            flow.bridge.wait_live()
            flow.devices.wait_sent(20)

        with kafka.all_dead():
            for topic in (other, own, other):
                move_and_kill(topic)
        flow.goes_on()
        for topic in (own, other, own):
            move_and_kill(topic)
            flow.goes_on()
    assert not flow.verdict.lost, flow.verdict
    assert not flow.verdict.doubled, flow.verdict


def test_a_wrong_file_changes_nothing_and_what_needs_a_restart_is_said(new_flow: Callable[..., Any]) -> None:
    with new_flow(rate=50.0) as flow:
        bridge: BridgeProcess = flow.bridge
        good = bridge.settings.read_text()
        bridge.settings.write_text(good.replace('"qos" = 1', '"qos" = 7'))
        said = reload(bridge, "config.reload_refused")
        assert "qos" in said["problem"]
        flow.goes_on()
        bridge.settings.write_text(good + '\n[spool]\nafter = "3s"\n')
        said = reload(bridge, "config.needs_restart")
        assert said["settings"] == ["spool.after"]
        bridge.settings.write_text(good.replace('"format" = "json"', '"format" = "json"\nlevel = "warning"'))
        reload(bridge)
        assert bridge.entries("config.reloaded")[-1]["changed"] == ["log.level"]
        marks = len(bridge.entries("config.reloaded"))
        bridge.settings.write_text(good.replace('"qos" = 1', '"qos" = 7'))
        reload(bridge, "config.reload_refused")  # ERROR is still logged, INFO is not
        assert len(bridge.entries("config.reloaded")) == marks
    assert_nothing_lost_or_doubled(flow)
