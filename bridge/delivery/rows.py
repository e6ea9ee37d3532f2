"""What one lane has on disk, and what is on its way there. Pure; lanes.py says what it is for.

A segment's messages are either in memory too, or on disk alone (`stored`). Rows are asked for by the
sequence number of their first message, which is their name on disk.
"""

from collections.abc import Sequence

from bridge.delivery.segment import Segment, Wanted, cut
from bridge.message import DIGEST_OVER, Message, PayloadInUse, digest


class Rows:
    """`stored` counts messages on disk alone, `kept` those that are in memory as well.

    `reading`: rows were asked for and have not come, or it is not known yet what there is.
    """

    __slots__ = (
        "_asked_to",
        "_done",
        "_last",
        "_read_to",
        "_segments",
        "_stored_since",
        "kept",
        "reading",
        "stored",
    )

    def __init__(self) -> None:
        self.stored = self.kept = 0
        self.reading = False
        self._segments: dict[Message, Segment] = {}  # of what is in memory and was written, or is being
        self._done: list[Segment] = []  # to be deleted
        # Names of rows: the stored ones are after the one and up to the other.
        self._read_to = self._last = 0
        self._asked_to = 0  # the last one when rows were asked for, and what was stored since
        self._stored_since = 0

    def __bool__(self) -> bool:
        """Something is on disk, or on its way."""
        return bool(self.stored or self.reading or self._segments)

    def __contains__(self, message: Message) -> bool:
        """It is in memory, and on disk or on its way there."""
        return message in self._segments

    def expect(self) -> None:
        """What is on disk from before the start is not known yet; `found` follows."""
        self.reading = True

    def found(self, messages: int, last: int) -> None:
        """So many are on disk from before the start, none of them after this sequence number."""
        self.reading = False
        if messages:
            self.stored += messages
            self._read_to, self._last = 0, max(self._last, last)

    # -- writing -------------------------------------------------------------------------------------

    def cut(self, messages: Sequence[Message]) -> list[Segment]:
        """Segments of messages that are to be written now. Payloads stay what they are until `finished`."""
        segments = list(cut(messages))
        for segment in segments:
            for message in segment.messages:
                self._segments[message] = segment
                if message.flags & 0x06 and len(message.payload) > DIGEST_OVER:
                    message.payload = PayloadInUse(message.payload)
        return segments

    def is_of(self, message: Message, segment: Segment) -> bool:
        return self._segments.get(message) is segment

    def keep(self, segment: Segment) -> None:
        """It was committed, and what Kafka does not hold of it is in memory too."""
        segment.stored, segment.messages = True, ()
        self.kept += segment.left
        if not segment.left:
            self._done.append(segment)

    def store(self, segment: Segment) -> None:
        """It was committed, and is no longer in memory."""
        for message in segment.messages:
            del self._segments[message]
            _shrink(message)
        segment.stored, segment.messages = True, ()
        if not self.stored:
            self._read_to = segment.first - 1
        self.stored += segment.count
        self._stored_since += segment.count
        self._last = segment.first

    def refuse(self, segments: Sequence[Segment]) -> list[Message]:
        """They could not be written. Returns what Kafka does not hold of them."""
        again = []
        for segment in segments:
            for message in segment.messages:
                if self._segments.pop(message, None):
                    again.append(message)
                    if type(message.payload) is PayloadInUse:
                        message.payload = bytes(message.payload)
        return again

    # -- reading and deleting ------------------------------------------------------------------------

    def ask(self, messages: int, size: int) -> Wanted:
        """What is to be read, for so much room. `read` follows."""
        self.reading = True
        self._asked_to, self._stored_since = self._last, 0
        return Wanted(self._read_to, self._last, messages, size)

    def read(self, segments: Sequence[Segment]) -> int:
        """They are in memory too now. None: what was asked for can't be read, and is left to another run.

        Returns how many messages are left so.
        """
        self.reading = False
        if not segments:
            left = self.stored - self._stored_since
            self.stored, self._read_to = self._stored_since, self._asked_to
            return left
        for segment in segments:
            for message in segment.messages:
                self._segments[message] = segment
            self.stored = max(0, self.stored - segment.count)
            self._read_to = segment.first
            self.keep(segment)
        return 0

    def finished(self, message: Message) -> None:
        """Kafka holds it, or the dead letters do."""
        segment = self._segments.pop(message, None)
        _shrink(message)
        if segment:
            segment.left -= 1
            if segment.stored:
                self.kept -= 1
                if not segment.left:
                    self._done.append(segment)

    def begun(self) -> dict[Segment, list[Message]]:
        """Segments on disk of which Kafka holds a part, each with what it does not hold, in order."""
        found: dict[Segment, list[Message]] = {}
        for message, segment in self._segments.items():
            if segment.stored and segment.left < segment.count:
                found.setdefault(segment, []).append(message)
        for rest in found.values():
            rest.sort(key=lambda message: message.sequence)
        return found

    def take_done(self) -> list[Segment]:
        """Segments that can be deleted. To be asked whatever the lane's state."""
        done, self._done = self._done, []
        return done


def _shrink(message: Message) -> None:
    """It is no longer to be produced; the ledger may still compare it."""
    if type(message.payload) is PayloadInUse:
        message.payload = digest(message.payload)
