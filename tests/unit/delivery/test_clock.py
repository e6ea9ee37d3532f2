"""Whether the bridge trusts the wall clock."""

from datetime import timedelta
from pathlib import Path

import pytest

from bridge import RELEASED
from bridge.delivery import clock
from bridge.message import NO_TIMESTAMP


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A Pi whose clock was set by the network and is right."""
    monkeypatch.setattr(clock.time, "time", lambda: (RELEASED + timedelta(days=100)).timestamp())
    monkeypatch.setattr(clock, "is_synchronised", lambda: True)
    monkeypatch.setattr(clock, "_RTC", tmp_path / "none")
    monkeypatch.setattr(clock, "_CPUS", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd evtstrm crc32 cpuid\n")
    return monkeypatch


def test_a_clock_that_the_network_has_set_is_believed(machine: pytest.MonkeyPatch) -> None:
    assert clock.is_believable()


def test_a_clock_that_nothing_has_set_is_not(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(clock, "is_synchronised", lambda: False)
    assert not clock.is_believable()


def test_a_battery_clock_is_believed_without_the_network(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setattr(clock, "is_synchronised", lambda: False)
    machine.setattr(clock, "_RTC", tmp_path)
    assert clock.is_believable()


def test_a_virtual_machine_has_the_clock_of_its_host(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setattr(clock, "is_synchronised", lambda: False)
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu vme sse4_2 hypervisor lahf_lm\n")
    assert clock.is_believable()


def test_a_clock_before_this_release_is_never_believed(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setattr(clock, "_RTC", tmp_path)
    machine.setattr(clock.time, "time", lambda: (RELEASED - timedelta(seconds=1)).timestamp())
    assert not clock.is_believable()


def test_no_timestamp_is_what_kafka_stores_as_none() -> None:
    assert NO_TIMESTAMP == -1


def test_the_kernel_is_only_asked() -> None:
    """adjtimex(2) with modes = 0 needs no privilege, and changes nothing."""
    assert clock.is_synchronised() in (True, False)


def test_where_the_processors_are_hidden_the_network_decides(
    machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").unlink()
    assert clock.is_believable()
    machine.setattr(clock, "is_synchronised", lambda: False)
    assert not clock.is_believable()
