"""Killing, hanging and starting the brokers that simulate EMQ, as a client sees it."""

import stat
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.brokers import DASHBOARD, External, TwoDoors, answers_connect
from tests.harness.conditions import NotInTime
from tests.harness.host import Network, PortInUse


@pytest.fixture
def doors(network: Network, tmp_path: Path) -> Iterator[TwoDoors]:
    with TwoDoors(network, tmp_path / "doors") as doors:
        yield doors


def test_a_dead_node_takes_no_client_while_the_other_does(doors: TwoDoors, network: Network) -> None:
    one, two = network.emq
    with doors.node(1).dead():
        assert not answers_connect(one.address)
        assert answers_connect(two.address)
    assert answers_connect(one.address)


def test_a_hung_node_accepts_connections_and_says_nothing(doors: TwoDoors, network: Network) -> None:
    one, two = network.emq
    with doors.node(2).hung():
        assert two.listens(1883)
        assert not answers_connect(two.address)
        assert answers_connect(one.address)
    assert answers_connect(two.address)


def test_each_node_has_a_dashboard_that_says_its_name(doors: TwoDoors, network: Network) -> None:
    for host in network.emq:
        with urllib.request.urlopen(f"http://{host.address}:{DASHBOARD}/", timeout=5) as answer:
            assert answer.read().decode().strip() == host.name


def test_an_address_in_use_is_said(doors: TwoDoors, network: Network, tmp_path: Path) -> None:
    with pytest.raises(PortInUse, match=r"127\.30\.2\.100:1883: Address already in use"):
        TwoDoors(network, tmp_path / "again").start()


@pytest.fixture
def control(tmp_path: Path) -> Callable[[int], tuple[str, Path]]:
    """Makes a command for --emq-ctl that records its calls and ends with this code."""

    def make(code: int) -> tuple[str, Path]:
        calls = tmp_path / "calls"
        command = tmp_path / "ctl"
        command.write_text(f"#!/bin/sh\necho \"$@\" >>{calls}\necho 'no such node' >&2\nexit {code}\n")
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        return str(command), calls

    return make


def test_external_brokers_are_controlled_by_a_command(
    doors: TwoDoors, control: Callable[[int], tuple[str, Path]]
) -> None:
    command, calls = control(0)
    with External(doors.addresses, command) as external:
        assert external.addresses == doors.addresses
        with external.node(1).hung():
            pass
        with external.node(2).dead():
            pass
    assert calls.read_text().splitlines() == ["sigstop 1", "sigcont 1", "kill9 2", "start 2"]


def test_a_command_that_fails_is_quoted(doors: TwoDoors, control: Callable[[int], tuple[str, Path]]) -> None:
    command, _ = control(3)
    with pytest.raises(RuntimeError, match="kill9 1 ended with 3: no such node"):
        External(doors.addresses, command).node(1).kill9()


def test_without_a_command_external_brokers_are_left_alone(doors: TwoDoors) -> None:
    with pytest.raises(RuntimeError, match=r"cannot kill9 emq1: .*--emq-ctl"):
        External(doors.addresses, None).node(1).kill9()


@pytest.mark.parametrize("addresses", ["a:1883", "a,b", "a:1,b:2,c:3"])
def test_two_brokers_with_ports_are_asked_for(addresses: str) -> None:
    with pytest.raises(ValueError, match="two brokers are needed as HOST:PORT,HOST:PORT"):
        External(addresses.split(","), None)


def test_brokers_that_are_not_there_are_waited_for_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.harness.brokers.EXTERNAL_DEADLINE", 0.2)
    with pytest.raises(NotInTime, match=r"127\.30\.2\.25:1883 answers CONNECT"):
        External(["127.30.2.25:1883", "127.30.2.9:1883"], None).start()
