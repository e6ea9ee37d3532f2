"""Limits how many QoS 0 messages may be in flight. Pure, except for the clock of its log lines.

QoS 0 has no Receive Maximum, so nothing else prevents a publisher from filling the bridge's memory. The
bridge drops and counts the QoS 0 messages that exceed the limits.
"""

import time
from collections.abc import Sequence

from bridge.delivery.counts import Counts
from bridge.message import Message, State
from bridge.observe.events import Event, log

_SAY_AGAIN_AFTER = 60.0  # seconds between two log lines about dropped messages


class Qos0:
    """At most `most_messages` may be in flight, with `most_bytes` of topics and payloads together."""

    def __init__(self, most_messages: int, most_bytes: int, counts: Counts) -> None:
        self._most_messages, self._most_bytes = most_messages, most_bytes
        self._counts = counts
        self.messages = self._bytes = 0  # in flight
        self._say_dropped_at = 0.0

    def admits(self, message: Message) -> bool:
        """Whether the message may be produced. If not, count it as received and as dropped."""
        self._counts.received_qos0 += 1
        size = _weight(message)
        if self.messages < self._most_messages and self._bytes + size <= self._most_bytes:
            self.messages += 1
            self._bytes += size
            return True
        self._counts.received += 1
        self._counts.dropped["qos0_limit"] += 1
        now = time.monotonic()
        if now >= self._say_dropped_at:
            self._say_dropped_at = now + _SAY_AGAIN_AFTER
            log(Event.QOS0_DROPPED, dropped=self._counts.dropped["qos0_limit"])
        return False

    def settle(self, messages: Sequence[Message]) -> None:
        """Kafka or the disk holds these messages. The ledger settles those of QoS 1 and 2."""
        for message in messages if self.messages else ():
            if not message.flags & 0x06 and not message.state:
                message.state = State.SETTLED
                self.messages -= 1
                self._bytes -= _weight(message)


def _weight(message: Message) -> int:
    return len(message.topic) + len(message.payload)
