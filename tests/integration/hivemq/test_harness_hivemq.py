"""HiveMQ: sessions on disk, and the lowest free identifier."""

import itertools

import pytest

from tests.harness.client import Client
from tests.harness.hivemq import HiveMQ
from tests.harness.host import Network
from tests.harness.packets import Disconnect, Publish

_names = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A client id and topic that no other test uses."""
    return f"kept{next(_names)}"


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [1, 2])
def test_a_session_moves_to_the_node_its_client_comes_to(
    qos: int, version: int, name: str, hivemq: HiveMQ, network: Network
) -> None:
    one, two = network.emq
    with Client(one.address, name, version=version) as client:
        client.subscribe(name, qos)
    with Client(two.address, "publisher", version=version) as publisher:
        publisher.publish(name, b"through the other node", qos)
    with Client(two.address, name, version=version) as client:
        assert client.connack.session_present
        publish = client.expect(Publish)
        assert (publish.payload, publish.qos) == (b"through the other node", qos)
        client.acknowledge(publish)


def test_a_message_gets_the_lowest_identifier_that_is_free_and_keeps_it(
    name: str, hivemq: HiveMQ, network: Network
) -> None:
    one, two = network.emq
    with Client(one.address, name) as client:
        client.subscribe(name, 1)
    with Client(two.address, "publisher") as publisher:
        for number in range(1, 4):
            publisher.publish(name, b"%d" % number, 1)
        for dup, node in ((False, one), (True, two)):
            with Client(node.address, name) as client:
                came = [client.expect(Publish) for _ in range(3)]
                numbered = [(publish.identifier, publish.payload) for publish in came]
                assert numbered == [(1, b"1"), (2, b"2"), (3, b"3")]
                assert {publish.dup for publish in came} == {dup}
                if dup:
                    for publish in came:
                        client.acknowledge(publish)
                    client.subscribe(name, 1)  # its answer comes after the acknowledgements
                    publisher.publish(name, b"4", 1)
                    assert client.expect(Publish).identifier == 1


def test_who_is_taken_over_at_the_other_node_is_told(name: str, hivemq: HiveMQ, network: Network) -> None:
    one, two = network.emq
    with Client(one.address, name) as first, Client(two.address, name) as second:
        assert second.connack.session_present
        assert first.expect(Disconnect).reason == 0x8E


def test_sessions_survive_a_node_and_the_broker_itself(name: str, hivemq: HiveMQ, network: Network) -> None:
    one, two = network.emq
    with Client(one.address, name) as client:
        client.subscribe(name, 2)
    with hivemq.node(1).dead():
        with Client(two.address, "publisher") as publisher:
            publisher.publish(name, b"still here", 2)
        with hivemq.broker.dead():
            pass
    with Client(one.address, name) as client:
        assert client.connack.session_present
        assert client.expect(Publish).payload == b"still here"


def test_what_mqtt_forbids_ends_the_connection(name: str, hivemq: HiveMQ, network: Network) -> None:
    """Other brokers accept a topic with a wildcard, or close without a reason."""
    with Client(network.emq[0].address, name) as client:
        client.send(Publish(b"with/#", b"", 1, 1))
        assert client.expect(Disconnect).reason == 0x90  # Topic Name invalid
