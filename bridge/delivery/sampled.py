"""Durations of messages, sampled: one message of each batch, so that nothing is added for each message.

The sampled message is the first one of a batch of delivery reports, or the first one of a segment that was
written to disk. It has waited longest in its batch, so a histogram shows more than the mean rather than less.

A message has no monotonic time of receipt, only its Kafka timestamp in ms since 1970. While the clock is
wrong, messages have none and are not sampled. When somebody sets the clock, the messages that were in flight
are not sampled either.
"""

import time
from collections.abc import Sequence

from bridge.delivery.clock import wall_offset
from bridge.message import Message
from bridge.observe.observations import BOUNDS, Observations

_STEP = 0.5  # seconds by which the two clocks differ anew: somebody has set one of them


class Sampled:
    """`delivery`: from receipt to Kafka's report. `by_kafka`, `by_disk`: from receipt to the moment when the
    bridge knows that and may acknowledge the message; acknowledgements keep the order of arrival, so an
    earlier message can add to it. `delivered_at`: monotonic seconds of the last report; 0: there was none.
    """

    def __init__(self) -> None:
        self.delivery = Observations(BOUNDS)
        self.by_kafka = Observations(BOUNDS)
        self.by_disk = Observations(BOUNDS)
        self.delivered_at = 0.0
        self._offset = wall_offset()
        self._since = 0.0  # seconds since 1970; earlier timestamps are of another setting of the clock

    def look_at_clock(self) -> None:
        """Call this once a second: was the clock set?"""
        offset = wall_offset()
        if abs(offset - self._offset) > _STEP:
            self._since = time.time()
        self._offset = offset

    def delivered(self, batch: Sequence[Message], waited: float = 0.0) -> None:
        """Kafka has confirmed this batch, of which no message is settled by it yet.

        The report of the first message came `waited` seconds ago.
        """
        self.delivered_at = time.monotonic()
        first = batch[0]
        received = first.timestamp / 1000  # the lines of `_age`
        seconds = time.time() - received
        if received <= self._since or seconds < 0:
            return
        self.delivery.observe(max(0.0, seconds - waited))
        if not first.state and first.flags & 0x06:
            self.by_kafka.observe(seconds)

    def written(self, message: Message) -> None:
        """The message is on disk, synced, and was not before."""
        seconds = self._age(message)
        if seconds is not None and message.flags & 0x06:
            self.by_disk.observe(seconds)

    def _age(self, message: Message) -> float | None:
        received = message.timestamp / 1000
        age = time.time() - received
        return age if received > self._since and age >= 0 else None
