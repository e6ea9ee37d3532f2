"""The bridge is stopped, killed and started under load."""

from collections.abc import Callable
from typing import Any

from tests.harness.conditions import wait_until
from tests.integration.flow import Flow, assert_nothing_lost_or_doubled

WINDOW = 100  # mqtt.receive_maximum
_RATE = 60.0  # messages a second: while a busy machine stops and starts the bridge, EMQ queues 1,000


def stop_again_and_again(flow: Flow) -> None:
    for _ in range(5):
        assert flow.bridge.terminate() == 0
        flow.devices.wait_sent(50)
        flow.bridge.start()
        flow.bridge.wait_live()
        flow.goes_on()


def test_sigterm_and_start_under_load_lose_and_double_nothing(new_flow: Callable[..., Any]) -> None:
    with new_flow(rate=_RATE) as flow:
        stop_again_and_again(flow)
    assert_nothing_lost_or_doubled(flow)


def test_kill_9_loses_nothing_and_doubles_at_most_the_window(new_flow: Callable[..., Any]) -> None:
    kills = 3
    with new_flow(rate=_RATE) as flow:
        for _ in range(kills):
            # On a resumed session mosquitto also sends its queue, beyond the window: wait until that is over.
            flow.catches_up()
            flow.bridge.kill9()
            flow.devices.wait_sent(50)
            flow.bridge.start()
            flow.bridge.wait_live()
            flow.goes_on()
    assert not flow.verdict.lost, flow.verdict
    assert flow.verdict.copies <= kills * WINDOW, flow.verdict
    assert not flow.verdict.inversions, flow.verdict


def test_a_restart_finds_its_session_and_takes_nothing_twice(new_flow: Callable[..., Any]) -> None:
    with new_flow() as flow:
        flow.bridge.terminate()
        flow.bridge.start()
        flow.bridge.wait_live()
        assert not flow.bridge.entries("mqtt.session_lost")
    assert_nothing_lost_or_doubled(flow)


def test_a_second_signal_leaves_at_once(new_flow: Callable[..., Any]) -> None:
    with new_flow(rate=50) as flow:
        flow.bridge.hang()
        flow.bridge._signal(15)
        flow.bridge._signal(2)
        flow.bridge.resume()
        wait_until(lambda: not flow.bridge.alive, 10, "the bridge has ended")
        assert flow.bridge.returncode == 1
        flow.bridge.start()
        flow.bridge.wait_live()
        flow.goes_on()
    assert not flow.verdict.lost
