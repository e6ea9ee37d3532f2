"""The bound of requests a second."""

import asyncio

import pytest

from bridge.http.pace import Pace


def test_the_first_ones_wait_for_nothing_and_the_others_are_evenly_spaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: 1024.0)
        pace = Pace(rate=8.0, burst=3)
        for _ in range(6):
            await pace.turn()
        monkeypatch.setattr(loop, "time", lambda: 2048.0)
        await pace.turn()
        monkeypatch.undo()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(ask())
    assert waited == pytest.approx([0.125, 0.25, 0.375])
