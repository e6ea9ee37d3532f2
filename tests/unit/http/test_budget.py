"""The bound of the processor time that answers cost."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from bridge.http.budget import _ENOUGH, Budget


class Clock:
    """The wall clock moves when somebody sleeps; the processor's clock moves when somebody works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1024.0
        self.used = 16.0
        monkeypatch.setattr(time, "thread_time", lambda: self.used)
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, work: Callable[[Budget], Awaitable[None]], share: float, saved: float) -> None:
        async def inside() -> None:
            loop = asyncio.get_running_loop()
            real, loop.time = loop.time, lambda: self.now  # type: ignore[method-assign]
            try:
                await work(Budget(share, saved))
            finally:
                loop.time = real  # type: ignore[method-assign]

        asyncio.run(inside())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_what_was_saved_is_used_without_a_wait_and_then_the_share_is_kept(clock: Clock) -> None:
    async def work(budget: Budget) -> None:
        for _ in range(4):  # of the savings
            await budget.turn()
            clock.used += 0.25
        await budget.turn()
        assert clock.now == 1024.0
        for _ in range(8):
            clock.used += 0.25
            await budget.turn()
        waited = clock.now - 1024.0
        assert waited == pytest.approx(8 * 0.25 / 0.125, abs=2 * _ENOUGH / 0.125)

    clock.run(work, share=0.125, saved=1.0)


def test_nobody_saves_more_than_the_bound(clock: Clock) -> None:
    async def work(budget: Budget) -> None:
        clock.now += 1_000_000
        await budget.turn()
        clock.used += 1.5
        before = clock.now
        await budget.turn()
        assert clock.now - before == pytest.approx(0.5 / 0.125, abs=2 * _ENOUGH / 0.125)

    clock.run(work, share=0.125, saved=1.0)


def test_a_wait_ends_although_to_wake_up_costs_time_too(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(seconds: float) -> None:
        clock.now += seconds
        clock.used += 0.0002

    async def work(budget: Budget) -> None:
        monkeypatch.setattr(asyncio, "sleep", sleep)
        for _ in range(100):
            clock.used += 0.0005
            await budget.turn()
        assert clock.now - 1024.0 == pytest.approx(100 * 0.0006 / 0.01, rel=0.2)

    clock.run(work, share=0.01, saved=0.0)
