"""EjabberdPair: a cluster with takeover, whose sessions die with their node."""

import itertools
import time
from collections.abc import Callable

import pytest

from tests.harness.brokers import answers_connect
from tests.harness.client import Client
from tests.harness.conditions import wait_until
from tests.harness.ejabberd import EjabberdPair
from tests.harness.host import Host, Network
from tests.harness.packets import Disconnect, Publish

_names = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A client id and topic that no other test uses."""
    return f"kept{next(_names)}"


@pytest.fixture
def at(pair: EjabberdPair) -> Callable[..., Client]:
    """A client at a node: at(host, client_id, version=5)."""

    def connect(host: Host, client_id: str, version: int = 5) -> Client:
        return Client(host.address, client_id, version=version, credentials=pair.credentials)

    return connect


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [1, 2])
def test_a_session_moves_to_the_node_its_client_comes_to(
    qos: int, version: int, name: str, at: Callable[..., Client], network: Network
) -> None:
    one, two = network.emq
    with at(one, name, version) as client:
        client.subscribe(name, qos)
    with at(two, "publisher", version) as publisher:
        publisher.publish(name, b"through the other node", qos)
    with at(two, name, version) as client:
        assert client.connack.session_present
        publish = client.expect(Publish)
        assert (publish.payload, publish.qos) == (b"through the other node", qos)
        client.acknowledge(publish)


def test_one_message_is_in_flight_and_keeps_its_identifier_while_others_count_upward(
    name: str, at: Callable[..., Client], network: Network
) -> None:
    one, two = network.emq
    with at(one, name) as client, at(two, "publisher") as publisher:
        client.subscribe(name, 1)
        for number in range(1, 4):
            publisher.publish(name, b"%d" % number, 1)
        first = client.expect(Publish)
    with at(two, name) as client:
        again = client.expect(Publish)
        assert (again.payload, again.dup, again.identifier) == (first.payload, True, first.identifier)
        for payload, identifier in ((b"2", first.identifier + 1), (b"3", first.identifier + 2)):
            client.acknowledge(again)
            again = client.expect(Publish)
            assert (again.payload, again.identifier) == (payload, (identifier - 1) % 65535 + 1)


def test_who_is_taken_over_at_the_other_node_is_told(
    name: str, at: Callable[..., Client], network: Network
) -> None:
    one, two = network.emq
    with at(one, name) as first:
        # ejabberd loses a session that is taken over twice within the same second of the clock.
        began = int(time.time())
        wait_until(lambda: int(time.time()) > began, 5.0, "the next second")
        with at(two, name) as second:
            assert second.connack.session_present
            assert first.expect(Disconnect).reason == 0x8E


def test_a_session_dies_with_its_node_and_one_at_the_other_lives(
    name: str, pair: EjabberdPair, at: Callable[..., Client], network: Network
) -> None:
    one, two = network.emq
    with at(one, f"{name}-one") as client:
        client.subscribe(name, 1)
    with at(two, f"{name}-two") as client:
        client.subscribe(name, 1)
    with pair.node(1).dead():
        with at(two, f"{name}-one") as client:
            assert not client.connack.session_present
        with at(two, f"{name}-two") as client:
            assert client.connack.session_present


def test_nodes_that_both_were_killed_are_one_cluster_again(
    name: str, pair: EjabberdPair, at: Callable[..., Client], network: Network
) -> None:
    """Without EjabberdPair's setting the node that died first would wait for the other."""
    pair.node(1).kill9()
    pair.node(2).kill9()
    for number in (1, 2):
        pair.node(number).start()
    one, two = network.emq
    with at(one, name) as client, at(two, "publisher") as publisher:
        client.subscribe(name, 1)

        # Each node serves as soon as it runs. What it does not know of the other yet is not delivered.
        def is_delivered() -> bool:
            publisher.publish(name, b"back", 1)
            return client.has_packet(within=1.0)

        wait_until(is_delivered, 30.0, "a message of one node comes to the other")
        assert client.expect(Publish).payload == b"back"


def test_a_client_without_credentials_is_refused(pair: EjabberdPair, network: Network) -> None:
    assert not answers_connect(network.emq[0].address)
