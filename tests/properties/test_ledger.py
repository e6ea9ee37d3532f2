"""The ledger against a broker that resends, under cuts, lost acknowledgements and repeated payloads.

The model knows what the bridge can't: which message a copy really is. A message is *lost* when the
broker sees it acknowledged although that very message was never produced.
"""

from collections import Counter, deque
from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.ledger import UNKNOWN_WINDOW, Ledger
from bridge.message import DUP, Message, State

WINDOW = 6


class Sent:
    """One application message as the broker holds it."""

    def __init__(self, number: int, payload: bytes, qos: int) -> None:
        self.number, self.payload, self.qos = number, payload, qos
        self.packet_id = 0
        self.was_sent = False
        self.released = False  # QoS 2: the broker saw PUBREC


class LedgerAndBroker(RuleBasedStateMachine):
    policy: str

    @initialize(policy=st.sampled_from(["upward", "lowest-free", "restarts"]), mqtt5=st.booleans())
    def start(self, policy: str, mqtt5: bool) -> None:
        self.policy, self.mqtt5 = policy, mqtt5
        self.ledger = Ledger(WINDOW)
        self.numbers = count(1)
        self.queue: deque[Sent] = deque()
        self.window: dict[int, Sent] = {}  # the broker's, in the order it sent
        self.last_id = 0
        self.to_bridge: deque[tuple[str, Sent, bool]] = deque()  # on the wire
        self.to_broker: deque[tuple[str, int]] = deque()
        self.truth: dict[int, Sent] = {}  # id(Message) -> what it really is
        self.alive: list[Message] = []  # keeps id() unique
        self.pending: list[Message] = []
        self.produced: Counter[int] = Counter()
        self.linked = False
        self.connect(session_present=False)

    def connect(self, session_present: bool) -> None:
        self.linked = True
        self.ledger.connected(session_present, window_known=self.mqtt5)
        if not session_present:
            self.window.clear()
            self.last_id = 0
            return
        held = list(self.window.values())
        self.window.clear()
        if self.policy == "restarts":
            self.last_id = 0
        elif self.policy == "upward":
            held.sort(key=lambda sent: sent.packet_id)
        for sent in held:
            if sent.released:
                self.window[sent.packet_id] = sent
                self.to_bridge.append(("PUBREL", sent, False))
                continue
            if self.policy == "restarts":
                sent.packet_id = self.next_id()
            self.window[sent.packet_id] = sent
            self.to_bridge.append(("PUBLISH", sent, True))

    def next_id(self) -> int:
        if self.policy == "lowest-free":
            return next(i for i in count(1) if i not in self.window)
        self.last_id = self.last_id % 65535 + 1
        while self.last_id in self.window:
            self.last_id = self.last_id % 65535 + 1
        return self.last_id

    @rule(payload=st.sampled_from([b"a", b"b"]), qos=st.sampled_from([1, 1, 1, 2]), times=st.integers(1, 8))
    def a_device_publishes(self, payload: bytes, qos: int, times: int) -> None:
        for _ in range(times):
            self.queue.append(Sent(next(self.numbers), payload, 1 if self.policy == "restarts" else qos))

    @precondition(lambda self: self.linked)
    @rule()
    def the_broker_sends_what_its_window_allows(self) -> None:
        while self.queue and len(self.window) < WINDOW:
            sent = self.queue.popleft()
            sent.packet_id = self.next_id()
            self.window[sent.packet_id] = sent
            self.to_bridge.append(("PUBLISH", sent, False))

    @precondition(lambda self: self.linked and self.policy != "restarts")
    @rule()
    def the_broker_resends_on_the_live_connection(self) -> None:
        for sent in self.window.values():
            self.to_bridge.append(("PUBREL", sent, False) if sent.released else ("PUBLISH", sent, True))

    @precondition(lambda self: self.to_bridge)
    @rule(amount=st.integers(1, 12))
    def packets_reach_the_bridge(self, amount: int) -> None:
        for _ in range(min(amount, len(self.to_bridge))):
            kind, sent, dup = self.to_bridge.popleft()
            if kind == "PUBREL":
                self.ledger.release(sent.packet_id)
                self.to_broker.append(("PUBCOMP", sent.packet_id))
                continue
            message = Message(b"t", sent.qos << 1 | (DUP if dup else 0), sent.packet_id, None, sent.payload)
            self.alive.append(message)
            self.truth[id(message)] = sent
            if self.ledger.receive(message):
                self.pending.append(message)
                self.produced[sent.number] += 1

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def kafka_confirms_one(self, data: Any) -> None:
        message = self.pending.pop(data.draw(st.integers(0, len(self.pending) - 1)))
        self.ledger.settle(message)

    @precondition(lambda self: self.linked)
    @rule(taken=st.integers(0, 12))
    def the_kernel_takes_acknowledgements(self, taken: int) -> None:
        ready = self.ledger.take_settled()
        assert all(message.state == State.SETTLED for message in ready)
        assert all(message.epoch == self.ledger.epoch for message in ready)
        offered = list(self.ledger._offered)[:taken]
        self.ledger.handed_over(len(offered))
        for message in offered:
            self.to_broker.append(("PUBREC" if message.qos == 2 else "PUBACK", message.packet_id))

    @precondition(lambda self: self.to_broker)
    @rule(amount=st.integers(1, 12))
    def acknowledgements_reach_the_broker(self, amount: int) -> None:
        for _ in range(min(amount, len(self.to_broker))):
            kind, packet_id = self.to_broker.popleft()
            sent = self.window.get(packet_id)
            if sent is None:
                continue
            if kind == "PUBCOMP":
                del self.window[packet_id]
                continue
            self.must_be_produced(sent)
            if kind == "PUBACK":
                del self.window[packet_id]
            elif not sent.released:
                sent.released = True
                self.to_bridge.append(("PUBREL", sent, False))

    def must_be_produced(self, sent: Sent) -> None:
        assert self.produced[sent.number], f"{sent.number} is acknowledged and was never produced: lost"

    @precondition(lambda self: self.linked)
    @rule(arrived=st.integers(0, 12))
    def the_connection_is_cut(self, arrived: int) -> None:
        """Of what is under way to the broker some arrives; the rest is gone, as all the other way."""
        self.acknowledgements_reach_the_broker(min(arrived, len(self.to_broker)))
        self.to_bridge.clear()
        self.to_broker.clear()
        self.ledger.disconnected()
        self.linked = False

    @precondition(lambda self: not self.linked)
    @rule(session_present=st.sampled_from([True, True, True, True, False]))
    def the_bridge_is_back(self, session_present: bool) -> None:
        self.connect(session_present)

    @invariant()
    def memory_is_bounded(self) -> None:
        if hasattr(self, "ledger"):
            assert len(self.ledger._handed) <= WINDOW
            assert len(self.ledger._known) <= 4 * UNKNOWN_WINDOW + 2 * WINDOW


TestLedgerAndBroker = LedgerAndBroker.TestCase
TestLedgerAndBroker.settings = settings(max_examples=400, stateful_step_count=60, deadline=None)
