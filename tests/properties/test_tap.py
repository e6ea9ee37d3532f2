"""The tap, with both streams cut anywhere: nothing is lost or mixed, and order is kept."""

import contextlib
import tracemalloc
from collections import deque
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import MalformedPacket
from bridge.message import Message, Packet
from bridge.mqtt import packet_codec
from bridge.mqtt.tap import Tap
from tests.harness.packets import Ack, Connack, Frames, Kind, Ping, Publish, Suback
from tests.properties.malformed import malformed

CONTROL = (Connack(), Suback(Kind.SUBACK, 1, (0, 1)), Ping(Kind.PINGRESP), Suback(Kind.UNSUBACK, 2, ()))


class Kernel:
    """A kernel that reads and writes as few bytes at a time as `random` chooses."""

    def __init__(self, random: Random, incoming: bytes = b"") -> None:
        self.random, self.incoming, self.sent = random, incoming, b""
        self.has_room = False

    def recv(self, size: int) -> bytes:
        if self.random.random() < 0.2:
            raise BlockingIOError
        size = min(size, self.random.choice((1, 2, 5, 50, 1000)))
        taken, self.incoming = self.incoming[:size], self.incoming[size:]
        return taken

    def send(self, data: bytes) -> int:
        size = len(data) if self.has_room else self.random.choice((0, 0, 1, 2, 3, 4, 7, 100))
        if not size:
            raise BlockingIOError
        self.sent += bytes(data[:size])
        return min(size, len(data))


@given(st.integers(0, 2**32))
def test_the_session_and_paho_together_see_the_stream_in_its_order(seed: int) -> None:
    random = Random(seed)
    sent = [
        random.choice(CONTROL)
        if random.random() < 0.3
        else Publish(b"t", bytes(random.randrange(400)), 1, number)
        for number in range(1, random.randrange(2, 30))
    ]
    tap = Tap(Kernel(random, b"".join(packet.encode(4) for packet in sent)))  # type: ignore[arg-type]
    seen: list[object] = []
    paho = Frames(4)
    while not tap.ended:
        tap.fill()
        while True:
            packets: list[Packet] = []
            for_paho = tap.packets(False, packets)
            for packet in packets:
                assert isinstance(packet, Message)
                seen.append(Publish(packet.topic, packet.payload, 1, packet.packet_id))
            assert for_paho == bool(tap.pending() or tap.ended)
            if not tap.pending():
                break
            seen += paho.feed(tap.recv(random.choice((1, 2, 100))))
    assert seen == sent
    assert tap.recv(1) == b""


def _read_to_the_end(tap: Tap, mqtt5: bool, into: list[Packet]) -> bytes:
    """Read as the session and paho do, in turns; returns paho's bytes. Raises MalformedPacket."""
    for_paho = b""
    while not tap.ended:
        tap.fill()
        while tap.packets(mqtt5, into) and not tap.ended:
            for_paho += tap.recv(100)
    return for_paho


@given(st.sampled_from((4, 5)), st.integers(0, 5), st.data(), st.binary(max_size=50), st.integers(0, 2**32))
def test_what_no_server_may_send_is_refused_however_it_is_cut(
    version: int, before: int, data: st.DataObject, behind: bytes, seed: int
) -> None:
    wrong = data.draw(malformed(version))
    good = [Publish(b"t", bytes(40), 1, number) for number in range(1, before + 1)]
    stream = b"".join(packet.encode(version) for packet in good) + wrong + behind
    packets: list[Packet] = []
    with pytest.raises(MalformedPacket):
        _read_to_the_end(Tap(Kernel(Random(seed), stream)), version == 5, packets)  # type: ignore[arg-type]
    assert [packet.packet_id for packet in packets] == [packet.identifier for packet in good]


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 2**32))
def test_bytes_that_mean_nothing_end_and_none_of_them_comes_twice(
    stream: bytes, mqtt5: bool, seed: int
) -> None:
    packets: list[Packet] = []
    with contextlib.suppress(MalformedPacket):
        for_paho = _read_to_the_end(Tap(Kernel(Random(seed), stream)), mqtt5, packets)  # type: ignore[arg-type]
        taken = sum(len(each.topic) + len(each.payload) for each in packets if isinstance(each, Message))
        assert len(for_paho) + taken <= len(stream)


class Trickle:
    """A broker that announces a large packet and sends it a few bytes at a time."""

    def __init__(self, size: int, step: int) -> None:
        self.data, self.at, self.step = Publish(b"t", bytes(size)).encode(4), 0, step

    def recv(self, size: int) -> bytes:
        self.at += self.step
        return self.data[self.at - self.step : self.at]


@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_a_packet_that_trickles_in_costs_neither_more_copies_nor_more_memory_than_it_is_long(
    size: int,
) -> None:
    tap = Tap(Trickle(size, step=size // 10_000))  # type: ignore[arg-type]
    packets: list[Packet] = []
    copied = 0
    tracemalloc.start()
    try:
        while tap.fill():
            copied += len(tap._data)
            tap.packets(False, packets)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(packets) == 1
    assert copied < 2 * size
    assert peak < 3 * size + 100_000


@given(st.integers(0, 2**32))
def test_acknowledgements_and_pahos_packets_leave_whole_and_are_counted_right(seed: int) -> None:
    random = Random(seed)
    kernel = Kernel(random)
    tap = Tap(kernel)  # type: ignore[arg-type]
    numbers = count(1)
    paho: deque[bytes] = deque()  # paho's queue; the first entry may be sent in part
    packets: list[object] = []
    written = handed_over = 0
    for _ in range(80):
        chance = random.random()
        if chance < 0.4:
            burst = [Message.of(b"t", 2, next(numbers), None, b"") for _ in range(random.randrange(1, 5))]
            packets += [Ack(Kind.PUBACK, message.packet_id) for message in burst]
            written += len(burst)
            tap.outgoing.write(packet_codec.acknowledgements(burst), acknowledgements=True)
        elif chance < 0.5:
            number = next(numbers)
            packets.append(Ack(Kind.PUBCOMP, number))
            tap.outgoing.write(packet_codec.pubcomp(number, known=True, mqtt5=False), acknowledgements=False)
        elif chance < 0.6:
            paho.append(Ping(Kind.PINGREQ).encode(4))
            packets.append(Ping(Kind.PINGREQ))
        else:
            tap.outgoing.flush()
            if paho:
                try:
                    taken = tap.send(paho[0])
                except BlockingIOError:
                    continue
                paho[0] = paho[0][taken:]
                if not paho[0]:
                    paho.popleft()
        handed_over += tap.outgoing.take_handed_over()
        assert handed_over == _begun(kernel.sent)
    kernel.has_room = True
    while paho:
        paho[0] = paho[0][tap.send(paho[0]) :]
        if not paho[0]:
            paho.popleft()
    tap.outgoing.flush()
    handed_over += tap.outgoing.take_handed_over()
    assert handed_over == written
    found = list(Frames(4).feed(kernel.sent))
    assert sorted(map(repr, found)) == sorted(map(repr, packets))
    acknowledged = [packet for packet in found if packet.kind is Kind.PUBACK]  # type: ignore[union-attr]
    assert acknowledged == [packet for packet in packets if packet.kind is Kind.PUBACK]  # type: ignore[attr-defined]


def _begun(sent: bytes) -> int:
    """How many PUBACKs the kernel has accepted, completely or in part."""
    position = number = 0
    while position < len(sent):
        number += sent[position] == 0x40
        position += 2 if sent[position] == 0xC0 else 4
    return number
