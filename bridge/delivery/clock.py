"""Is the clock to be believed?

A Raspberry Pi has no battery clock: until the network has told it the time it shows some day in the
past. A record stamped with 1970 would be deleted by Kafka's retention at once, and 0 means "now" to
librdkafka; so a message that comes while the clock is wrong gets -1, which Kafka stores as "none".
That has a price of its own: docs/decisions/0008-kafka-forgets-what-has-no-timestamp.md.
"""

import ctypes
import time
from contextlib import suppress
from pathlib import Path

from bridge import RELEASED

EARLIEST = int(RELEASED.timestamp() * 1000)  # ms; what is before it is no time of ours

_RTC = Path("/sys/class/rtc/rtc0")
_CPUS = Path("/proc/cpuinfo")
_TIME_ERROR = 5  # adjtimex(2): the kernel's clock is not synchronised


def is_believable() -> bool:
    """Not before this release, and set by something: the network, a battery, or a virtual machine's host."""
    if time.time() * 1000 < EARLIEST:
        return False
    return _RTC.exists() or _is_virtual() or _is_synchronised()


def _is_virtual() -> bool:
    # CPUID's hypervisor bit. Virtual machines of other architectures have an RTC.
    with suppress(OSError):  # hidden, as by ProcSubset=pid
        return b" hypervisor" in _CPUS.read_bytes()
    return False


def _is_synchronised() -> bool:
    # struct timex is 208 bytes on 64-bit Linux; modes = 0, its first field, only asks.
    timex = ctypes.create_string_buffer(256)
    return int(ctypes.CDLL(None).adjtimex(timex)) != _TIME_ERROR
