"""The ledger against a broker that resends, under cuts, lost acknowledgements and repeated payloads.

The simulation knows which message a copy really is; the bridge cannot know. A message is *lost* when the
broker sees it acknowledged although that very message was never produced and settled.
"""

from collections import Counter, deque
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.delivery.ledger import UNKNOWN_WINDOW, Ledger
from bridge.message import DUP, Message, Packet, Release, State

WINDOW = 5
POLICIES = ("upward", "lowest-free", "restarts")


class Sent:
    """One application message in the broker's session."""

    def __init__(self, number: int, topic: bytes, payload: bytes, qos: int) -> None:
        self.number, self.topic, self.payload, self.qos = number, topic, payload, qos
        self.packet_id = 0
        self.released = False  # QoS 2: the broker saw PUBREC


class Simulation:
    """A broker, a connection with two directions, the ledger, and a Kafka that confirms in any order."""

    def __init__(self, policy: str, mqtt5: bool, random: Random) -> None:
        self.policies = POLICIES if policy == "any" else (policy,)
        self.mqtt5, self.random = mqtt5, random
        self.ledger = Ledger(WINDOW)
        # MQTT 3.1.1 has no Receive Maximum: the broker chooses its own window.
        self.size = WINDOW if mqtt5 else 4 * WINDOW
        self.numbers = count(1)
        self.queue: deque[Sent] = deque()
        self.window: dict[int, Sent] = {}
        self.last_id = 0
        self.to_bridge: deque[tuple[str, int, Sent, bool]] = deque()
        self.buffer: deque[tuple[str, int]] = deque()  # written by the bridge, not yet accepted by its kernel
        self.to_broker: deque[tuple[str, int]] = deque()
        self.truth: dict[Message, Sent] = {}
        self.pending: list[Message] = []
        self.produced: Counter[int] = Counter()
        self.settled: set[int] = set()
        self.needless: list[int] = []  # produced again although the rules allowed to join
        self.linked = False
        self.connect(session_present=False)

    # -- the broker ----------------------------------------------------------------------------------

    def connect(self, session_present: bool) -> None:
        """Connect. Behind a balancer a new session may be at a broker of another kind."""
        self.linked = True
        self.ledger.connected(session_present, window_known=self.mqtt5)
        held = list(self.window.values()) if session_present else []
        self.window.clear()
        if not session_present:
            self.policy = self.random.choice(self.policies)
            self.last_id = self.random.randrange(2 * WINDOW)
        elif self.policy == "restarts":
            self.last_id = 0
        if self.policy == "upward":
            held.sort(key=lambda sent: sent.packet_id)
        for sent in held:
            if self.policy == "restarts":
                sent.packet_id = self.next_id()
            self.window[sent.packet_id] = sent
            self.resend(sent)

    def resend(self, sent: Sent) -> None:
        kind = "PUBREL" if sent.released else "PUBLISH"
        self.to_bridge.append((kind, sent.packet_id, sent, True))

    def next_id(self) -> int:
        if self.policy == "lowest-free":
            return next(i for i in count(1) if i not in self.window)
        self.last_id += 1
        return self.last_id

    def send(self) -> None:
        while len(self.window) < self.size:
            qos = 1 if self.policy == "restarts" else self.random.choice((1, 1, 2))
            topic, payload = self.random.choice((b"s", b"s", b"t")), self.random.choice((b"a", b"a", b"b"))
            sent = Sent(next(self.numbers), topic, payload, qos)
            sent.packet_id = self.next_id()
            self.window[sent.packet_id] = sent
            self.to_bridge.append(("PUBLISH", sent.packet_id, sent, False))

    def resend_on_the_live_connection(self) -> None:
        if self.policy != "restarts":
            for sent in self.window.values():
                self.resend(sent)

    def hear(self, amount: int) -> None:
        for _ in range(min(amount, len(self.to_broker))):
            kind, packet_id = self.to_broker.popleft()
            sent = self.window.get(packet_id)
            if sent is None or (kind == "PUBACK") != (sent.qos == 1):
                continue
            if kind == "PUBCOMP":
                if sent.released:
                    del self.window[packet_id]
                continue
            assert sent.number in self.settled, f"message {sent.number} is acknowledged, Kafka never had it"
            if kind == "PUBACK":
                del self.window[packet_id]
            elif not sent.released:
                sent.released = True
                self.resend(sent)

    # -- the bridge ----------------------------------------------------------------------------------

    def receive(self, amount: int) -> None:
        """Receive `amount` packets at once."""
        packets: list[Packet] = []
        for _ in range(min(amount, len(self.to_bridge))):
            kind, packet_id, sent, dup = self.to_bridge.popleft()
            if kind == "PUBREL":
                packets.append(Release(packet_id))
                continue
            flags = sent.qos << 1 | (DUP if dup else 0)
            message = Message.of(sent.topic, flags, packet_id, None, sent.payload)
            self.truth[message] = sent
            packets.append(message)
        counted_upward = self.ledger.counts_upward
        for packet in self.ledger.receive(packets):
            if isinstance(packet, Release):
                self.buffer.append(("PUBCOMP", packet.packet_id))
                continue
            sent = self.truth[packet]
            self.pending.append(packet)
            self.produced[sent.number] += 1
            known_well = self.ledger.keeps_identifiers and self.ledger.counts_upward
            if self.produced[sent.number] > 1 and known_well and counted_upward:
                self.needless.append(sent.number)

    def confirm(self, amount: int) -> None:
        for _ in range(min(amount, len(self.pending))):
            message = self.pending.pop(self.random.randrange(len(self.pending)))
            self.ledger.settle(message)
            self.settled.add(self.truth[message].number)

    def acknowledge(self, amount: int) -> None:
        for message in self.ledger.take_settled():
            assert message.state == State.SETTLED
            assert message.epoch == self.ledger.epoch
            self.buffer.append(("PUBREC" if message.qos == 2 else "PUBACK", message.packet_id))
        for _ in range(min(amount, len(self.buffer))):
            packet = self.buffer.popleft()
            self.to_broker.append(packet)
            self.ledger.handed_over(0 if packet[0] == "PUBCOMP" else 1)

    # -- faults --------------------------------------------------------------------------------------

    def cut(self, amount: int) -> None:
        """Cut the connection: `amount` packets still reach the broker; all others are lost, both ways."""
        self.hear(amount)
        for wire in (self.to_bridge, self.buffer, self.to_broker):
            wire.clear()
        self.ledger.disconnected()
        self.linked = False

    def step(self) -> None:
        amount = self.random.randrange(2 * WINDOW)
        if not self.linked:
            if self.random.random() < 0.3:
                self.confirm(amount)
            else:
                self.connect(session_present=self.random.random() < 0.95)
            return
        chance = self.random.random()
        if chance < 0.02:
            self.resend_on_the_live_connection()
        elif chance < 0.10:
            self.cut(amount)
        elif chance < 0.30:
            self.send()
        elif chance < 0.50:
            self.receive(amount)
        elif chance < 0.68:
            self.confirm(amount)
        elif chance < 0.84:
            self.acknowledge(amount)
        else:
            self.hear(amount)


@pytest.mark.parametrize("mqtt5", [True, False], ids=["mqtt5", "mqtt3.1.1"])
@pytest.mark.parametrize("policy", [*POLICIES, "any"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_broker_sees_an_acknowledgement_of_what_kafka_never_had(
    policy: str, mqtt5: bool, seed: int
) -> None:
    simulation = Simulation(policy, mqtt5, Random(seed))
    for _ in range(1000):
        simulation.step()
        assert len(simulation.ledger._handed) <= 2 * (WINDOW if mqtt5 else UNKNOWN_WINDOW)
    assert not simulation.needless or policy != "upward"
