"""When to take Kafka's delivery reports: at once, or some of them together. Pure.

Kafka confirms batches, and librdkafka makes a batch of the messages of one partition. With one Kafka topic
and much to do a report confirms many messages. In two cases each report confirms one message, and to wake up,
acknowledge and sleep for one message costs more than the message itself. So the loop lets some reports come
before it takes them:

* A thousand topics. While many reports are outstanding, the loop awaits an eighth of them. Kafka is as busy
  meanwhile: the other messages are still in librdkafka's queue, and those that the MQTT broker sends after
  the acknowledgements come behind them.
* Messages that come one by one, a hundred a second and more. The loop takes the reports of up to TOGETHER
  messages at once. A message goes to Kafka as soon as it comes; only its acknowledgement to the MQTT broker
  waits.

An acknowledgement that waits takes a place in the MQTT broker's window, whose size no broker tells. If the
window is full, no message comes before the wait is over, each time at the same number of unacknowledged
messages. Where that happens IN_VAIN times in a row, the loop leaves fewer reports for PROBE seconds. A pause
between messages that come at random looks alike, but is at another number the next time.

These rules always hold:

* Reports are taken at once where messages come rarely, or where reports are of batches.
* No report waits for longer than LONGEST, or PATIENCE where messages come one by one, and the millisecond to
  which epoll_wait(2) rounds up.
"""

LONGEST = 0.005  # seconds
SHORTEST = 0.001  # seconds; epoll_wait(2) counts in milliseconds
FEW = 16  # reports, or messages without acknowledgement
PATIENCE = 0.02  # seconds
TOGETHER = 4  # messages without acknowledgement; more gain little, and are doubled if power fails now
PROBE = 60.0  # seconds
IN_VAIN = 5  # waits
_ONE_BY_ONE = PATIENCE / 2  # seconds from one message to the next, at most; else no second one comes in time
_PAUSE = 0.5 * PATIENCE  # seconds without a message that are long after any other
_ALL = 1 << 30  # messages
_LONE = 2  # messages; with more in a report, fewer messages in flight would make smaller batches
_PART = 8  # of the outstanding reports, one in so many is awaited
BATCH = 16  # messages; reports of so many on average cost a message little
_OF_ONE_TOPIC = 100.0  # messages a report, before it is known
_SLOWNESS = 8  # the part of a new value in `_size` and `_gap` is one in so many


class Coalescing:
    """`until`: reports that come before this time are left, in monotonic seconds.

    `most`: as long as no more messages than so many are unacknowledged.
    """

    __slots__ = (
        "_full",
        "_gap",
        "_in_vain",
        "_limit",
        "_limited_until",
        "_most",
        "_size",
        "_taken_at",
        "_was_empty",
        "most",
        "until",
    )

    def __init__(self, window: int) -> None:
        """`window`: the bridge's Receive Maximum. With MQTT 5 the broker's window is no larger."""
        self.until = 0.0
        self.most = _ALL
        self._size = _OF_ONE_TOPIC  # messages that a report confirms, on average
        self._gap = 1.0  # seconds from one message to the next, on average
        self._taken_at = 0.0
        self._was_empty = True  # nothing was in flight then, so that no pace follows from the next reports
        self._in_vain = 0  # waits in a row in which messages did not come any more
        self._full = 0  # so many messages were unacknowledged then
        self._most = self._limit = min(TOGETHER, window - 1)
        self._limited_until = 0.0

    def connected(self) -> None:
        """A new connection: perhaps to another broker, with another window."""
        self._full = self._in_vain = 0
        self._limit = self._most

    def batches_taken(self) -> None:
        """Reports of BATCH messages and more were taken: none has to wait."""
        self._size = _OF_ONE_TOPIC
        self.until = 0.0

    def few_taken(
        self, now: float, messages: int, unacknowledged: int, came_at: float, waited: float
    ) -> None:
        """Reports of `messages` were taken now, of `unacknowledged` ones; these are FEW at most.

        `came_at`: when the last message came, in monotonic seconds. `waited`: seconds since the first report
        came.
        """
        if unacknowledged > self._full:  # the window has more places than that
            self._full, self._in_vain = unacknowledged, 0
        if waited >= SHORTEST and self._taken_at < self.until <= now:
            if now - came_at < min(1.2 * self._gap, _PAUSE):
                if unacknowledged == self._full:
                    self._in_vain = 0
            elif unacknowledged == self._full:
                self._in_vain += 1
            else:
                self._full, self._in_vain = unacknowledged, 1
            if self._in_vain >= IN_VAIN:
                self._full = self._in_vain = 0
                self._limit = min(self._limit, unacknowledged) - 1
                self._limited_until = now + PROBE
        self._gap += (min((now - self._taken_at) / messages, 1.0) - self._gap) / _SLOWNESS
        self._taken_at = now
        self._was_empty = True
        if self._gap <= _ONE_BY_ONE:
            if self._limit < self._most and now >= self._limited_until:
                self._limit = self._most
            self.most = self._limit
            self.until = now + PATIENCE

    def taken(self, now: float, reports: int, messages: int, in_flight: int) -> None:
        """`reports` were taken now, for so many `messages`; `in_flight` messages have none yet."""
        self._size += (messages / reports - self._size) / _SLOWNESS
        outstanding = in_flight / self._size
        if self._size < _LONE and outstanding >= FEW and not self._was_empty:
            awaited = (now - self._taken_at) / reports * outstanding / _PART
            if awaited >= SHORTEST:
                self.until = now + min(awaited, LONGEST)
                self.most = _ALL
        self._taken_at = now
        self._was_empty = not in_flight
