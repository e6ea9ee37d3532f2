"""Waiting for a condition. No other module of the tests sleeps.

Deadlines are meant for a machine on which Kafka starts as quickly as usual. If a start was measured that took
longer, all later deadlines of this process grow by the same ratio, because a slow machine is no fault.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_MOST = 6.0  # a deadline grows at most by this, so that a test that fails still ends


class _Pace:
    ratio = 1.0


class NotInTime(AssertionError):
    """A condition did not come true before its deadline."""


@contextlib.contextmanager
def measuring(usual: float) -> Iterator[None]:
    """Measure a start inside the block, which usually takes `usual` seconds."""
    began = time.monotonic()
    yield
    _Pace.ratio = min(max(_Pace.ratio, (time.monotonic() - began) / usual), _MOST)


def patient(seconds: float) -> float:
    """This deadline on this machine."""
    return seconds * _Pace.ratio


def rounded(seconds: float) -> str:
    """A number of seconds as text: a deadline that has grown has too many digits."""
    return f"{round(seconds, 1 if seconds >= 1 else 3):g}"


def wait_until(condition: Callable[[], T], deadline: float, what: str | Callable[[], str]) -> T:
    """Call `condition` until it returns something true, and return that.

    `deadline` is in seconds from now, and grows on a slow machine. `what` completes the sentence "in 5 s ...
    did not come true", and may be a function if the reason is known only afterwards. Raises NotInTime.
    """
    deadline = patient(deadline)
    ends = time.monotonic() + deadline
    pause = 0.005
    while not (result := condition()):
        if time.monotonic() >= ends:
            raise NotInTime(f"not within {rounded(deadline)} s: {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return result
