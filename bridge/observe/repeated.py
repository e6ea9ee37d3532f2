"""Events that may occur once for each message: the log gets the first few lines a minute, then a number.

A thousand equal lines push other lines out of the journal, which keeps a limited number of bytes. journald
also drops lines that come too fast (RateLimitBurst=10000 in 30 s), without saying which.
"""

import time
from dataclasses import dataclass, field

from bridge.observe.events import Event, log

LINES = 5  # of an event in a period
PERIOD = 60.0  # seconds


@dataclass
class _Period:
    ends: float = 0.0  # monotonic seconds
    lines: int = 0  # logged in this period
    more: int = 0  # counted instead of logged
    fields: dict[str, object] = field(default_factory=dict)  # of the last counted event


class Repeated:
    """Call `log` as often as an event occurs, `log_counts` now and then, and at the end."""

    def __init__(self) -> None:
        self._periods: dict[Event, _Period] = {}

    def log(self, event: Event, **fields: object) -> None:
        now = time.monotonic()
        period = self._periods.setdefault(event, _Period())
        if now >= period.ends:
            _log_count(event, period)
            period.ends, period.lines = now + PERIOD, 0
        if period.lines < LINES:
            period.lines += 1
            log(event, **fields)
        else:
            period.more += 1
            period.fields = fields

    def log_counts(self) -> None:
        """Log one line for the counted events: `more` is their number, the other fields are of the last."""
        for event, period in self._periods.items():
            _log_count(event, period)


def _log_count(event: Event, period: _Period) -> None:
    if period.more:
        log(event, **period.fields, more=period.more)
        period.more = 0
