"""What several rooms of the unit tests use."""

import pytest

from bridge.delivery import pipeline, spooling
from tests.unit.delivery.world import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The pipeline's time is the test's, and is believed."""
    clock = Clock()
    monkeypatch.setattr(pipeline, "time", clock)
    monkeypatch.setattr(spooling, "time", clock)
    monkeypatch.setattr(pipeline, "is_believable", lambda: True)
    return clock
