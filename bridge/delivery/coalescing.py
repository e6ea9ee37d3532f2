"""When to take Kafka's delivery reports: at once, or some of them together. Pure.

Kafka confirms batches, and librdkafka makes a batch of the messages of one partition. With one Kafka topic
a report confirms many messages. With a thousand topics each report confirms one message, and to wake up,
acknowledge and receive for one message costs more than the message itself. So while many reports are
outstanding, the loop lets an eighth of them come before it takes them.

Kafka is as busy meanwhile: the other messages are still in librdkafka's queue, and those that the MQTT broker
sends after the acknowledgements come behind them.

These rules always hold:

* Reports are taken at once where few are outstanding (a message alone, say), or where they are of batches.
* No report waits for longer than LONGEST, and the millisecond to which epoll_wait(2) rounds up.
"""

LONGEST = 0.005  # seconds
SHORTEST = 0.001  # seconds; epoll_wait(2) counts in milliseconds
_FEW = 16  # reports
_LONE = 2  # messages; with more in a report, fewer messages in flight would make smaller batches
_PART = 8  # of the outstanding reports, one in so many is awaited
BATCH = 16  # messages; reports of so many on average cost a message little
_OF_ONE_TOPIC = 100.0  # messages a report, before it is known
_SLOWNESS = 8  # the part of a new value in `_size` is one in so many


class Coalescing:
    """`until`: reports that come before this time are left, in monotonic seconds."""

    __slots__ = ("_size", "_taken_at", "_was_empty", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._size = _OF_ONE_TOPIC  # messages that a report confirms, on average
        self._taken_at = 0.0
        self._was_empty = True  # nothing was in flight then, so that no pace follows from the next reports

    def batches_taken(self) -> None:
        """Reports of BATCH messages and more were taken: none has to wait."""
        self._size = _OF_ONE_TOPIC

    def taken(self, now: float, reports: int, messages: int, in_flight: int) -> None:
        """`reports` were taken now, for so many `messages`; `in_flight` messages have none yet."""
        self._size += (messages / reports - self._size) / _SLOWNESS
        outstanding = in_flight / self._size
        if self._size < _LONE and outstanding >= _FEW and not self._was_empty:
            awaited = (now - self._taken_at) / reports * outstanding / _PART
            if awaited >= SHORTEST:
                self.until = now + min(awaited, LONGEST)
        self._taken_at = now
        self._was_empty = not in_flight
