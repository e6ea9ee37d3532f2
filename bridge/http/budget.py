"""Bounds the processor time that answers cost, whoever asks, on a fast machine and on a slow one."""

import asyncio
import time

# Seconds of processor time that must be there when a client's turn comes after a wait. To wake up costs some
# of it: with 0 a turn would wait for what its own waking costs, for ever. And whatever wakes up cools the
# caches for the messages: few long turns meet fewer messages than many short ones.
_ENOUGH = 0.004


class Budget:
    """`await turn()` returns once the thread has used at most `share` of a core; in order of arrival.

    The thread saves up to `saved` seconds of processor time while it has less to do, so that a person waits
    for nothing. Nobody is refused: a flood ends as the flooding client's own queue.
    """

    def __init__(self, share: float, saved: float) -> None:
        self._share = share
        self._saved = max(saved, 2 * _ENOUGH)
        self._credit = saved
        self._at = asyncio.get_running_loop().time()
        self._used = time.thread_time()
        self._one_by_one = asyncio.Lock()

    async def turn(self) -> None:
        async with self._one_by_one:
            while (credit := self._account()) < 0:
                await asyncio.sleep((_ENOUGH - credit) / self._share)

    def _account(self) -> float:
        """The processor time that is left, in seconds, after what the thread has done until now."""
        now, used = asyncio.get_running_loop().time(), time.thread_time()
        earned = min(self._saved, self._credit + (now - self._at) * self._share)
        self._credit = earned - (used - self._used)
        self._at, self._used = now, used
        return self._credit
