"""Decides whether the machine's clock is right.

A Raspberry Pi has no battery clock: until the network has set the Pi's clock, the clock shows a day in the
past. Kafka's retention would delete a record with a timestamp of 1970 at once, and librdkafka takes 0 for
"now". So a message that arrives while the clock is wrong gets the timestamp -1, which Kafka stores as
"none". Such records have a disadvantage: docs/decisions/0008-kafka-forgets-what-has-no-timestamp.md.
"""

import ctypes
import time
from contextlib import suppress
from pathlib import Path

from bridge import RELEASED

EARLIEST = int(RELEASED.timestamp() * 1000)  # ms since 1970; an earlier time is wrong

_RTC = Path("/sys/class/rtc/rtc0")
_CPUS = Path("/proc/cpuinfo")
_SET_BACK = 1.0  # seconds; so far back the wall clock was set, not slewed
_TIME_ERROR = 5  # adjtimex(2): the kernel's clock is not synchronised


def is_believable() -> bool:
    """Whether the clock shows a time after this release's date, and something has set the clock.

    The clock is set by the network, by a battery clock, or by the host of a virtual machine.
    """
    if time.time() * 1000 < EARLIEST:
        return False
    return _RTC.exists() or _is_virtual() or is_synchronised()


def wall_offset() -> float:
    """Seconds that the wall clock is ahead of the monotonic clock. It changes only where the clock is set."""
    return time.time() - time.monotonic()


class WallClock:
    """Notices that the wall clock was set back."""

    def __init__(self) -> None:
        self._offset = wall_offset()

    def set_back_by(self) -> float:
        """By how many seconds it was set back, until `note` is called; 0.0: it was not."""
        offset = wall_offset()
        if offset > self._offset - _SET_BACK:
            self._offset = offset
            return 0.0
        return self._offset - offset

    def note(self) -> None:
        """What was set back is taken for right from now on."""
        self._offset = wall_offset()


def _is_virtual() -> bool:
    # CPUID's hypervisor bit. Virtual machines of other architectures have an RTC.
    with suppress(OSError):  # /proc/cpuinfo may be hidden, for example by ProcSubset=pid
        return b" hypervisor" in _CPUS.read_bytes()
    return False


def is_synchronised() -> bool:
    """NTP's word: the kernel calls its clock synchronised (adjtimex(2)), until somebody sets it by hand."""
    # struct timex is 208 bytes on 64-bit Linux. modes = 0, its first field, changes nothing.
    timex = ctypes.create_string_buffer(256)
    return int(ctypes.CDLL(None).adjtimex(timex)) != _TIME_ERROR
