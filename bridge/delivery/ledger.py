"""Knows which messages are in flight, and which may be acknowledged, in which order, on which connection.

Pure: no socket, no clock, no Kafka. Only one thread uses the ledger.

A QoS 1 or 2 message goes PENDING -> SETTLED -> ACKED (message.State). These rules always hold:

* The ledger offers a message for acknowledgement only after the message was settled.
* Acknowledgements leave in the order in which their messages arrived (MQTT 3.1.1 and 5, 4.6).
* An acknowledgement leaves on the connection on which its message arrived, or arrived again. Each
  connection is an *epoch*. A message of an earlier epoch is still settled, but never acknowledged.
* One identifier has one message: the last message that arrived with this identifier.

A PUBLISH with DUP=1 may be a copy of a message that the ledger knows. If the ledger decides that it is that
copy, the PUBLISH *joins* the known message: the bridge does not produce the PUBLISH again, and acknowledges
it once the known message is settled. If the PUBLISH was really another message, that message is lost. If a
real copy does not join, the message is duplicated. Loss is worse than duplication. So a PUBLISH joins only if
it has the same identifier, topic, payload and QoS as the known message, and meets one of these rules:

1. The known message arrived on the same connection: nothing more is required. TCP keeps order: if the broker
   had given the identifier to another message, the broker would have sent that message first, with DUP=0.
   (But a broker that assigns new identifiers when it resends may give one identifier to several resent
   messages in turn. So if the known message itself arrived with DUP=1, and is acknowledged, and the broker
   is not known to keep identifiers (rule 2), the PUBLISH is produced. The bridge does not acknowledge this
   PUBLISH, because the acknowledgement could hit yet another message. Below QoS 2, the bridge repeats an
   acknowledgement only to a broker that is known to count upward, rule 3.)
2. The known message arrived on an earlier connection, and its acknowledgement was not handed to the kernel:
   the ledger must know that this broker keeps identifiers. A broker that assigns new identifiers when it
   resends gives the same identifier to another message. The ledger knows that the broker keeps identifiers
   once the first identifier in a resumed session was not 1.
3. The known message arrived on an earlier connection, and its acknowledgement was handed to the kernel: the
   broker may have received the acknowledgement and used the identifier again. So besides rule 2 the ledger
   must know that this broker counts upward: it has sent an identifier above its window and above the largest
   number of messages that were ever unacknowledged at once, and identifiers have never gone back.
   The ledger remembers the last acknowledged messages: at least 1.7 times, and at most twice, as many as the
   window holds, because mosquitto was seen to have 106 messages in flight with a Receive Maximum of 100.
   With a window above 21,845 they are fewer, so that no new message has the identifier of one of them.
   At QoS 2 the identifier stays taken until PUBREL, whether the broker received the acknowledgement or not,
   so rule 2 is enough.
4. A PUBLISH with DUP=0 never joins: it replaces the known message. In doubt, produce.

When the session is lost, the ledger forgets what it has learned about the broker: behind a balancer the next
session may be on another broker. The ledger also forgets it when another client has used the session, because
the bridge does not know which messages that client acknowledged.

After a clean stop, open QoS 2 messages need not be duplicated: the bridge saves `open_identifiers` at the
stop, and passes them to `restore` at the next start. They then count as messages of an earlier connection,
and rule 2 applies.

With delivery exactly-once a journal (journal.py) keeps what the ledger knows on disk, and `recall` takes it
up after any end of the process. Nobody knows then which acknowledgements the kernel had taken: all count as
taken, so rules 2 and 3 apply as if each message were ACKED.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bridge.message import (
    DIGEST_OVER,
    DUP,
    Digest,
    Fingerprint,
    Message,
    OpenIdentifier,
    Packet,
    Release,
    digest,
    fingerprint,
)

_QOS_2 = 0x04  # in the flags of a PUBLISH
_PENDING, _SETTLED, _ACKED = 0, 1, 2  # message.State as plain numbers: this runs for each message

# MQTT 3.1.1 has no Receive Maximum, so the window of such a broker is unknown. The ledger
# assumes this many messages.
UNKNOWN_WINDOW = 1000

_LAST_ID = 65535
_WINDOWS = 2  # acknowledged messages are remembered for so many windows: rule 3

# How many messages of earlier connections the ledger knows when a session is resumed; two windows, where the
# window is larger than the unknown one. The ledger forgets older messages; if the broker resends one of
# those, the bridge produces it again.
_REMEMBERED = 4 * UNKNOWN_WINDOW


class Facts(NamedTuple):
    """What the ledger has learned about how the broker assigns identifiers in this session.

    `window`: how many messages the broker could have in flight meanwhile, as far as the ledger knew.
    """

    keeps_identifiers: bool = False
    last_id: int = 0
    highest_id: int = 0
    went_back: bool = False
    window: int = 0


class Entry(NamedTuple):
    """A message that was on disk before the process ended: the parts with which a copy is compared."""

    packet_id: int
    qos: int
    fingerprint: Fingerprint


class Ledger:
    """Every QoS 1 and 2 message between its PUBLISH and its acknowledgement.

    `window` is the bridge's Receive Maximum of MQTT 5 (3.1.2.11.3): how many unacknowledged messages the
    broker may have in flight to the bridge.

    `sessions`: how often the ledger has forgotten a session. `in_doubt`: what was recalled may be of another
    session than the broker's present one; the first identifier that comes decides.
    """

    def __init__(self, window: int) -> None:
        self.epoch = 0
        self.sessions = 0
        self.in_doubt = False
        self.keeps_identifiers = False
        self._window = window
        self._known: dict[int, Message] = {}  # the last message of each identifier, this session
        # Lists, because whole beginnings are removed at once; a deque removes items one by one.
        self._order: list[Message] = []  # of this epoch, not yet offered, in order of arrival
        self._offered: list[Message] = []  # acknowledgement written, but not yet taken by the kernel
        self._handed: list[Message] = []  # the kernel has taken the acknowledgement: rule 3
        self._again: set[Message] = set()  # messages of _handed that are acknowledged once more
        self._begins_resumed = False  # the session was resumed, and no identifier has arrived since
        self._learned_with = 0  # the window with which the identifiers below were seen
        self._above = window  # a broker that takes the lowest free identifier never exceeds this
        self._remembered = _WINDOWS * window  # how many acknowledged messages rule 3 may need
        self._last_id = 0  # of the last PUBLISH with DUP=0; 0: none yet
        self._highest_id = 0
        self._went_back = False

    # -- connections ---------------------------------------------------------------------------------

    def connected(self, session_present: bool, window_known: bool, in_doubt: bool = False) -> None:
        """Begin a new epoch: a CONNACK arrived. `window_known`: the broker respects `window` (MQTT 5).

        `in_doubt`: the answer to an earlier CONNECT is not known, and that CONNECT may have made the session
        that is present now. Such a session had no subscription before this connection, so its first packet is
        no resend. If the connection ends before any packet decides, the next one may bring a resend of either
        session: then the ledger forgets what it knows.
        """
        self.epoch += 1
        self._order.clear()  # messages of the last read of the old connection
        self._offered.clear()
        self._above = self._window if window_known else max(self._window, UNKNOWN_WINDOW)
        # With more, a new message could have the identifier of a remembered one: they begin again at 1.
        self._remembered = min(_WINDOWS * self._above, _LAST_ID - self._above)
        if self._above < self._learned_with:  # with the larger window, low identifiers could be higher ones
            self._last_id = self._highest_id = 0
        self._learned_with = self._above
        self._begins_resumed = session_present
        if not session_present or self.in_doubt:
            self.forget_session()
            return
        self.in_doubt = in_doubt
        most = _REMEMBERED if self._above <= UNKNOWN_WINDOW else max(_REMEMBERED, self._remembered)
        for packet_id in list(self._known)[: max(0, len(self._known) - most)]:
            del self._known[packet_id]
        self._again.intersection_update(self._known.values())  # replaced messages are never acknowledged

    def disconnected(self) -> None:
        """The connection ended: its messages can no longer be acknowledged, but are still settled."""
        self._order.clear()
        self._offered.clear()
        for message in self._known.values():
            self._shrink(message)

    def forget_session(self) -> None:
        """The session is gone, or another client has used it: no copy joins an earlier message any more."""
        self.sessions += 1
        self.in_doubt = False
        self._known.clear()
        self._handed.clear()
        self._again.clear()
        self.keeps_identifiers = False
        self._learned_with = self._above
        self._last_id = self._highest_id = 0
        self._went_back = False

    # -- arrivals ------------------------------------------------------------------------------------

    def receive(self, packets: Sequence[Packet]) -> list[Packet]:
        """Take packets in order of arrival. Return them without the copies that joined known messages.

        The caller produces each returned message. In a PUBREL, `known` tells whether its identifier was
        taken. QoS 0 messages are returned unchanged: the ledger does not keep them.
        """
        if self._begins_resumed and (first := next((each for each in packets if each.packet_id), None)):
            self._see_first(first)
        known, epoch, last_id = self._known, self.epoch, self._last_id
        await_acknowledgement = self._order.append
        passed: list[Packet] = []
        for packet in packets:
            packet_id = packet.packet_id
            if type(packet) is Release:
                packet.known = self._release(packet_id)
            # Nearly every message: no copy, the next identifier, and no known message has this identifier.
            elif packet_id == last_id + 1 and packet.flags < DUP and packet_id not in known:
                last_id = packet_id
                packet.epoch = epoch
                known[packet_id] = packet
                await_acknowledgement(packet)
            elif packet_id:
                self._last_id = last_id
                is_wanted = self._receive(packet)
                last_id = self._last_id
                if not is_wanted:
                    continue
            passed.append(packet)
        self._last_id = last_id
        return passed

    def takes_next(self, message: Message) -> bool:
        """Take a PUBLISH of QoS 1 or 2 that is plainly new, as nearly every message that comes alone is.

        False: it may be something else, and `receive` must take it.
        """
        packet_id = message.packet_id
        if (
            packet_id != self._last_id + 1
            or message.flags >= DUP
            or packet_id in self._known
            or self._begins_resumed
        ):
            return False
        self._last_id = packet_id
        message.epoch = self.epoch
        self._known[packet_id] = message
        self._order.append(message)
        return True

    def _receive(self, message: Message) -> bool:
        """Take a PUBLISH of QoS 1 or 2. Returns True if the bridge must produce it.

        Returns False if the PUBLISH joined a known message; the caller then drops the PUBLISH.
        """
        packet_id = message.packet_id
        known = self._known
        if message.flags & DUP:
            earlier = known.get(packet_id)
            if earlier is not None and _same(earlier, message):
                if earlier.epoch == self.epoch:
                    return self._came_again(earlier)
                if self._joins(earlier):
                    return False
        else:
            if packet_id != self._last_id + 1:
                self._see_jump(packet_id)
            self._last_id = packet_id
        if packet_id in known:
            self._replace(known.pop(packet_id))  # popped, so that the newest message is last in the dict
        message.epoch = self.epoch
        known[packet_id] = message
        self._order.append(message)
        return True

    def _release(self, packet_id: int) -> bool:
        """A PUBREL arrived: the QoS 2 identifier is free again. Returns False if it was not taken.

        In both cases the bridge must send PUBCOMP (MQTT 5, 4.3.3), or the broker never frees its slot.
        """
        message = self._known.get(packet_id)
        if message is None or message.qos != 2:
            return False
        del self._known[packet_id]
        message.epoch = 0
        return True

    def _came_again(self, earlier: Message) -> bool:
        """Apply rule 1 to a copy of `earlier`. Returns True if the bridge must produce the copy."""
        if earlier.state != _ACKED:
            return False
        # The first acknowledgement is on its way on this same connection. So send another one only where it
        # can't hit a different message that has got the identifier meanwhile.
        if earlier.qos == 2 or self.counts_upward:
            self._acknowledge_again(earlier)
            return False
        return earlier.dup and not self.keeps_identifiers

    def _joins(self, earlier: Message) -> bool:
        """Whether a copy joins a message of an earlier connection: rules 2 and 3."""
        if not self.keeps_identifiers:
            return False
        if earlier.state == _ACKED:
            if earlier.qos == 1 and not self.counts_upward:
                return False
            self._acknowledge_again(earlier)
        else:
            self._order.append(earlier)
        earlier.epoch = self.epoch
        return True

    def _acknowledge_again(self, known: Message) -> None:
        known.state = _SETTLED
        self._again.add(known)
        self._order.append(known)

    def _replace(self, known: Message) -> None:
        # The known message's acknowledgement would now hit the new message, which has the same identifier.
        if known.state != _ACKED:
            known.epoch = 0

    # -- settling and acknowledging ------------------------------------------------------------------

    def settle(self, *messages: Message) -> None:
        """Mark messages as SETTLED.

        Kafka holds these messages on all in-sync replicas, or this machine's disk holds them, synced.
        """
        epoch = self.epoch
        for message in messages:
            if message.state:  # reported twice: by a replaced producer, and by the new one
                continue
            message.state = _SETTLED
            if message.epoch != epoch:
                self._shrink(message)

    def take_settled(self) -> list[Message]:
        """The messages to acknowledge now, in order. The first pending message holds back all later ones."""
        order, epoch = self._order, self.epoch
        unacknowledged = len(order) + len(self._offered)
        if unacknowledged > self._above:
            self._above = unacknowledged
        if unacknowledged == 1 and order and order[0].state and order[0].epoch == epoch:  # it came alone
            self._order, self._offered = self._offered, order  # none is offered, so that list is empty
            return [*order]
        settled = 0
        for message in order:
            if not message.state:
                break
            settled += 1
        if not settled:
            return []
        ready = [message for message in order[:settled] if message.epoch == epoch]
        del order[:settled]
        self._offered += ready
        return ready

    def handed_over(self, count: int) -> None:
        """Mark the `count` oldest offered messages as ACKED: the kernel has taken their acknowledgements.

        `count` includes an acknowledgement of which the kernel has taken only a part, because the broker may
        still receive all of it.
        """
        taken = self._offered[:count]
        del self._offered[:count]
        for message in taken:
            message.state = _ACKED
            if len(message.payload) > DIGEST_OVER:
                self._shrink(message)
        if self._again:  # they keep their place: the first acknowledgement may have freed the identifier
            again = self._again.intersection(taken)
            self._again -= again
            taken = [message for message in taken if message not in again]
        self._handed += taken
        if (count := len(self._handed) - self._remembered) > 0:
            self._forget(count + self._remembered // 8)  # some at once, and not one for each message

    def _forget(self, count: int) -> None:
        """Forget the `count` messages that were acknowledged first: rule 3 no longer needs them."""
        known = self._known
        for message in self._handed[:count]:
            packet_id = message.packet_id
            # At QoS 2 (flag 0x04) the identifier stays taken until PUBREL.
            if not message.flags & 0x04 and known.get(packet_id) is message and message.state == _ACKED:
                del known[packet_id]
        del self._handed[:count]

    @property
    def has_settled(self) -> bool:
        """Whether `take_settled` would return a message."""
        return bool(self._order) and self._order[0].state != _PENDING

    @property
    def unacknowledged(self) -> int:
        """How many messages of this connection the kernel has not taken the acknowledgement of."""
        return len(self._order) + len(self._offered)

    def _shrink(self, message: Message) -> None:
        if message.state and len(message.payload) > DIGEST_OVER and type(message.payload) is bytes:
            message.payload = digest(message.payload)

    # -- a stop and the next start -------------------------------------------------------------------

    def open_identifiers(self) -> list[OpenIdentifier]:
        """What `restore` needs after a clean stop, oldest first.

        Call this last, after every delivery report has been handled. Pending messages are left out: the
        bridge does not know whether Kafka will hold them, so it produces their copies after the start. So are
        recalled ones: their topics are not known.
        """
        return [
            OpenIdentifier(message.packet_id, message.topic, _as_digest(message.payload))
            for message in self._known.values()
            if message.state and message.qos == 2 and type(message.payload) is not Fingerprint
        ]

    def restore(self, identifiers: Iterable[OpenIdentifier]) -> None:
        """Take the identifiers that were open at the last clean stop. Call this before the first `connected`.

        If `connected` reports that the session is gone, the ledger forgets these identifiers.
        A wrong join, and so a loss, is possible only if another client used the session between stop and
        start, and left the session in place. The broker may then have given one of these identifiers to a
        message with the same topic and payload, sent that message to the other client, and now resend it.
        The bridge loses at most one message for each identifier, and only until the identifier's PUBREL or
        next message arrives. A list is valid for one start only: the spool deletes the saved list, synced,
        before the bridge sends CONNECT, so that the list can't come back after a crash.
        """
        for packet_id, topic, payload_digest in identifiers:
            message = Message.of(topic, _QOS_2, packet_id, None, Digest(payload_digest))
            message.state = _SETTLED
            self._known[packet_id] = message

    # -- the journal ---------------------------------------------------------------------------------

    def knows(self, message: Message) -> bool:
        """Whether a copy of the message may still join it. At QoS 0: False."""
        return self._known.get(message.packet_id) is message

    @property
    def remembered(self) -> int:
        """How many acknowledged messages are remembered at least: rule 3."""
        return self._remembered

    @property
    def facts(self) -> Facts:
        highest = max(self._highest_id, self._last_id)
        return Facts(
            self.keeps_identifiers, self._last_id, highest, self._went_back, min(self._learned_with, _LAST_ID)
        )

    def recall(self, entries: Iterable[Entry], facts: Facts) -> list[Message]:
        """Take what the journal has on disk, oldest first. Call this before the first `connected`.

        Returns the entries as the messages that the ledger knows now.
        """
        recalled = []
        for packet_id, qos, mark in entries:
            message = Message.of(b"", qos << 1, packet_id, None, mark)
            message.state = _ACKED
            self._known.pop(packet_id, None)
            self._known[packet_id] = message
            recalled.append(message)
        self._handed += recalled
        self.keeps_identifiers, self._last_id, self._highest_id, self._went_back, window = facts
        self._learned_with = window
        return recalled

    # -- how this broker assigns identifiers ---------------------------------------------------------

    @property
    def counts_upward(self) -> bool:
        return not self._went_back and max(self._highest_id, self._last_id) > self._above

    def _see_first(self, packet: Packet) -> None:
        self._begins_resumed = False
        if self.in_doubt:
            self.in_doubt = False
            if type(packet) is not Release and not packet.flags & DUP:
                self.forget_session()
        if packet.packet_id != 1:
            self.keeps_identifiers = True

    def _see_jump(self, packet_id: int) -> None:
        if not self._last_id:
            return
        self._highest_id = max(self._highest_id, self._last_id)
        step = (packet_id - self._last_id) % 65535  # identifiers are 1..65535, and 1 follows 65535
        if not 0 < step < 32768:
            self._went_back = True


def _same(known: Message, message: Message) -> bool:
    if type(known.payload) is Fingerprint:
        return not (known.flags ^ message.flags) & 0x06 and known.payload == fingerprint(message)
    if known.topic != message.topic or (known.flags ^ message.flags) & 0x06:
        return False
    if type(known.payload) is Digest:
        return known.payload == digest(message.payload)
    return known.payload == message.payload


def _as_digest(payload: bytes) -> Digest:
    return payload if type(payload) is Digest else digest(payload)
