"""Decides whether a commit of the disk waits a moment for more messages, with delivery exactly-once. Pure.

There all messages go through the disk. Those that come one by one would each have a commit of its own: a
sync, and the CPU of a turn of the loop and of the disk thread. But they are not late where a few of them
share one, because the next Kafka transaction waits longer than that.

EMQ must not wait for the bridge, though: with a small window, all that it may send is here, and no more comes
before an acknowledgement. So where a wait has brought nothing, or waits have ended with the same number of
messages several times in a row, commits of so many do not wait, until it is tried once more.
"""

MOMENT = 0.05  # seconds
ENOUGH = 16  # messages; a commit of so many costs each of them little
_TRY_EVERY = 2.0  # seconds
_IN_A_ROW = 3  # waits


class Gathering:
    """Of one commit after the other. `enough`: a commit of so many messages does not wait."""

    def __init__(self) -> None:
        self.enough = ENOUGH
        self._until = 0.0  # the commit to come waits until then, in monotonic seconds; 0: it does not wait
        self._first = 0  # so many messages waited when that began
        self._try_at = 0.0
        self._last = self._times = 0  # the last waits ended with so many messages, so many times in a row

    def until(self, now: float, waiting: int) -> float:
        """When to begin the commit for which so many messages wait. Not above `now`: at once."""
        if now >= self._try_at:
            self.enough = ENOUGH
        if waiting >= self.enough:
            return now
        if not self._until:
            self._until, self._first = now + MOMENT, waiting
        return self._until

    def began(self, now: float, waiting: int) -> None:
        """The commit begins, with so many messages. It may not have waited to the end."""
        if self._until and now >= self._until:
            self._times = self._times + 1 if waiting == self._last else 1
            self._last = waiting
            if waiting <= self._first or self._times >= _IN_A_ROW:
                self.enough, self._try_at = waiting, now + _TRY_EVERY
        self._until = 0.0
