"""Keeps account of one lane's rows: what is on disk, and what is on its way to disk. Pure.

A row holds one segment. lanes.py describes how a lane uses its rows. The messages of a segment are either in
memory too (`kept`), or on disk alone (`stored`). The name of a row on disk is the sequence number of its
first message, and the bridge reads rows by these names.
"""

from collections.abc import Iterable, Sequence

from bridge.delivery.room import Room
from bridge.delivery.segment import Segment, Wanted, cut
from bridge.message import DIGEST_OVER, Message, PayloadInUse, digest


class Rows:
    """The rows of one lane. `stored` counts messages on disk alone, `kept` those that are in memory as well.

    `stored_size`: about how many bytes of payload the messages on disk alone have. `reading`: the bridge has
    requested rows that have not been read yet, or does not know yet which rows from before the start are on
    disk. `under_way`: how many segments the disk has not answered for; Kafka may have their messages by now.
    `room.stored` counts the messages of all lanes, stored and kept.
    """

    __slots__ = (
        "_asked_to",
        "_done",
        "_last",
        "_read_to",
        "_room",
        "_segments",
        "_started_to",
        "_stored_since",
        "kept",
        "reading",
        "stored",
        "stored_size",
        "under_way",
    )

    def __init__(self, room: Room) -> None:
        self._room = room
        self.stored = self.kept = self.stored_size = self.under_way = 0
        self.reading = False
        self._segments: dict[Message, Segment] = {}  # of messages in memory, written or being written
        self._done: list[Segment] = []  # can be deleted
        # Names of rows: the stored rows have names above `_read_to`, and up to `_last`.
        self._read_to = self._last = 0
        self._asked_to = 0  # `_last` when rows were requested, and the messages stored since then
        self._stored_since = 0
        self._started_to = 0  # the last row of which Kafka or the dead letters hold a message

    def __bool__(self) -> bool:
        """Whether messages are on disk or on their way to disk."""
        return bool(self.stored or self.reading or self._segments)

    def __contains__(self, message: Message) -> bool:
        """Whether the message is in memory, and also on disk or on its way to disk."""
        return message in self._segments

    def expect(self) -> None:
        """Set `reading`, because the bridge does not know yet which rows from before the start are on disk.

        The caller must call `found` once the bridge knows.
        """
        self.reading = True

    def found(self, messages: int, last: int, size: int = 0) -> None:
        """Take over the rows from before the start: they hold `messages` messages of `size` bytes.

        No message in these rows has a sequence number above `last`. 0 messages: there are no such rows.
        """
        self.reading = False
        if messages:
            self.stored += messages
            self.stored_size += size
            self._room.stored += messages
            self._read_to, self._last = 0, max(self._last, last)

    @property
    def next_stored(self) -> int:
        """A sequence number that is at most that of the oldest message on disk alone."""
        return self._read_to + 1

    # -- writing -------------------------------------------------------------------------------------

    def cut(self, messages: Sequence[Message]) -> list[Segment]:
        """Make segments of messages to write now. The ledger can't shrink payloads before `finished`."""
        segments = list(cut(messages))
        self.under_way += len(segments)
        for segment in segments:
            for message in segment.messages:
                self._segments[message] = segment
                if message.flags & 0x06 and len(message.payload) > DIGEST_OVER:
                    message.payload = PayloadInUse(message.payload)
        return segments

    def row_of(self, message: Message) -> Segment | None:
        """The segment of a message that is in memory, and also on disk or on its way to disk."""
        return self._segments.get(message)

    def is_of(self, message: Message, segment: Segment) -> bool:
        return self._segments.get(message) is segment

    def keep(self, segment: Segment) -> None:
        """Mark a segment as committed. Its messages that Kafka does not hold stay in memory too."""
        segment.stored, segment.messages = True, ()
        self.kept += segment.left
        self._room.stored += segment.left
        if not segment.left:
            self._done.append(segment)

    def store(self, segment: Segment) -> None:
        """Mark a segment as committed, and drop its messages from memory: they are on disk alone."""
        for message in segment.messages:
            del self._segments[message]
            self.stored_size += len(message.payload)
            _shrink(message)
        segment.stored, segment.messages = True, ()
        if not self.stored:
            self._read_to = segment.first - 1
        self.stored += segment.count
        self._room.stored += segment.count
        self._stored_since += segment.count
        self._last = segment.first

    def refuse(self, segments: Sequence[Segment]) -> list[Message]:
        """The segments could not be written. Returns those of their messages that Kafka does not hold."""
        again = []
        self.under_way -= len(segments)
        for segment in segments:
            for message in segment.messages:
                if self._segments.pop(message, None):
                    again.append(message)
                    if type(message.payload) is PayloadInUse:
                        message.payload = bytes(message.payload)
        return again

    # -- reading and deleting ------------------------------------------------------------------------

    def ask(self, messages: int, size: int) -> Wanted:
        """Request rows for so much room in memory. `read` must follow."""
        self.reading = True
        self._asked_to, self._stored_since = self._last, 0
        return Wanted(self._read_to, self._last, messages, size)

    def read(self, segments: Sequence[Segment]) -> int:
        """Take segments that the disk thread has read: their messages are now in memory too.

        No segments: the rows that `ask` requested can't be read. Returns how many messages stay on disk for
        the next start because they can't be read.
        """
        self.reading = False
        if not segments:
            left = self.stored - self._stored_since
            self._room.stored -= left
            self.stored, self._read_to = self._stored_since, self._asked_to
            return left
        for segment in segments:
            for message in segment.messages:
                self._segments[message] = segment
                self.stored_size -= len(message.payload)
            taken = min(self.stored, segment.count)
            self.stored -= taken
            self._room.stored -= taken
            self._read_to = segment.first
            self.keep(segment)
        self.stored_size = max(0, self.stored_size) if self.stored else 0
        return 0

    def unread(self, messages: list[Message]) -> int:
        """Drop the last of these messages from memory, in whole segments: they are on disk alone again.

        `messages` are in order, and none of them is in flight. Returns how many were dropped. A row after one
        of which Kafka holds a message stays in memory: that row may be deleted only later, and would be read
        again.
        """
        dropped = 0
        while messages and not self.reading:
            segment = self._segments.get(messages[-1])
            if segment is None or not segment.stored or segment.first <= self._started_to:
                break
            its = messages[-segment.count :]
            if len(its) < segment.count or any(self._segments.get(each) is not segment for each in its):
                break
            for message in its:
                del self._segments[message]
                self.stored_size += len(message.payload)
                _shrink(message)
            del messages[-segment.count :]
            dropped += segment.count
            self.stored += segment.count
            self.kept -= segment.count
            self._read_to, self._last = segment.first - 1, max(self._last, segment.first)
        return dropped

    def finished(self, messages: Iterable[Message]) -> None:
        """Kafka or the dead letters hold these messages."""
        pop = self._segments.pop
        for message in messages:
            segment = pop(message, None)
            _shrink(message)
            if segment:
                segment.left -= 1
                if segment.first > self._started_to:
                    self._started_to = segment.first
                if segment.stored:
                    self.kept -= 1
                    self._room.stored -= 1
                    if not segment.left:
                        self._done.append(segment)

    def begun(self) -> dict[Segment, list[Message]]:
        """Segments on disk of which Kafka holds only a part; each with the messages Kafka lacks, in order."""
        found: dict[Segment, list[Message]] = {}
        for message, segment in self._segments.items():
            if segment.stored and segment.left < segment.count:
                found.setdefault(segment, []).append(message)
        for rest in found.values():
            rest.sort(key=lambda message: message.sequence)
        return found

    @property
    def are_gone(self) -> bool:
        """Whether nothing is on disk, on its way there, or still to be deleted there."""
        return not (self or self.under_way or self._done)

    def take_done(self) -> list[Segment]:
        """Return segments that can be deleted, and forget them. Call this in every state of the lane."""
        done, self._done = self._done, []
        return done


def _shrink(message: Message) -> None:
    """Replace a payload by its digest: it is never produced again, but the ledger may still compare it."""
    if type(message.payload) is PayloadInUse:
        message.payload = digest(message.payload)
