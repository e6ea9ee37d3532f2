"""The bridge's cable loses a frame in twenty and delays the others by 200 ms."""

from tests.faults.chain import Chain


def test_5_percent_are_lost_and_all_take_200_ms(chain: Chain) -> None:
    """In both directions, to HAProxy and to Kafka: a round trip takes 400 ms."""
    with chain.flow(rate=60) as flow:
        with chain.universe.bad_cable(chain.universe.bridge, chain.directory, loss=0.05, delay=0.2):
            flow.goes_on()
            flow.load.wait_sent(1000 if chain.full_length else 300)
            flow.goes_on()
        flow.goes_on()
    chain.judge(flow)


def test_20_percent_are_lost_between_haproxy_and_everybody(chain: Chain) -> None:
    with chain.flow(rate=60) as flow:
        with chain.universe.bad_cable(chain.universe.haproxy, chain.directory, loss=0.2):
            flow.load.wait_sent(300)
        flow.goes_on()
    chain.judge(flow)
