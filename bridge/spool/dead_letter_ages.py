"""How old dead letters are for certain, so that a wrong clock removes none.

A letter's own time stamp is as wrong as the clock was. So two other things count, whichever says more:

* lived through: how long the service has run since then, by the monotonic clock. While the service is stopped
  this age stands still, so letters are kept for longer.
* NTP's word: the wall clock, where the kernel calls it synchronised now and called it so then.

The bridge notes neither for each letter. Now and then it makes a mark: letters up to this number exist.
"""

import json
import sqlite3
import time
from typing import Any, NamedTuple

from bridge.delivery.clock import is_synchronised

_FACT = "dead_letter_ages"
_LEAST_INTERVAL, _SAVE_EVERY = 60.0, 3600.0  # seconds
_MARKS = 100  # of one max_age


class _Mark(NamedTuple):
    """Letters up to `number` existed when the service had lived for `lived` seconds."""

    number: int
    lived: float
    wall: int  # ms since 1970 by NTP's word; 0: the clock was not synchronised


class DeadLetterAges:
    """The marks of one database, in its table `facts`."""

    def __init__(self, database: sqlite3.Connection, max_age: float) -> None:
        self._database = database
        self._max_age = max_age
        self._interval = max(_LEAST_INTERVAL, max_age / _MARKS)
        row = database.execute("SELECT value FROM facts WHERE name = ?", (_FACT,)).fetchone()
        kept: dict[str, Any] = json.loads(row[0]) if row else {"lived": 0.0, "marks": []}
        self._marks = [_Mark(*mark) for mark in kept["marks"]]
        self._lived_before = self._saved = float(kept["lived"])
        self._began = time.monotonic()

    @property
    def _lived(self) -> float:
        return self._lived_before + time.monotonic() - self._began

    def is_due(self, last: int) -> bool:
        """Whether `mark` has something to write. `last`: number of the newest letter; 0: there is none."""
        if not last:
            return bool(self._marks)
        lived = self._lived
        if not self._marks or (
            self._marks[-1].number < last and lived >= self._marks[-1].lived + self._interval
        ):
            return True
        return lived >= self._saved + min(_SAVE_EVERY, self._interval)

    def mark(self, first: int, last: int) -> None:
        """Write down that the letters from `first` to `last` exist. Call it in a transaction."""
        lived = self._lived
        wall = _wall()
        marks = [mark for mark in self._marks if mark.number >= first > 0]
        if last and (not marks or (marks[-1].number < last and lived >= marks[-1].lived + self._interval)):
            marks.append(_Mark(last, lived, wall))
        self._database.execute(
            "REPLACE INTO facts VALUES (?, ?)", (_FACT, json.dumps({"lived": lived, "marks": marks}))
        )
        self._marks, self._saved = marks, lived

    def too_old(self) -> int:
        """The number up to which letters are older than max_age for certain; 0: none is."""
        lived = self._lived
        wall = _wall()
        return max(
            (
                mark.number
                for mark in self._marks
                if lived - mark.lived >= self._max_age
                or (wall and mark.wall and wall - mark.wall >= self._max_age * 1000)
            ),
            default=0,
        )


def _wall() -> int:
    """Ms since 1970 by NTP's word; 0: the clock is not synchronised."""
    return time.time_ns() // 1_000_000 if is_synchronised() else 0
