"""Fixtures for the unit tests of delivery."""

import pytest

from bridge.delivery import pipeline, spooling
from tests.unit.delivery.world import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that the test sets, and that the pipeline trusts."""
    clock = Clock()
    monkeypatch.setattr(pipeline, "time", clock)
    monkeypatch.setattr(spooling, "time", clock)
    monkeypatch.setattr(pipeline, "is_believable", lambda: True)
    return clock
