"""Two of Kafka's brokers or all are gone, and more messages arrive than EMQ can hold for the bridge.

EMQ keeps a window of 32 and a queue of 1,000, and drops messages beyond that. So further messages must be on
the bridge's disk, and EMQ must not have dropped any.
"""

import contextlib

import pytest

from tests.faults.chain import ROWS, Chain, Flow

pytestmark = pytest.mark.queued(1_000)

_BURST = 3_000  # messages of QoS 1 and 2


def burst(flow: Flow, messages: int = _BURST) -> None:
    """Publish far more messages than EMQ holds, as fast as a slow disk allows."""
    usual, flow.load.rate = flow.load.rate, 600.0
    flow.load.wait_sent(messages, deadline=messages / 100)
    flow.load.rate = usual


@pytest.mark.parametrize("how", ["dead", "hung", "cut off"])
def test_all_brokers_during_a_burst(chain: Chain, how: str) -> None:
    """With --full the outage takes 5 min."""
    with chain.flow() as flow:
        ways: dict[str, contextlib.AbstractContextManager[None]] = {
            "dead": chain.kafka.all_dead(),
            "hung": chain.kafka.all_hung(),
            "cut off": chain.universe.cable_out(*chain.universe.kafka),
        }
        with ways[how]:
            burst(flow)
            chain.pass_time(300 if chain.full_length else 5)
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_two_brokers(chain: Chain) -> None:
    """With --full 60 s. The third broker alone has neither a controller majority nor min.insync.replicas."""
    with chain.flow() as flow:
        with contextlib.ExitStack() as dead:
            for number in (1, 2):
                chain.kafka.node(number).kill9()
            dead.callback(chain.kafka.resurrect)
            burst(flow)
            chain.pass_time(60 if chain.full_length else 5)
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_the_power_of_all_is_cut(chain: Chain) -> None:
    with chain.flow() as flow:
        with chain.universe.power_cut(*chain.kafka.nodes):
            burst(flow)
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_it_comes_and_goes_every_3_seconds(chain: Chain) -> None:
    """With --full for a minute. Like a switch that reboots again and again."""
    with chain.flow() as flow:
        for _ in range(10 if chain.full_length else 4):
            with chain.universe.cable_out(*chain.universe.kafka):
                chain.pass_time(3)
            chain.pass_time(3)
        flow.goes_on()
        flow.stays()
    chain.judge(flow)


def test_memory_stays_below_128_mb(chain: Chain) -> None:
    """With --full 100,000 messages."""
    with chain.flow() as flow:
        with chain.universe.cable_out(*chain.universe.kafka):
            burst(flow, 100_000 if chain.full_length else 5_000)
        flow.goes_on()
    chain.judge(flow)
    assert flow.bridge.peak_mb < 128


@pytest.mark.queued(10_000)
def test_the_bridge_is_killed_while_it_writes_to_disk(chain: Chain) -> None:
    """Acknowledged messages are on disk, and not yet in Kafka, so none is duplicated."""
    with chain.flow() as flow:
        flow.catches_up()
        with chain.universe.cable_out(*chain.universe.kafka):
            for _ in range(5):
                burst(flow, 600)
                flow.bridge.kill9()
                flow.bridge.start()
                flow.bridge.wait_live()
        flow.goes_on()
    chain.judge(flow, doubled=ROWS)


@pytest.mark.queued(10_000)
def test_the_bridge_is_killed_while_it_delivers_what_is_on_disk(chain: Chain) -> None:
    """Messages that were read from disk and are in flight are duplicated."""
    kills = 3
    with chain.flow(rate=60) as flow:
        for _ in range(kills):
            with chain.universe.cable_out(*chain.universe.kafka):
                burst(flow)
            delivered = flow.verifier.delivered
            flow.delivers_beyond(delivered + 300)
            flow.bridge.kill9()
            flow.bridge.start()
            flow.bridge.wait_live()
        flow.goes_on()
    chain.judge(flow, doubled=kills * ROWS)


@pytest.mark.queued(10_000)
def test_the_bridge_is_stopped_and_started_meanwhile(chain: Chain) -> None:
    """A stop waits 5 s for a silent Kafka; during that time EMQ's queue holds the messages."""
    with chain.flow(rate=45) as flow:
        with chain.universe.cable_out(*chain.universe.kafka):
            burst(flow, 1_000)
            assert flow.bridge.terminate(deadline=60) == 0
            flow.bridge.start()
            flow.bridge.wait_live()
            burst(flow, 1_000)
        flow.goes_on()
    chain.judge(flow, doubled=ROWS)
