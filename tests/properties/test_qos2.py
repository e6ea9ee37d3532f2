"""The QoS 2 handshake as a state machine: a broker, a connection, the ledger, Kafka, and faults.

All topics and payloads are equal, so only the ledger's rules prevent that one message is taken for another.
QoS 1 messages share the identifiers. The broker's session is the judge: it knows which message an identifier
means, which no bridge can know.
"""

from collections import Counter, deque
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bridge.delivery.ledger import Ledger
from bridge.message import DUP, Message, Packet, Release
from tests.harness.model_session import Identifiers, ModelSession, Sending

WINDOW = 3
ALL = 1000
PUBLISH, PUBREL, PUBACK, PUBREC, PUBCOMP = "PUBLISH", "PUBREL", "PUBACK", "PUBREC", "PUBCOMP"

packets = st.sampled_from((ALL, 0, 1, 2, 3, 4))  # how many of the waiting packets
numbers = st.integers(0, 2 * WINDOW)
reports = st.lists(st.integers(0, WINDOW), max_size=2 * WINDOW)  # positions among the messages in Kafka


class Handshake(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.to_bridge: deque[tuple[str, Sending, int, bool]] = deque()
        self.written: deque[tuple[str, int]] = deque()  # by the bridge, not yet accepted by its kernel
        self.to_broker: deque[tuple[str, int]] = deque()
        self.in_kafka: list[Message] = []  # produced, not yet reported
        self.sent: list[Sending] = []  # all messages so far: id() distinguishes them
        self.produced: Counter[int] = Counter()
        self.settled: set[int] = set()
        self.may_double: set[int] = set()
        self._start()

    @initialize(identifiers=st.sampled_from(Identifiers), last=numbers)
    def a_new_session(self, identifiers: Identifiers, last: int) -> None:
        """Start a session. `last`: the last identifier of a broker that counts."""
        self.identifiers = identifiers
        self.session = ModelSession(identifiers, WINDOW)
        self.session_exists = False
        self._connect(last)

    # -- broker ----------------------------------------------------------------------------------------

    @rule(qos=st.lists(st.sampled_from((1, 2, 2)), min_size=1, max_size=WINDOW))
    def devices_publish(self, qos: list[int]) -> None:
        self.sent += [self.session.publish(b"t", b"v", each) for each in qos]
        self._pump()

    @rule()
    def the_broker_resends_on_the_live_connection(self) -> None:
        for sending in self.session.resend_live():
            self._send(sending)

    def _pump(self) -> None:
        while (sending := self.session.take()) is not None:
            self._send(sending)

    def _send(self, sending: Sending) -> None:
        kind = PUBREL if sending.released else PUBLISH
        self.to_bridge.append((kind, sending, sending.identifier, sending.dup))

    def _broker_reads(self, amount: int) -> None:
        for _ in range(min(amount, len(self.to_broker))):
            kind, packet_id = self.to_broker.popleft()
            sending = self.session.inflight.get(packet_id)
            if sending is not None and (kind, sending.qos) in ((PUBACK, 1), (PUBREC, 2)):
                assert id(sending) in self.settled, f"lost: {sending} is acknowledged, Kafka never had it"
            if kind == PUBACK:
                self.session.puback(packet_id)
            elif kind == PUBCOMP:
                self.session.pubcomp(packet_id)
            elif self.session.pubrec(packet_id) and sending:
                self._send(sending)

    # -- bridge ----------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.ledger = Ledger(WINDOW)
        self.truth: dict[Message, Sending] = {}
        self.known_to_keep = False
        self.begins_resumed = False

    def _connect(self, last: int | None = None) -> None:
        self.ledger.connected(self.session_exists, window_known=True)
        self.begins_resumed = self.session_exists
        self.known_to_keep &= self.session_exists
        self.session_exists = True
        self.fresh: dict[int, int] = {}  # identifier -> index among produced messages, acknowledgement due
        self.last_place = 0
        self.session.connected()
        if last is not None:
            self.session._last = last
        self._pump()

    def _bridge_reads(self, amount: int) -> None:
        """The bridge reads `amount` packets at once."""
        sent: dict[Packet, Sending] = {}
        for _ in range(min(amount, len(self.to_bridge))):
            kind, sending, packet_id, dup = self.to_bridge.popleft()
            self.known_to_keep |= self.begins_resumed and packet_id != 1
            self.begins_resumed = False
            flags = sending.qos << 1 | DUP * dup
            packet: Packet = (
                Release(packet_id)
                if kind == PUBREL
                else Message.of(sending.topic, flags, packet_id, None, sending.payload)
            )
            sent[packet] = sending
        for packet in self.ledger.receive(list(sent)):
            if isinstance(packet, Release):
                self.fresh.pop(packet.packet_id, None)
                self.written.append((PUBCOMP, packet.packet_id))
            else:
                self._produce(packet, sent[packet])

    def _produce(self, message: Message, sending: Sending) -> None:
        serial = id(sending)
        self.truth[message] = sending
        self.in_kafka.append(message)
        self.produced[serial] += 1
        if self.produced[serial] > 1 and sending.qos == 2:
            assert serial in self.may_double or not self.known_to_keep, f"doubled: {sending}"
        self.may_double.discard(serial)
        if message.epoch:  # else: produced in doubt, not acknowledged (the ledger's rule 1)
            self.fresh[message.packet_id] = self.produced.total()

    def _kafka_reports(self, positions: list[int]) -> None:
        for position in positions[: len(self.in_kafka)]:
            message = self.in_kafka.pop(position % len(self.in_kafka))
            self.ledger.settle(message)
            self.settled.add(id(self.truth[message]))

    def _bridge_acknowledges(self, amount: int) -> None:
        """The kernel accepts `amount` of the waiting bytes."""
        for message in self.ledger.take_settled():
            self.written.append((PUBREC if message.qos == 2 else PUBACK, message.packet_id))
            place = self.fresh.pop(message.packet_id, self.last_place)
            assert place >= self.last_place, "an acknowledgement has overtaken another"
            self.last_place = place
        for _ in range(min(amount, len(self.written))):
            packet = self.written.popleft()
            self.ledger.handed_over(0 if packet[0] == PUBCOMP else 1)
            self.to_broker.append(packet)

    # -- faults ----------------------------------------------------------------------------------------

    @rule(read=packets, reported=reports, taken=packets, heard=packets)
    def all_goes_its_way(self, read: int, reported: list[int], taken: int, heard: int) -> None:
        self._bridge_reads(read)
        self._kafka_reports(reported)
        self._bridge_acknowledges(taken)
        self._broker_reads(heard)
        self._pump()

    def _cut(self, arrive: int, late: int = 0) -> None:
        """Cut the connection: `arrive` packets still reach the broker, all others are lost, both ways.

        The bridge had read `late` packets before it noticed the cut, and handles them afterwards.
        """
        self._broker_reads(arrive)
        self.ledger.disconnected()
        self._bridge_reads(late)
        self.ledger.take_settled()  # drop the acknowledgements: there is no connection
        for wire in (self.to_bridge, self.written, self.to_broker):
            wire.clear()

    @rule(arrive=packets, late=packets, meanwhile=reports)
    def the_connection_is_cut(self, arrive: int, late: int, meanwhile: list[int]) -> None:
        self._cut(arrive, late)
        self._kafka_reports(meanwhile)
        self._connect()

    @rule(
        arrive=packets,
        late=packets,
        meanwhile=reports,
        identifiers=st.sampled_from(Identifiers),
        last=numbers,
    )
    def the_session_is_lost(
        self, arrive: int, late: int, meanwhile: list[int], identifiers: Identifiers, last: int
    ) -> None:
        """The next session may be at a broker of another kind."""
        self._cut(arrive, late)
        self._kafka_reports(meanwhile)
        self.a_new_session(identifiers, last)

    @rule(arrive=packets)
    def the_bridge_crashes(self, arrive: int) -> None:
        self._cut(arrive)
        self.in_kafka.clear()
        self.may_double |= set(self.produced)
        self._start()
        self._connect()

    @rule(taken=packets, arrive=packets, answers=reports)
    def the_bridge_is_stopped_and_started(self, taken: int, arrive: int, answers: list[int]) -> None:
        """Only messages that Kafka has not confirmed by then may be produced again."""
        self._bridge_acknowledges(taken)
        self._cut(arrive)
        self._kafka_reports(answers)
        self.may_double |= {id(self.truth[message]) for message in self.in_kafka}
        self.in_kafka.clear()
        identifiers = self.ledger.open_identifiers()
        self._start()
        self.ledger.restore(identifiers)
        self._connect()

    # -- invariants ------------------------------------------------------------------------------------

    @property
    def _keeps_identifiers(self) -> bool:
        return self.identifiers is not Identifiers.RESTARTED

    @invariant()
    def no_more_is_open_than_the_window_holds(self) -> None:
        if self._keeps_identifiers:
            assert len(self.ledger.open_identifiers()) <= WINDOW

    def teardown(self) -> None:
        """Without further faults all messages complete: no identifier stays in use on either side."""
        if not hasattr(self, "session"):
            return
        for _ in range(4 * (1 + len(self.sent))):
            self.all_goes_its_way(ALL, [0] * len(self.in_kafka) + [0] * WINDOW, ALL, ALL)
        assert not self.session.inflight
        assert not self.session.queue
        if self._keeps_identifiers:
            assert self.ledger.open_identifiers() == []


TestHandshake = Handshake.TestCase
TestHandshake.settings = settings(max_examples=200, stateful_step_count=80, deadline=None)


def _one_thing_happens(machine: Handshake, random: Random) -> None:
    def some() -> int:
        return random.choice((ALL, 0, 1, 2, 3, 4))

    def some_reports() -> list[int]:
        return [random.randrange(WINDOW + 1) for _ in range(random.randrange(2 * WINDOW))]

    chance = random.random()
    if chance < 0.60:
        machine.all_goes_its_way(some(), some_reports(), some(), some())
    elif chance < 0.80:
        machine.devices_publish(random.choices((1, 2), (1, 2), k=random.randint(1, WINDOW)))
    elif chance < 0.84:
        machine.the_broker_resends_on_the_live_connection()
    elif chance < 0.94:
        machine.the_connection_is_cut(some(), some(), some_reports())
    elif chance < 0.98:
        machine.the_bridge_is_stopped_and_started(some(), some(), some_reports())
    elif chance < 0.99:
        machine.the_bridge_crashes(some())
    else:
        identifiers = random.choice(list(Identifiers))
        machine.the_session_is_lost(some(), some(), some_reports(), identifiers, random.randrange(2 * WINDOW))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_it_holds_in_a_long_life(seed: int) -> None:
    """Many more steps than hypothesis makes in the same time, but without shrinking."""
    random = Random(seed)
    machine = Handshake()
    machine.a_new_session(random.choice(list(Identifiers)), last=0)
    for _ in range(1000):
        _one_thing_happens(machine, random)
        machine.no_more_is_open_than_the_window_holds()
    machine.teardown()
