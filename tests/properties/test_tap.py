"""The tap under any cutting of both streams: nothing lost, nothing mixed, everything in its order."""

from collections import deque
from itertools import count
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from bridge.message import Message, Packet
from bridge.mqtt import wire
from bridge.mqtt.tap import Tap
from tests.harness.packets import Ack, Connack, Frames, Kind, Ping, Publish, Suback

CONTROL = (Connack(), Suback(Kind.SUBACK, 1, (0, 1)), Ping(Kind.PINGRESP), Suback(Kind.UNSUBACK, 2, ()))


class Kernel:
    """Gives and takes as few bytes at a time as `random` likes."""

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


@given(st.integers(0, 2**32))
def test_acknowledgements_and_pahos_packets_leave_whole_and_are_counted_right(seed: int) -> None:
    random = Random(seed)
    kernel = Kernel(random)
    tap = Tap(kernel)  # type: ignore[arg-type]
    numbers = count(1)
    paho: deque[bytes] = deque()  # its own queue; the first may have gone in part
    packets: list[object] = []
    written = handed_over = 0
    for _ in range(80):
        chance = random.random()
        if chance < 0.4:
            burst = [Message(b"t", 2, next(numbers), None, b"") for _ in range(random.randrange(1, 5))]
            packets += [Ack(Kind.PUBACK, message.packet_id) for message in burst]
            written += len(burst)
            tap.write(wire.acknowledgements(burst), acknowledgements=True)
        elif chance < 0.5:
            number = next(numbers)
            packets.append(Ack(Kind.PUBCOMP, number))
            tap.write(wire.pubcomp(number, known=True, mqtt5=False), acknowledgements=False)
        elif chance < 0.6:
            paho.append(Ping(Kind.PINGREQ).encode(4))
            packets.append(Ping(Kind.PINGREQ))
        else:
            tap.flush()
            if paho:
                try:
                    taken = tap.send(paho[0])
                except BlockingIOError:
                    continue
                paho[0] = paho[0][taken:]
                if not paho[0]:
                    paho.popleft()
        handed_over += tap.take_handed_over()
        assert handed_over == _begun(kernel.sent)
    kernel.has_room = True
    while paho:
        paho[0] = paho[0][tap.send(paho[0]) :]
        if not paho[0]:
            paho.popleft()
    tap.flush()
    handed_over += tap.take_handed_over()
    assert handed_over == written
    found = list(Frames(4).feed(kernel.sent))
    assert sorted(map(repr, found)) == sorted(map(repr, packets))
    acknowledged = [packet for packet in found if packet.kind is Kind.PUBACK]  # type: ignore[union-attr]
    assert acknowledged == [packet for packet in packets if packet.kind is Kind.PUBACK]  # type: ignore[attr-defined]


def _begun(sent: bytes) -> int:
    """How many PUBACK the kernel has taken, in whole or in part."""
    position = number = 0
    while position < len(sent):
        number += sent[position] == 0x40
        position += 2 if sent[position] == 0xC0 else 4
    return number
