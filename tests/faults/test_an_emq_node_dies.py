"""An EMQ node is killed, hangs or loses its power. Sessions survive, like EMQ's durable sessions."""

from tests.faults.chain import Chain


def test_the_node_of_the_session_is_killed(chain: Chain) -> None:
    with chain.flow() as flow:
        with flow.comes_back(), chain.emq.node(chain.node_of_the_session()).dead():
            flow.goes_on()
        flow.goes_on()
    chain.judge(flow)


def test_the_node_of_the_session_hangs(chain: Chain) -> None:
    with chain.flow(rate=60) as flow:
        node = chain.node_of_the_session()
        with flow.comes_back(), chain.emq.node(node).hung():
            chain.haproxy.wait_state(node, "DOWN", deadline=40)
            flow.goes_on()
        flow.goes_on()
    chain.judge(flow)


def test_the_power_of_the_node_of_the_session_is_cut(chain: Chain) -> None:
    with chain.flow(rate=60) as flow:
        node = chain.node_of_the_session()
        with flow.comes_back(), chain.universe.power_cut(chain.emq.node(node)):
            flow.goes_on()
        flow.goes_on()
    chain.judge(flow)


def test_the_other_node_is_killed_and_the_session_goes_on(chain: Chain) -> None:
    with chain.flow() as flow:
        with chain.emq.node(3 - chain.node_of_the_session()).dead():
            flow.goes_on()
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_the_power_of_the_other_node_is_cut_and_the_session_goes_on(chain: Chain) -> None:
    with chain.flow() as flow:
        with chain.universe.power_cut(chain.emq.node(3 - chain.node_of_the_session())):
            flow.goes_on()
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_both_nodes_are_gone_for_a_while(chain: Chain) -> None:
    """Devices may reconnect before the bridge: EMQ's queue holds the messages of that time."""
    with chain.flow(rate=45) as flow:
        with flow.comes_back(), chain.emq.node(1).dead(), chain.emq.node(2).dead():
            chain.haproxy.wait_state(1, "DOWN")
            chain.haproxy.wait_state(2, "DOWN")
            flow.bridge.wait_for("mqtt.unavailable")
        flow.goes_on()
    chain.judge(flow)
