"""Bounds how many requests a second are answered, whoever asks."""

import asyncio


class Pace:
    """`await turn()` returns at most `rate` times a second, after the first `burst`, in order of arrival.

    Nobody is refused: who asks too often waits, so a flood ends as the flooding client's own queue.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1 / rate
        self._slack = burst / rate
        self._next = 0.0  # when the next turn would be due if all turns were evenly spaced

    async def turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - self._slack) + self._interval
        if self._next > now:
            await asyncio.sleep(self._next - now)
