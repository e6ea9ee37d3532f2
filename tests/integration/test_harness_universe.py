"""Universe, the basis of the fault suite: machines whose power and cables can fail."""

import contextlib
import errno
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.harness.brokers import MQTT, TwoDoors, answers_connect
from tests.harness.conditions import wait_until
from tests.harness.universe import Universe

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces take root")


@pytest.fixture
def universe() -> Iterator[Universe]:
    with Universe() as universe, universe.inside():
        yield universe


@pytest.fixture
def emq(universe: Universe, tmp_path: Path) -> Iterator[TwoDoors]:
    with TwoDoors(universe, tmp_path) as emq:
        yield emq


def test_it_has_the_founding_addresses_and_no_way_out(universe: Universe) -> None:
    assert universe.haproxy.address == "172.30.1.10"
    assert [host.address for host in universe.emq] == ["172.30.1.25", "172.30.1.9"]
    with socket.socket() as probe:
        assert probe.connect_ex(("192.0.2.1", 80)) == errno.ENETUNREACH


def test_two_with_the_same_addresses_live_side_by_side(emq: TwoDoors, tmp_path: Path) -> None:
    with Universe() as other, other.inside():
        assert not answers_connect("172.30.1.25")
        with TwoDoors(other, tmp_path / "other"):
            assert answers_connect("172.30.1.25")
    assert answers_connect("172.30.1.25")


def test_a_cable_that_is_out_says_nothing_and_breaks_nothing(universe: Universe, emq: TwoDoors) -> None:
    one, two = universe.emq
    with socket.create_connection((one.address, MQTT), timeout=1.0) as client:
        with universe.cable_out(one):
            assert answers_connect(two.address)
            client.sendall(bytes.fromhex("100c 0004 4d515454 04 02 000a 0000"))
            with pytest.raises(TimeoutError):
                client.recv(4)
        client.settimeout(10.0)
        assert client.recv(4) == bytes.fromhex("2002 0000"), "TCP must have retransmitted it"


def test_a_power_cut_says_nothing_and_forgets_all(universe: Universe, emq: TwoDoors) -> None:
    one, _ = universe.emq
    with socket.create_connection((one.address, MQTT), timeout=1.0) as client:
        with universe.power_cut(emq.node(1)):
            with pytest.raises(TimeoutError):
                client.recv(1)
            assert not one.listens(MQTT)
        assert answers_connect(one.address)
        client.sendall(b"\xc0\x00")
        client.settimeout(10.0)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_cable_is_out_while_its_machine_has_no_power(universe: Universe, emq: TwoDoors) -> None:
    one, two = universe.emq
    with universe.power_cut(emq.node(1)), universe.cable_out(one, two):
        assert not answers_connect(two.address)
    for host in (one, two):
        wait_until(partial(answers_connect, host.address), 10.0, "the link is up")


def test_a_cable_that_is_out_stays_out_when_the_power_is_back(universe: Universe, emq: TwoDoors) -> None:
    one = universe.host("emq1", 25)
    one.wires.remove()
    with universe.cable_out(one):
        one.wires.connect()
        assert not answers_connect(one.address)
    wait_until(lambda: answers_connect(one.address), 10.0, "the link is up")


def test_a_bad_cable_delays(universe: Universe, emq: TwoDoors, tmp_path: Path) -> None:
    one, two = universe.emq
    with universe.bad_cable(one, tmp_path, delay=0.1):
        began = time.monotonic()
        with contextlib.closing(socket.create_connection((one.address, MQTT), timeout=5.0)):
            assert time.monotonic() - began >= 0.2
        began = time.monotonic()
        with contextlib.closing(socket.create_connection((two.address, MQTT), timeout=5.0)):
            assert time.monotonic() - began < 0.2
    assert answers_connect(one.address)


def test_a_bad_cable_loses(universe: Universe, emq: TwoDoors, tmp_path: Path) -> None:
    one, _ = universe.emq
    with universe.bad_cable(one, tmp_path, loss=1.0):
        assert not answers_connect(one.address)
    wait_until(lambda: answers_connect(one.address), 10.0, "the neighbour is looked for again (ARP)")


def test_nothing_of_it_can_be_seen_outside() -> None:
    def links() -> str:
        return subprocess.run(["ip", "-brief", "link"], check=True, capture_output=True, text=True).stdout

    before = links()
    with Universe() as universe:
        assert len(universe.kafka) == 3  # the hosts are made on access
        assert links() == before
    assert links() == before
