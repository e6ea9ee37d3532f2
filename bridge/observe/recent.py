"""Remembers what was logged: how often each event, the last 20 events for people, and each side's trouble.

`events.log` notes every event here, also one below the log level, so that the page and /metrics do not depend
on log.level. Any thread may log, so a lock guards the counts.
"""

import time
from collections import deque
from dataclasses import dataclass
from logging import ERROR, INFO, WARNING
from threading import Lock

from bridge.observe.printable import printable

MOST = 20  # events that are kept for people
_MOST_CHARACTERS = 300  # of one field's value, and of one event's text
_ERROR_STAYS = 150.0  # seconds for which a WARNING does not replace an ERROR; events repeat once a minute
_UNSHOWN = {"exc_info", "exception"}  # a traceback is for the log alone


@dataclass(frozen=True, slots=True)
class Noted:
    """One event that was logged. `at`: monotonic seconds."""

    at: float
    level: int
    event: str
    fields: dict[str, str]

    @property
    def text(self) -> str:
        return ", ".join(f"{name}: {value}" for name, value in self.fields.items())[:_MOST_CHARACTERS]


class Recent:
    """What was logged since the start of the process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: dict[str, int] = {}
        self._last: deque[Noted] = deque(maxlen=MOST)
        self._last_of: dict[str, Noted] = {}  # of INFO and above, by event: a closed list

    def note(self, event: str, level: int, fields: dict[str, object]) -> None:
        """Count the event. Keep it with its fields if its level is INFO or above."""
        if level < INFO:
            with self._lock:
                self._counts[event] = self._counts.get(event, 0) + 1
            return
        texts = {name: _text(value) for name, value in fields.items() if name not in _UNSHOWN}
        noted = Noted(time.monotonic(), level, str(event), texts)
        with self._lock:
            self._counts[event] = self._counts.get(event, 0) + 1
            self._last_of[event] = noted
            self._last.append(noted)

    def counts(self) -> dict[str, int]:
        with self._lock:
            return self._counts.copy()

    def last(self) -> list[Noted]:
        """The last events of INFO and above, newest first."""
        with self._lock:
            return list(reversed(self._last))

    def age(self, event: str, now: float) -> float | None:
        """Seconds since this event was logged last; None: it never was."""
        noted = self._last_of.get(event)
        return None if noted is None else max(0.0, now - noted.at)

    def trouble(self, events: frozenset[str], since: float) -> Noted | None:
        """The last WARNING or ERROR of `events` after `since` (monotonic seconds).

        A WARNING does not replace an ERROR that is at most _ERROR_STAYS older: the ERROR names the cause,
        and the WARNING often is its consequence.
        """
        with self._lock:
            found = [noted for name, noted in self._last_of.items() if name in events]
        found = [noted for noted in found if noted.level >= WARNING and noted.at > since]
        if not found:
            return None
        newest = max(found, key=_when)
        errors = [noted for noted in found if noted.level >= ERROR]
        worst = max(errors, key=_when, default=newest)
        return worst if newest.at - worst.at <= _ERROR_STAYS else newest


def _when(noted: Noted) -> float:
    return noted.at


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return printable(str(value)[:_MOST_CHARACTERS])


RECENT = Recent()
"""Of this process. There is one log, so there is one memory of it."""
