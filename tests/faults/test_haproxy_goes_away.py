"""HAProxy is killed, restarted, loses its power, or is reloaded."""

import random

import pytest

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


@pytest.mark.queued(1_000)
def test_it_is_restarted_reloaded_and_killed_at_random(chain: Chain, request: pytest.FixtureRequest) -> None:
    """EMQ's queue for the bridge holds 1,000 messages, and 150 a second come: the bridge must be back soon,
    each time anew, though none of its sessions lives long.
    """
    chance = random.Random(1000 * request.config.getoption("--seed") + chain.round_number)
    times, longest = (40, 20.0) if chain.full_length else (8, 4.0)
    # A third of all messages has QoS 0. The rest makes 150 a second.
    with chain.flow(rate=225, log={"level": "debug"}) as flow:
        for _ in range(times):
            chain.pass_time(chance.uniform(2.0, longest))
            how = chance.choice(("restarted", "reloaded", "killed"))
            if how == "reloaded":
                chain.haproxy.reload()
                continue
            with flow.comes_back():
                if how == "killed":
                    chain.haproxy.kill9()
                    chain.pass_time(chance.uniform(0.0, 2.0))
                else:
                    chain.haproxy.terminate()
                chain.haproxy.start()
        flow.goes_on()
    waits = [entry["seconds"] for entry in flow.bridge.journal.matching("mqtt.backing_off", {})]
    assert max(waits) <= 2.0, sorted(waits)
    assert not flow.bridge.journal.matching("mqtt.taken_over", {})
    chain.judge(flow)
