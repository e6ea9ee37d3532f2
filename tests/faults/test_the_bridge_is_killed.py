"""The bridge is stopped or killed, and started again, ten times in a row under load."""

from tests.faults.chain import Chain, Flow

_TIMES = 10
_RATE = 60.0


def test_sigterm_ten_times(chain: Chain) -> None:
    with chain.flow(rate=_RATE) as flow:
        for _ in range(_TIMES):
            with flow.comes_back():
                assert flow.bridge.terminate() == 0
                start_again(flow)
    chain.judge(flow)


def test_kill_9_ten_times(chain: Chain) -> None:
    """Messages that were produced but not acknowledged are resent: at most a window each time."""
    with chain.flow(rate=_RATE) as flow:
        for _ in range(_TIMES):
            # On a resumed session mosquitto also sends its queue, beyond the window: wait until that is over.
            flow.catches_up()
            with flow.comes_back():
                flow.bridge.kill9()
                start_again(flow)
    chain.judge(flow, doubled=_TIMES * flow.doubled_by_a_crash)


def start_again(flow: Flow) -> None:
    flow.load.wait_sent(20)
    flow.bridge.start()
    flow.bridge.wait_live()
    flow.goes_on()
