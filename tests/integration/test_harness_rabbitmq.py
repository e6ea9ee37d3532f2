"""RabbitPair: a session survives the node that its client was connected to."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.harness.host import Host, Network
from tests.harness.rabbitmq import RabbitPair


@pytest.fixture(scope="module")
def pair(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitPair]:
    with RabbitPair(network, tmp_path_factory.mktemp("pair")) as pair:
        yield pair


def subscribe(host: Host, *options: str) -> str:
    """Run mosquitto_sub with a persistent session, and return its output."""
    command = ["mosquitto_sub", "-h", host.address, "-i", "kept", "-c", "-q", "1", "-t", "kept/#", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_message_is_kept_for_a_session_whose_node_dies(pair: RabbitPair, network: Network) -> None:
    one, two = network.emq
    subscribe(one, "-E")
    publish = ["mosquitto_pub", "-h", two.address, "-t", "kept/a", "-q", "1", "-m", "still here"]
    subprocess.run(publish, check=True, timeout=30)
    with pair.node(1).dead():
        assert subscribe(two, "-C", "1", "-W", "20") == "still here\n"


@pytest.mark.parametrize("number", [1, 2])
def test_a_killed_node_is_back_in_seconds_whichever_leads(pair: RabbitPair, number: int) -> None:
    """Without RabbitPair's help a node that was the leader takes 110 s."""
    pair.node(number).deadline = 60.0
    with pair.node(number).dead():
        pass
