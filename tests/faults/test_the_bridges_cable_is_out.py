"""The bridge is cut off from HAProxy and Kafka."""

from tests.faults.chain import Chain
from tests.harness.conditions import wait_until


def test_for_10_seconds_and_the_session_lives_on(chain: Chain) -> None:
    """Shorter than every timeout: TCP continues."""
    with chain.flow(rate=60) as flow:
        with chain.universe.cable_out(chain.universe.bridge):
            chain.pass_time(10)
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_for_longer_than_its_patience(chain: Chain) -> None:
    """mqtt.tcp.user_timeout, 35 s, ends the connection; EMQ queues the messages. With --full 120 s."""
    with chain.flow() as flow:
        flow.load.rate = 9 if chain.full_length else 20
        with flow.comes_back(deadline=90), chain.universe.cable_out(chain.universe.bridge):
            chain.pass_time(120 if chain.full_length else 45)
            wait_until(lambda: flow.bridge.entries("mqtt.closed"), 5.0, "the bridge has noticed")
        flow.goes_on()
    chain.judge(flow)


def test_its_power_is_cut(chain: Chain) -> None:
    """The bridge loses its connections, and no peer notices."""
    with chain.flow(rate=60) as flow:
        flow.catches_up()
        with flow.comes_back(), chain.universe.power_cut(flow.bridge):
            flow.load.wait_sent(50)
        flow.goes_on()
    chain.judge(flow, doubled=flow.doubled_by_a_crash)
