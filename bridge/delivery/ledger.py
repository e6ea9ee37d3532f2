"""What is in flight, and what may be acknowledged, in which order, on which connection.

Pure: no socket, no clock, no Kafka. It lives in one thread.

A QoS 1 or 2 message goes PENDING -> SETTLED -> ACKED (message.State). What always holds:

* A message is offered for acknowledgement only after it was settled.
* Acknowledgements leave in the order in which their messages arrived (MQTT 3.1.1 and 5, 4.6).
* They leave on the connection the message came on, or came again on. Each connection is an *epoch*;
  what belongs to an earlier epoch is still settled, but never acknowledged.
* One identifier has one message: the last that came with it.

A PUBLISH with DUP=1 may be a copy of a message that is known. To *join* is to be taken for that copy:
it is not produced again, and it is acknowledged once the first copy is settled. Joining what is really
another message loses it; not joining a real copy doubles it. Loss outranks doubling, so a join wants
the same identifier, topic, payload and QoS, and besides:

1. on the same connection: nothing more. TCP keeps order, so had the identifier been given to another
   message, that one would have come first, with DUP=0. (But a broker that numbers anew may give it to
   one resend after another. So a copy of what came with DUP=1, and is acknowledged, is produced without
   rule 2. It is not acknowledged a second time, which could hit yet another message.)
2. from an earlier connection, acknowledgement not handed to the kernel: this broker must be known to
   keep identifiers, for one that numbers anew gives the same one to another message. It is known once a
   resumed session began with an identifier other than 1.
3. from an earlier connection, acknowledgement handed to the kernel: the broker may have seen it and
   used the identifier again. So it must also be known to count upward: an identifier above what its
   window can hold was seen, above what was ever unacknowledged at once too, and none ever went back.
   The last ones are remembered, as many as the window holds.
   At QoS 2 the identifier stays taken until PUBREL, whatever the broker saw, and rule 2 is enough.
4. DUP=0 never joins, it replaces. In doubt, produce.

What a broker was seen to do is forgotten with the session: behind a balancer the next session may be
another broker's. It is forgotten too when another client has had the session: what that one acknowledged
is not known here.

A clean stop need not double what was open at QoS 2: what `open_identifiers` tells at the end, `restore`
takes at the next start. It then is of an earlier connection, and rule 2 holds for it.
"""

from collections.abc import Iterable, Sequence

from bridge.message import DIGEST_OVER, DUP, Digest, Message, OpenIdentifier, Packet, Release, digest

_QOS_2 = 0x04  # in the flags of a PUBLISH
_PENDING, _SETTLED, _ACKED = 0, 1, 2  # message.State as plain numbers: this runs for each message

# MQTT 3.1.1 has no Receive Maximum, so the window of such a broker is unknown. This stands for it.
UNKNOWN_WINDOW = 1000

# Unacknowledged messages of earlier connections that a resumed session may still send again. What is
# beyond it is produced again if it comes.
_REMEMBERED = 4 * UNKNOWN_WINDOW


