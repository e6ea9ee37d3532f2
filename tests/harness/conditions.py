"""Waiting for a condition. No other module of the tests sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class NotInTime(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(condition: Callable[[], T], deadline: float, what: str | Callable[[], str]) -> T:
    """Call `condition` until it returns something true, and return that.

    `deadline` is in seconds from now; `what` completes the sentence "in 5 s ... did not come true",
    and may be a function if the reason is known only afterwards. Raises NotInTime.
    """
    ends = time.monotonic() + deadline
    pause = 0.005
    while not (result := condition()):
        if time.monotonic() >= ends:
            raise NotInTime(f"not within {deadline:g} s: {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return result
