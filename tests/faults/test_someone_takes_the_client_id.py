"""A second bridge was set up with the same client id: the two disconnect each other again and again."""

import pytest

from tests.faults.chain import WINDOW, Chain
from tests.harness.conditions import wait_until

# How long a bridge that notices the takeover waits; by default a minute.
_SOON = {"refused_delay": "3s"}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_for_a_while(chain: Chain, protocol: str) -> None:
    """Messages that one has delivered but not acknowledged go to the other too: at most a window a time."""
    mqtt = {"protocol": protocol, "reconnect": _SOON}
    with chain.flow(mqtt=mqtt) as flow:
        with flow.comes_back(), chain.bridge("thief", mqtt=mqtt) as thief:
            both = flow.bridge, thief
            wait_until(
                lambda: all(len(bridge.entries("mqtt.closed")) >= 3 for bridge in both),
                60.0,
                "each was thrown off three times",
            )
            flow.goes_on()
            if protocol == "3.1.1":  # MQTT 5 has a DISCONNECT that says so, if it arrives
                wait_until(
                    lambda: any(bridge.entries("mqtt.taken_over") for bridge in both),
                    30.0,
                    "an ERROR tells why",
                )
        flow.goes_on()
        times = sum(len(bridge.entries("mqtt.closed")) for bridge in both)
    chain.judge(flow, doubled=times * WINDOW, in_order=False)