class Ledger:
    """Every QoS 1 and 2 message between its PUBLISH and its acknowledgement.

    `window` is the Receive Maximum of MQTT 5 (3.1.2.11.3): how many messages the broker may have in
    flight.
    """

    def __init__(self, window: int) -> None:
        self.epoch = 0
        self.keeps_identifiers = False
        self._window = window
        self._known: dict[int, Message] = {}  # the last message of each identifier, this session
        # Lists, of which beginnings are taken off: a deque would give them one by one.
        self._order: list[Message] = []  # this epoch's, not yet offered, in order of arrival
        self._offered: list[Message] = []  # acknowledgement written, not yet taken by the kernel
        self._handed: list[Message] = []  # taken by the kernel: rule 3
        self._again: set[Message] = set()  # of them, those to be acknowledged once more
        self._begins_resumed = False  # nothing was seen yet of a resumed session
        self._above = window  # identifiers above this one can't be the lowest free ones
        self._remembered = window  # how many acknowledged messages rule 3 may need
        self._last_id = 0  # of the last DUP=0; 0: none yet
        self._highest_id = 0
        self._went_back = False

    # -- connections ---------------------------------------------------------------------------------

    def connected(self, session_present: bool, window_known: bool) -> None:
        """A CONNACK came. `window_known`: the broker honours `window` (MQTT 5)."""
        self.epoch += 1
        self._order.clear()  # what the last read of the old connection has left
        self._offered.clear()
        self._above = self._remembered = self._window if window_known else max(self._window, UNKNOWN_WINDOW)
        self._begins_resumed = session_present
        if not session_present:
            self.forget_session()
            return
        for packet_id in list(self._known)[: max(0, len(self._known) - _REMEMBERED)]:
            del self._known[packet_id]
        self._again.intersection_update(self._known.values())  # what was replaced since never leaves

    def disconnected(self) -> None:
        """Nothing is acknowledged any more that came on this connection; it is still settled."""
        self._order.clear()
        self._offered.clear()
        for message in self._known.values():
            self._shrink(message)

    def forget_session(self) -> None:
        """Nothing joins any more: the session is gone, or was another client's for a time."""
        self._known.clear()
        self._handed.clear()
        self._again.clear()
        self.keeps_identifiers = False
        self._last_id = self._highest_id = 0
        self._went_back = False

    # -- arrivals ------------------------------------------------------------------------------------

    def receive(self, packets: Sequence[Packet]) -> list[Packet]:
        """Take what came, in its order, and return it without the copies that joined what is known.

        A message that is returned is to be produced. Of a PUBREL it is said whether its identifier was taken.
        QoS 0 is none of the ledger's, and passed on.
        """
        if self._begins_resumed and (first := next((each for each in packets if each.packet_id), None)):
            self._see_first(first.packet_id)
        known, epoch, last_id = self._known, self.epoch, self._last_id
        await_acknowledgement = self._order.append
        passed: list[Packet] = []
        for packet in packets:
            packet_id = packet.packet_id
            if type(packet) is Release:
                packet.known = self._release(packet_id)
            # As nearly all come: no copy, the next identifier, and nothing is known under it.
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

    def _receive(self, message: Message) -> bool:
        """True: a message to be produced. False: it joined one that is known, and is done with."""
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
            self._replace(known.pop(packet_id))  # popped, so that the newest stands last
        message.epoch = self.epoch
        known[packet_id] = message
        self._order.append(message)
        return True

    def _release(self, packet_id: int) -> bool:
        """PUBREL: the QoS 2 identifier is free again. False if it was not taken.

        Either way PUBCOMP is due (MQTT 5, 4.3.3), or the broker's slot stays taken for ever.
        """
        message = self._known.get(packet_id)
        if message is None or message.qos != 2:
            return False
        del self._known[packet_id]
        message.epoch = 0
        return True

    def _came_again(self, earlier: Message) -> bool:
        """Rule 1. True: it is to be produced all the same."""
        if earlier.state != _ACKED:
            return False
        # The acknowledgement is under way on this very connection, so another one is only sent where
        # it can't hit a message that took the identifier meanwhile.
        if earlier.qos == 2 or self.counts_upward:
            self._acknowledge_again(earlier)
            return False
        return earlier.dup and not self.keeps_identifiers

    def _joins(self, earlier: Message) -> bool:
        """Rules 2 and 3."""
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
        # Its acknowledgement would now hit the message that has its identifier.
        if known.state != _ACKED:
            known.epoch = 0

    # -- settling and acknowledging ------------------------------------------------------------------

    def settle(self, *messages: Message) -> None:
        """Kafka holds the messages on all in-sync replicas, or this machine's disk does."""
        epoch = self.epoch
        for message in messages:
            if message.state:  # reported twice: by a producer that was replaced, and by the new one
                continue
            message.state = _SETTLED
            if message.epoch != epoch:
                self._shrink(message)

    def take_settled(self) -> list[Message]:
        """The messages to acknowledge now, in order; the first that is pending holds back the rest."""
        order, epoch = self._order, self.epoch
        self._above = max(self._above, self.unacknowledged)
        settled = 0
        for message in order:
            if not message.state:
                break
            settled += 1
        ready = [message for message in order[:settled] if message.epoch == epoch]
        del order[:settled]
        self._offered += ready
        return ready

    def handed_over(self, count: int) -> None:
        """The kernel took the acknowledgements of the `count` messages that were offered first.

        One of which it took a part counts: the broker may have seen it.
        """
        taken = self._offered[:count]
        del self._offered[:count]
        for message in taken:
            message.state = _ACKED
            if len(message.payload) > DIGEST_OVER:
                self._shrink(message)
        if self._again:  # those have their place: the broker counts from the first time
            again = self._again.intersection(taken)
            self._again -= again
            taken = [message for message in taken if message not in again]
        self._handed += taken
        self._forget(len(self._handed) - self._remembered)

    def _forget(self, count: int) -> None:
        """So many that were acknowledged first are beyond what rule 3 may need."""
        if count <= 0:
            return
        known = self._known
        for message in self._handed[:count]:
            packet_id = message.packet_id
            # At QoS 2 (flag 0x04) the identifier is taken until PUBREL.
            if not message.flags & 0x04 and known.get(packet_id) is message and message.state == _ACKED:
                del known[packet_id]
        del self._handed[:count]

    @property
    def has_settled(self) -> bool:
        """`take_settled` would return something."""
        return bool(self._order) and self._order[0].state != _PENDING

    @property
    def unacknowledged(self) -> int:
        """Messages of this connection whose acknowledgement the kernel has not taken."""
        return len(self._order) + len(self._offered)

    def _shrink(self, message: Message) -> None:
        if message.state and len(message.payload) > DIGEST_OVER and type(message.payload) is bytes:
            message.payload = digest(message.payload)

    # -- over a stop of the bridge -------------------------------------------------------------------

    def open_identifiers(self) -> list[OpenIdentifier]:
        """What `restore` needs after a clean stop, the oldest first. Ask last, when Kafka has reported.

        What is pending is left out: nobody knows whether Kafka will hold it, so a copy is produced.
        """
        return [
            OpenIdentifier(message.packet_id, message.topic, _as_digest(message.payload))
            for message in self._known.values()
            if message.state and message.qos == 2
        ]

    def restore(self, identifiers: Iterable[OpenIdentifier]) -> None:
        """What was open at the last clean stop. Before the first `connected`, which tells whether it holds.

        A wrong join, so a loss, takes another client that had the session between stop and start and
        left it in place: the broker may have given one of these identifiers to a message with the same
        topic and payload, sent it to that client, and now resend it. That is at most one message for
        each identifier, and only until its PUBREL or its next message comes. A list that was restored
        once is stale: whoever keeps it deletes it for good before CONNECT leaves, so that a crash can't
        bring it back.
        """
        for packet_id, topic, payload_digest in identifiers:
            message = Message.of(topic, _QOS_2, packet_id, None, Digest(payload_digest))
            message.state = _SETTLED
            self._known[packet_id] = message

    # -- what this broker does with identifiers ------------------------------------------------------

    @property
    def counts_upward(self) -> bool:
        return not self._went_back and max(self._highest_id, self._last_id) > self._above

    def _see_first(self, packet_id: int) -> None:
        self._begins_resumed = False
        if packet_id != 1:
            self.keeps_identifiers = True

    def _see_jump(self, packet_id: int) -> None:
        if not self._last_id:
            return
        self._highest_id = max(self._highest_id, self._last_id)
        step = (packet_id - self._last_id) % 65535  # identifiers are 1..65535, and 1 follows 65535
        if not 0 < step < 32768:
            self._went_back = True


def _same(known: Message, message: Message) -> bool:
    if known.topic != message.topic or (known.flags ^ message.flags) & 0x06:
        return False
    if type(known.payload) is Digest:
        return known.payload == digest(message.payload)
    return known.payload == message.payload


def _as_digest(payload: bytes) -> Digest:
    return payload if type(payload) is Digest else digest(payload)
