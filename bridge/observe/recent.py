"""Remembers what was logged: how often each event, the last 20 events for people, and each side's trouble.

`events.log` notes every event here, also one below the log level, so that the page and /metrics do not depend
on log.level. Any thread may log, so a lock guards the counts.
"""

import time
from collections import deque
from dataclasses import dataclass
from logging import INFO, WARNING
from threading import Lock

from bridge.observe.printable import printable
from bridge.observe.words import words

MOST = 20  # events that are kept for people
_MOST_CHARACTERS = 300  # of one field's value, and of one event's text
_CAUSE_STAYS = 150.0  # seconds; causes that last are logged once a minute
_UNSHOWN = {"exc_info", "exception"}  # a traceback is for the log alone


@dataclass(frozen=True, slots=True)
class Noted:
    """One event that was logged. `at`: monotonic seconds. `text`: one plain sentence."""

    at: float
    level: int
    event: str
    fields: dict[str, str]
    text: str  # made once: each snapshot shows some dozens of them


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
        noted = Noted(time.monotonic(), level, str(event), texts, words(event, texts))
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

    def warnings(self, since: float) -> list[Noted]:
        """The last of each event of WARNING and ERROR after `since` (monotonic seconds), newest first.

        Unlike those of `last`, they are not pushed out by other events.
        """
        with self._lock:
            found = [noted for noted in self._last_of.values() if noted.level >= WARNING and noted.at > since]
        return sorted(found, key=_when, reverse=True)

    def age(self, event: str, now: float) -> float | None:
        """Seconds since this event was logged last; None: it never was."""
        noted = self._last_of.get(event)
        return None if noted is None else max(0.0, now - noted.at)

    def trouble(self, causes: frozenset[str], effects: frozenset[str], since: float) -> Noted | None:
        """The last of `causes` after `since` (monotonic seconds), or of `effects`.

        An effect, such as a closed connection, does not replace a cause that is at most _CAUSE_STAYS older.
        """
        with self._lock:
            found = [noted for noted in self._last_of.values() if noted.at > since]
        cause = max((noted for noted in found if noted.event in causes), key=_when, default=None)
        effect = max((noted for noted in found if noted.event in effects), key=_when, default=None)
        if cause is None or effect is None:
            return cause or effect
        return effect if effect.at - cause.at > _CAUSE_STAYS else cause


def _when(noted: Noted) -> float:
    return noted.at


def _text(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return printable(str(value)[:_MOST_CHARACTERS])


RECENT = Recent()
"""Of this process. There is one log, so there is one memory of it."""
