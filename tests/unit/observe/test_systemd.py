"""The notifications that systemd receives."""

import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.observe import systemd
from bridge.observe.systemd import Notifier

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Manager:
    """Plays systemd: receives on $NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(address)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(autouse=True)
def _nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    manager = Manager(address)
    yield manager
    manager.close()


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    """Request this fixture after those that set the environment."""
    notifier = Notifier()
    yield notifier
    notifier.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(systemd.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watchdog of 30 s for this process."""
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))


def test_it_is_ready_once_and_then_says_what_it_is_at(manager: Manager, notifier: Notifier) -> None:
    notifier.ready("waiting for the broker")
    notifier.ready("live")
    assert manager.heard() == ["READY=1", "STATUS=waiting for the broker", "STATUS=live"]


def test_the_same_status_is_told_once(manager: Manager, notifier: Notifier) -> None:
    for text in ("live", "live", "subscribing", "live"):
        notifier.status(text)
    assert manager.heard() == ["STATUS=live", "STATUS=subscribing", "STATUS=live"]


def test_a_stop_says_how_long_it_may_take(manager: Manager, notifier: Notifier) -> None:
    notifier.stopping("stopping: 3 in flight", seconds=22.5)
    assert manager.heard() == ["STOPPING=1\nEXTEND_TIMEOUT_USEC=22500000", "STATUS=stopping: 3 in flight"]


def test_a_loop_that_turns_feeds_the_watchdog_three_times_in_its_time(
    manager: Manager, watchdog: None, clock: list[float], notifier: Notifier
) -> None:
    due = []
    for _ in range(241):  # 30 s, one turn every 125 ms
        due.append(notifier.alive())
        clock[0] += 0.125
    assert manager.heard() == ["WATCHDOG=1"] * 4  # at 0, 10, 20 and 30 s
    assert max(due) == 10.0
    assert min(due) >= 0.0


def test_a_loop_that_hangs_does_not_feed_it(
    manager: Manager, watchdog: None, clock: list[float], notifier: Notifier
) -> None:
    notifier.alive()
    clock[0] += 300.0
    assert manager.heard() == ["WATCHDOG=1"]


def test_what_a_full_socket_did_not_take_is_told_soon_and_the_loop_does_not_spin(
    manager: Manager, watchdog: None, clock: list[float], notifier: Notifier
) -> None:
    sent = 0
    while notifier._send("X=1"):
        sent += 1
    assert 0 < notifier.alive() <= 0.5
    notifier.ready("live")
    assert manager.heard() == ["X=1"] * sent
    clock[0] += 0.5
    notifier.alive()
    notifier.ready("live")
    assert manager.heard() == ["WATCHDOG=1", "READY=1", "STATUS=live"]


def test_a_unit_without_watchdog_never_wakes_the_loop(manager: Manager, notifier: Notifier) -> None:
    assert notifier.alive() == math.inf
    assert manager.heard() == []


def test_the_watchdog_of_another_process_is_not_ours_to_feed(
    manager: Manager, watchdog: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_PID", "1")
    notifier = Notifier()
    assert notifier.alive() == math.inf
    notifier.close()


def test_an_abstract_address_is_written_with_an_at_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"mqtt-kafka-bridge-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    notifier = Notifier()
    notifier.status("live")
    assert manager.heard() == ["STATUS=live"]
    notifier.close()
    manager.close()


@pytest.mark.parametrize("address", ["", "/nonexistent/notify"])
def test_without_systemd_nothing_is_said_and_nothing_breaks(
    address: str, watchdog: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notifier = Notifier()
    notifier.ready("live")
    notifier.stopping("stopping", 1.0)
    assert notifier.alive() > 0.0
    notifier.close()
