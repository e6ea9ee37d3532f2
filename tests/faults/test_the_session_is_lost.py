"""EMQ's node dies together with its sessions, as EMQ's regular sessions do.

EMQ loses the messages that it had acknowledged to devices and not yet sent to the bridge. A relay between
HAProxy and the bridge shows that the bridge loses nothing.
"""

from tests.faults.chain import Chain
from tests.harness.haproxy import SUBSCRIBER
from tests.harness.relay import RecordingRelay


def test_twice_under_load(chain: Chain) -> None:
    with RecordingRelay((chain.universe.haproxy.address, SUBSCRIBER), chain.universe.router) as relay:
        with chain.flow(relay=relay) as flow:
            for _ in range(2):
                with flow.comes_back(), chain.emq.mosquitto.dead():
                    flow.bridge.wait_for("mqtt.closed")
                flow.bridge.wait_for("mqtt.session_lost")
                flow.goes_on()
        chain.judge(flow)
