"""One of Kafka's three brokers is killed, hangs or loses its power."""

from tests.faults.chain import Chain


def test_it_is_killed_and_started_again(chain: Chain) -> None:
    with chain.flow() as flow:
        with chain.kafka.node(1).dead():
            flow.goes_on()
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_it_hangs(chain: Chain) -> None:
    with chain.flow() as flow:
        with chain.kafka.node(2).hung():
            flow.goes_on()
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_its_power_is_cut(chain: Chain) -> None:
    with chain.flow() as flow:
        with chain.universe.power_cut(chain.kafka.node(3)):
            flow.goes_on()
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_each_is_stopped_and_started_in_turn(chain: Chain) -> None:
    """Like a rolling upgrade."""
    with chain.flow() as flow:
        for node in chain.kafka.nodes:
            node.terminate()
            node.start()
            flow.goes_on()
        flow.stays()
    chain.judge(flow)
