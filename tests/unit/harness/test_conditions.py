"""Deadlines on a slow machine."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.harness import conditions
from tests.harness.conditions import NotInTime, measuring, patient, wait_until
from tests.harness.host import LAB, USERS_LAB
from tests.harness.kit import ROOT
from tests.harness.lab import door


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """after(took, usual): a start was measured that took so many seconds instead of `usual`."""
    now = 0.0
    monkeypatch.setattr(conditions._Pace, "ratio", 1.0)

    def measure(took: float, usual: float) -> None:
        nonlocal now
        with monkeypatch.context() as patched:
            patched.setattr(conditions.time, "monotonic", lambda: now)
            with measuring(usual):
                now += took

    return measure


def test_deadlines_grow_as_much_as_the_start_took_longer(after: Callable[[float, float], None]) -> None:
    after(49.0, 14.0)
    assert patient(60.0) == 210.0


def test_a_quick_start_shortens_no_deadline(after: Callable[[float, float], None]) -> None:
    after(3.0, 15.0)
    assert patient(60.0) == 60.0


def test_a_later_quick_start_does_not_forget_the_slow_one(after: Callable[[float, float], None]) -> None:
    after(30.0, 15.0)
    after(5.0, 15.0)
    assert patient(60.0) == 120.0


def test_a_test_that_fails_ends_on_the_slowest_machine_too(after: Callable[[float, float], None]) -> None:
    after(10_000.0, 15.0)
    assert patient(60.0) == 360.0


def test_the_deadline_in_force_is_said(after: Callable[[float, float], None]) -> None:
    after(30.0, 15.0)
    with pytest.raises(NotInTime, match=r"^not within 0\.02 s: the moon is full$"):
        wait_until(lambda: False, 0.01, "the moon is full")


def test_a_start_that_fails_is_no_measure(after: Callable[[float, float], None]) -> None:
    after(1.0, 1.0)
    with pytest.raises(RuntimeError), measuring(1e-9):
        raise RuntimeError
    assert patient(1.0) == 1.0


# -- the lab of the tests and the lab of the user ----------------------------------------------------


def test_the_tests_have_a_lab_of_their_own() -> None:
    assert LAB != USERS_LAB
    assert door.RUN.name == f"lab-{LAB}"


def test_without_the_variable_of_the_tests_it_is_the_lab_of_the_user() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LAB_NETWORK"}
    program = (
        "from tests.harness.lab import door; from tests.harness.host import *; print(door.RUN.name, LAB)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["lab", USERS_LAB]
