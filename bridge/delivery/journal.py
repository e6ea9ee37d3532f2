"""Keeps on disk what a resend is recognised by, with delivery exactly-once. Pure.

The ledger knows which messages the broker may resend. With delivery exactly-once the same is on disk, so that
a resend joins after kill -9 or a power cut, as it does after a mere reconnect. The rows of the spool can't
tell this: a row is deleted once Kafka holds its messages, and PUBREL changes no row (docs/decisions/0032).

One row of the journal holds what one commit brought. Its body is, little-endian:

    CRC-32 of all bytes after it                                             4 bytes
    facts about the broker: flags 1, last identifier 2, highest 2, window 2  7 bytes
    for each message or PUBREL: QoS, or 3 for a PUBREL, 1; Packet Identifier 2; fingerprint 16

These rules always hold:

* The commit that writes a message to the spool, or a dead letter, writes its entry too. So a message that is
  acknowledged has an entry, until that is forgotten.
* An entry is only of a message that is on disk, or that a route skips, and that the ledger knew when the
  entry was written.
* PUBCOMP leaves after the commit of its PUBREL. After PUBCOMP the broker may give the identifier to another
  message with the same content, and a resend of that one must not join.
* The journal remembers as many messages as the ledger does, and of QoS 2 each that awaits its PUBREL.
* What the ledger forgets, the journal forgets before the bridge subscribes, or with the next commit, before
  anything that came since is acknowledged.

The journal is good for one session of the broker. A CONNECT may make another one, and the process may end
before CONNACK tells. So the disk says how far the bridge came (`Standing`), synced before the bridge goes on:

    KNOWN    the journal is of the broker's session
    ASKED    CONNECT was, or may have been, sent since: the session may be another one, with no subscription
    DOUBTED  CONNACK has not settled that, and SUBSCRIBE was, or may have been, sent since

    KNOWN --before CONNECT--> ASKED --session present, and KNOWN was the standing before--> KNOWN
    ASKED --session present, but an earlier CONNECT was not answered--> DOUBTED
    DOUBTED --the first packet is a resend, or all is forgotten--> KNOWN
    any --no session present; all is forgotten--> KNOWN
    a start that finds DOUBTED forgets all
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from bridge.delivery.ledger import Entry, Facts, Ledger
from bridge.errors import SpoolUnusable
from bridge.message import Fingerprint, Message, fingerprint

_CHECK = Struct("<I")
_FACTS = Struct("<BHHH")
_ENTRY = Struct("<BH16s")
_KEEPS, _WENT_BACK = 1, 2  # flags of the facts
_PUBREL = 3  # where a message has its QoS
_NOTES = 64  # entries that need no commit of their own, until there are so many
_LONG = 2 * 65535 * _ENTRY.size  # bytes of a body that the disk has not taken, until it is shortened


class Standing(StrEnum):
    KNOWN = "known"
    ASKED = "asked"
    DOUBTED = "doubted"


class Recalled(NamedTuple):
    """What a start found on disk. `number`: of the last row; 0: there is none."""

    entries: tuple[Entry, ...] = ()
    facts: Facts = Facts()
    standing: Standing = Standing.KNOWN
    number: int = 0


NOTHING = Recalled()


@dataclass(slots=True)
class JournalRow:
    """What one commit does to the journal.

    `forgets`: the commit deletes all earlier rows; otherwise those with numbers up to `obsolete`. `settles`:
    the standing is KNOWN from this commit on. `entries` are those of the segments and dead letters in the
    same job: only what the disk takes of them goes into the row.
    """

    number: int
    facts: Facts
    body: bytes
    obsolete: int
    forgets: bool
    settles: bool
    entries: dict[object, bytes] = field(default_factory=dict)
    notes: int = 0  # messages in the body that the journal has not counted before

    def packed(self, taken: Iterable[object]) -> tuple[bytes, int]:
        """The bytes of the row with what the disk takes, and how many messages came with it.

        No bytes: the row has nothing to say, and is not written.
        """
        entries = b"".join(self.entries.get(each, b"") for each in taken)
        if not self.body and not entries:
            return b"", 0
        facts = _FACTS.pack(
            _KEEPS * self.facts.keeps_identifiers | _WENT_BACK * self.facts.went_back,
            self.facts.last_id,
            self.facts.highest_id,
            self.facts.window,
        )
        rest = facts + self.body + entries
        return _CHECK.pack(crc32(rest)) + rest, self.notes + len(entries) // _ENTRY.size

    def after(self, failed: "JournalRow") -> "JournalRow":
        """This row with what the one before it had to say, which the disk did not take.

        Without the entries of that one: its messages come again, in other segments.
        """
        if not self.forgets:
            self.body = _shortened(failed.body + self.body)
            self.notes += failed.notes
            self.obsolete = max(self.obsolete, failed.obsolete)
            self.forgets = failed.forgets
        self.settles = self.settles or failed.settles
        return self


@dataclass(frozen=True, slots=True)
class Journaled:
    """The row is on disk, synced. `messages`: how many came with it."""

    number: int
    messages: int


def _shortened(body: bytes) -> bytes:
    """A long body with the last entry of each identifier alone: a start takes no notice of the others."""
    if len(body) <= _LONG:
        return body
    last: dict[bytes, bytes] = {}
    for at in range(0, len(body), _ENTRY.size):
        entry = body[at : at + _ENTRY.size]
        last.pop(entry[1:3], None)
        last[entry[1:3]] = entry
    return b"".join(last.values())


def recalled(rows: Sequence[tuple[int, bytes]], standing: Standing) -> Recalled:
    """Read rows, in order of their numbers. A damaged one makes all of them worthless: in doubt, produce."""
    number = rows[-1][0] if rows else 0
    found: dict[int, Entry] = {}
    facts = Facts()
    for _, body in rows:
        rest = memoryview(body)[_CHECK.size :]
        is_whole = len(body) >= _CHECK.size + _FACTS.size and _CHECK.unpack_from(body)[0] == crc32(rest)
        if not is_whole or (len(rest) - _FACTS.size) % _ENTRY.size:
            return Recalled(number=number, standing=standing)
        flags, last, highest, window = _FACTS.unpack_from(rest)
        facts = Facts(bool(flags & _KEEPS), last, highest, bool(flags & _WENT_BACK), window)
        for kind, packet_id, mark in _ENTRY.iter_unpack(rest[_FACTS.size :]):
            found.pop(packet_id, None)
            if kind != _PUBREL:
                found[packet_id] = Entry(packet_id, kind, Fingerprint(mark))
    return Recalled(tuple(found.values()), facts, standing, number)


class _Released(NamedTuple):
    """A PUBREL, and the number of the row that has it."""

    row: int
    epoch: int
    packet_id: int
    is_known: bool


@dataclass(slots=True)
class _Row:
    """A row that was handed to the disk. `taken`: its messages of QoS 2, each with its packed entry.

    `has_body`: it is written although the disk may take none of the messages with it.
    """

    number: int
    taken: list[tuple[Message, bytes]]
    messages: int = 0
    has_body: bool = True


class Journal:
    """Collects what the next commit does to the journal, and keeps the ledger in step with it.

    `releases`: how many PUBRELs the row to come has, for which PUBCOMP waits. `standing`: how far the bridge
    came; the disk says the same, or less. `write_now` has the disk say a standing, and delete all rows if
    told to: it returns once that is synced, and raises SpoolUnusable.
    """

    def __init__(self, ledger: Ledger, write_now: Callable[[Standing, bool], None]) -> None:
        self._ledger = ledger
        self._write_now = write_now
        self._sessions = ledger.sessions  # the ledger's number when the journal last agreed with it
        self.standing = self._on_disk = Standing.KNOWN
        self._is_unsure = False  # the disk has refused to say a standing, or may say it later
        self._settling = 0  # the number of a row that makes it KNOWN on disk
        self._must_forget = False  # the disk has refused to
        self._is_unanswered = False  # an earlier CONNECT than the last one was not answered
        self._next = 1  # the number of the row to come
        self._body: list[bytes] = []
        self._entries: dict[object, bytes] = {}
        self._qos2: list[tuple[Message, bytes]] = []  # of the row to come
        self._notes = 0
        self._forgets = self._settles = False
        self.releases = 0
        self._given: _Row | None = None  # to the disk, not yet committed
        self._rows: deque[_Row] = deque()  # on disk, oldest first
        self._count = 0  # messages of `_rows`
        self._released: deque[_Released] = deque()  # PUBRELs that are not on disk yet

    def begin(self, found: Recalled) -> None:
        """Go on from what a start found. Call this before the first `connecting`."""
        self.standing = self._on_disk = found.standing
        self._next = found.number + 1
        taken = [
            (message, _ENTRY.pack(message.qos, message.packet_id, message.payload))
            for message in self._ledger.recall(found.entries, found.facts)
            if message.qos == 2
        ]
        if found.number:
            self._rows.append(_Row(found.number, taken, len(found.entries)))
            self._count = len(found.entries)

    # -- the session ---------------------------------------------------------------------------------

    def connecting(self) -> None:
        """CONNECT is about to be sent. Raises SpoolUnusable: then it must not be."""
        self._agree()
        self._is_unanswered = self.standing is not Standing.KNOWN
        self._settles = False
        if not self._is_unanswered or self._is_unsure:
            # What would settle a doubt may not be on disk yet, and must not count any more.
            is_doubted = Standing.DOUBTED in (self._on_disk, self.standing)
            self._say(Standing.DOUBTED if is_doubted else Standing.ASKED, forgets=self._must_forget)
        if not self._is_unanswered:
            self.standing = Standing.ASKED

    def connected(self, session_present: bool, window_known: bool) -> None:
        """CONNACK came. Raises SpoolUnusable: then SUBSCRIBE must not be sent."""
        ledger = self._ledger
        ledger.connected(session_present, window_known, in_doubt=self._is_unanswered)
        if not session_present:
            self._say(Standing.KNOWN, forgets=True)
            self.standing = Standing.KNOWN
        elif ledger.in_doubt:
            self._say(Standing.DOUBTED)
            self.standing = Standing.DOUBTED
        else:
            self._agree()
            self._say(Standing.KNOWN, forgets=self._forgets)
            self.standing = Standing.KNOWN

    def taken_over(self) -> None:
        """Another client has used the session."""
        self._ledger.forget_session()
        self._must_forget = True  # before the next CONNECT, if the disk can't do it now
        with suppress(SpoolUnusable):
            self._say(self._on_disk, forgets=True)

    def _say(self, standing: Standing, forgets: bool = False) -> None:
        self._is_unsure = True
        self._write_now(standing, forgets)
        self._is_unsure = False
        self._on_disk = standing
        self._settling = 0
        if forgets:
            self._must_forget = False
            self._forget()

    # -- what the next commit writes ------------------------------------------------------------------

    @property
    def wants_commit(self) -> bool:
        """Whether a row must be written at once, although there may be nothing else to write."""
        self._agree()
        return self._forgets or self._settles or self._notes >= _NOTES

    def add(self, what: object, messages: Iterable[Message]) -> None:
        """`what` is written with the next commit, and `messages` with it: a segment, or a dead letter."""
        self._agree()
        # What is settled is on disk already, with its entry.
        knows, entry = self._ledger.knows, self._entry
        entries = [entry(each) for each in messages if not each.state and knows(each)]
        if entries:
            self._entries[what] = b"".join(entries)

    def note(self, message: Message) -> None:
        """The message is settled without the disk. It must count, or old entries would stay too long."""
        self._agree()
        if self._ledger.knows(message):
            self._body.append(self._entry(message))
            self._notes += 1

    def release(self, packet_id: int, is_known: bool) -> None:
        """A PUBREL came. `committed` returns it once PUBCOMP may leave."""
        self._agree()
        self._body.append(_ENTRY.pack(_PUBREL, packet_id, b""))
        self.releases += 1
        self._released.append(_Released(self._next, self._ledger.epoch, packet_id, is_known))

    def take_row(self) -> JournalRow:
        """What the next commit does. `committed` follows once it is on disk.

        If that of the row before has not come, the disk has not taken it, and writes it with this one.
        """
        self._agree()
        obsolete = self._outlived()
        row = JournalRow(
            self._next,
            self._ledger.facts,
            b"".join(self._body),
            obsolete,
            self._forgets,
            self._settles,
            self._entries,
            self._notes,
        )
        given = _Row(self._next, self._qos2, has_body=bool(row.body))
        if before := self._given:
            given.taken += [each for each in before.taken if each[0].state]
            given.has_body = given.has_body or before.has_body
        self._given = given
        if self._settles:
            self._settling = self._next
        self._begin_row()
        return row

    def committed(self, row: Journaled) -> list[tuple[int, bool]]:
        """The row is on disk, and all before it. Returns the PUBCOMPs that may leave now, in order.

        Each with its Packet Identifier, and whether the ledger knew that. A PUBREL of an earlier connection
        comes again.
        """
        if 0 < self._settling <= row.number:
            self._on_disk, self._settling = Standing.KNOWN, 0
        given = self._given
        if given and given.number == row.number:
            self._given = None
            given.messages = row.messages
            self._count += given.messages
            if given.messages or given.has_body:
                self._rows.append(given)
        due = []
        while self._released and self._released[0].row <= row.number:
            _, epoch, packet_id, is_known = self._released.popleft()
            if epoch == self._ledger.epoch:
                due.append((packet_id, is_known))
        return due

    # ------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """All that was handed over before is worthless, on disk and on its way there."""
        self._sessions = self._ledger.sessions
        self._given = None
        self._rows.clear()
        self._count = 0
        self._begin_row()

    def _begin_row(self) -> None:
        self._next += 1
        self._body, self._entries, self._qos2 = [], {}, []
        self._notes = 0
        self._forgets = self._settles = False
        self.releases = 0

    def _agree(self) -> None:
        """Forget what the ledger has forgotten since, and settle what it has settled."""
        if self._sessions != self._ledger.sessions:
            self._forget()
            self._forgets = True
        if self.standing is Standing.DOUBTED and not self._ledger.in_doubt:
            self._settles = True
            self.standing = Standing.KNOWN

    def _entry(self, message: Message) -> bytes:
        entry = _ENTRY.pack(message.qos, message.packet_id, fingerprint(message))
        if message.flags & 0x04:
            self._qos2.append((message, entry))
        return entry

    def _outlived(self) -> int:
        """The number of the last row that can be deleted. Carries on what QoS 2 needs of those rows."""
        obsolete = 0
        while self._rows and self._count - self._rows[0].messages >= self._ledger.remembered:
            row = self._rows.popleft()
            self._count -= row.messages
            obsolete = row.number
            for message, entry in row.taken:
                if self._ledger.knows(message) and message.state:
                    self._body.append(entry)
                    self._qos2.append((message, entry))
        return obsolete
