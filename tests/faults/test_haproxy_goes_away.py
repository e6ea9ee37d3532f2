"""HAProxy is killed, loses its power, or is reloaded."""

from tests.faults.chain import Chain


def test_it_is_killed_and_started_again(chain: Chain) -> None:
    with chain.flow() as flow:
        for _ in range(2):
            with flow.comes_back(), chain.haproxy.dead():
                flow.bridge.wait_for("mqtt.closed")
            flow.goes_on()
    chain.judge(flow)


def test_its_power_is_cut(chain: Chain) -> None:
    """No FIN and no RST is sent: mqtt.tcp.user_timeout, 35 s, ends the connection."""
    with chain.flow() as flow:
        with flow.comes_back(), chain.universe.power_cut(chain.haproxy):
            flow.bridge.wait_for("mqtt.closed", deadline=60)
        flow.goes_on()
    chain.judge(flow)


def test_its_power_fails_for_a_moment(chain: Chain) -> None:
    """HAProxy is back before any timeout, and answers packets of the old connections with RST."""
    # Without traffic SO_KEEPALIVE probes after 20 s: EMQ's queue must hold the messages of that time.
    with chain.flow(rate=40) as flow:
        with flow.comes_back(), chain.universe.power_cut(chain.haproxy):
            pass
        flow.goes_on()
    chain.judge(flow)


def test_a_reload_under_load_cuts_nobody(chain: Chain) -> None:
    with chain.flow() as flow:
        for _ in range(3):
            chain.haproxy.reload()
            flow.goes_on()
        flow.stays()
    chain.judge(flow)
