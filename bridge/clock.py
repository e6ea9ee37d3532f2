"""Is the clock to be believed?

A Raspberry Pi has no battery clock: until the network has told it the time it shows some day in the
past. A record stamped with 1970 would be deleted by Kafka's retention at once, and 0 means "now" to
librdkafka; so a message that comes while the clock is wrong gets -1, which Kafka stores as "none".
"""

import ctypes
import time
from pathlib import Path

from bridge import RELEASED

NO_TIMESTAMP = -1

_RTC = Path("/sys/class/rtc/rtc0")
_TIME_ERROR = 5  # adjtimex(2): the kernel's clock is not synchronised


def is_believable() -> bool:
    """Not before this release, and set by something: the network, or a battery clock."""
    if time.time() < RELEASED.timestamp():
        return False
    return _RTC.exists() or _is_synchronised()


def _is_synchronised() -> bool:
    # struct timex is 208 bytes on 64-bit Linux; modes = 0, its first field, only asks.
    timex = ctypes.create_string_buffer(256)
    return int(ctypes.CDLL(None).adjtimex(timex)) != _TIME_ERROR
