"""SIGHUP under load: routes come, go and change their topics, and nothing is lost, doubled or reordered."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.bridge import BridgeProcess
from tests.harness.conditions import wait_until
from tests.harness.kafka import KafkaCluster
from tests.harness.verdict import Verdict
from tests.integration.flow import Flow, assert_nothing_lost_or_doubled
from tests.integration.test_exactly_once import ON

RELOADS = 20


def reload(bridge: BridgeProcess, event: str = "config.reloaded") -> dict[str, Any]:
    with bridge.log_contains(event):
        bridge._signal(signal.SIGHUP)
    return bridge.entries(event)[-1]


class FlowsRoute:
    """The route of the flow itself. Its messages are in one of two topics: its `own` one, or the `other`."""

    def __init__(self, flow: Flow, other: str) -> None:
        self._bridge = flow.bridge
        self._before = flow.bridge.settings.read_text()
        self.own, self.other = flow.verifier._topics[0], other
        flow.verifier.follow(other)

    def leads_to(self, topic: str) -> None:
        text = self._before.replace(f'"topic" = "{self.own}"', f'"topic" = "{topic}"')
        self._bridge.settings.write_text(text)
        assert reload(self._bridge)["changed"] == ["routes"]


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
        its = FlowsRoute(flow, new_topic())
        for number in range(RELOADS):
            its.leads_to(its.own if number % 2 else its.other)
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
    with new_flow(rate=60.0, qos=qos, tables=ON) as flow:
        its = FlowsRoute(flow, new_topic())

        def move_and_kill(topic: str) -> None:
            its.leads_to(topic)
            flow.devices.wait_sent(20)
            flow.bridge.kill9()
            flow.devices.wait_sent(20)
            flow.bridge.start()
            flow.bridge.wait_live()
            flow.devices.wait_sent(20)

        with kafka.all_dead():
            for topic in (its.other, its.own, its.other):
                move_and_kill(topic)
        flow.goes_on()
        for topic in (its.own, its.other, its.own):
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
