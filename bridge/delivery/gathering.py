"""Decides whether a commit of the disk waits a moment for more messages, with delivery exactly-once. Pure.

There all messages go through the disk. Those that come one by one would each have a commit of its own: a
sync, and the CPU of a turn of the loop and of the disk thread. But they are not late where a few of them
share one, because the next Kafka transaction waits longer than that.

EMQ must not wait for the bridge, though: with a small window, all that it may send is here soon, and no more
comes before an acknowledgement. So a commit waits only as long as that brings something, and the second half
of the wait must bring something too. Where it did not, the next commits do not wait, until it is tried again.
"""

MOMENT = 0.05  # seconds
ENOUGH = 16  # messages; a commit of so many costs each of them little
_TRY_EVERY = 2.0  # seconds


class Gathering:
    """Of one commit after the other."""

    def __init__(self) -> None:
        self._end = 0.0  # the commit to come waits until then, in monotonic seconds; 0: it does not wait
        self._waiting = 0  # so many messages waited when the wait began, or at its half
        self._is_second_half = False
        self._try_at = 0.0

    def until(self, now: float, waiting: int) -> float:
        """When to ask again: `waiting` messages wait until then for a commit. Not above `now`: it begins."""
        if waiting >= ENOUGH or (not self._end and now < self._try_at):
            return now
        if not self._end:
            self._end = now + MOMENT
            self._waiting, self._is_second_half = waiting, False
        if not self._is_second_half:
            half = self._end - MOMENT / 2
            if now < half:
                return half
            if waiting == self._waiting:
                return now
            self._waiting, self._is_second_half = waiting, True
        return self._end

    def began(self, now: float, waiting: int) -> None:
        """The commit begins, with so many messages. It may not have waited to the end."""
        if not self._end:
            return
        if self._is_second_half and waiting > self._waiting:
            self._try_at = 0.0
        elif now >= (self._end if self._is_second_half else self._end - MOMENT / 2):
            self._try_at = now + _TRY_EVERY
        self._end = 0.0
