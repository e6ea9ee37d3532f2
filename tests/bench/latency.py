"""Measures latency and cost of a message when messages come one by one."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from statistics import quantiles
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from tests.bench import backlog, meter, report
from tests.bench.peers import Peer, Place
from tests.bench.rig import PARTITIONS, Rig
from tests.harness.conditions import wait_until
from tests.harness.packets import Publish

_DEADLINE = 30.0  # seconds after the last message was sent


class Latency(NamedTuple):
    p50: float  # ms
    p99: float  # ms
    cpu_us: float  # per message
    share: float  # % of a core, at this rate


class Stretch(NamedTuple):
    """Messages that were published one after another, each as it came out of Kafka."""

    latencies: tuple[float, ...]  # seconds
    cpu: float  # seconds
    elapsed: float  # seconds
    apart: float = 0.0  # seconds of processor time of the threads that do not count

    @property
    def latency(self) -> Latency:
        cuts = quantiles(self.latencies, n=100)
        count = len(self.latencies)
        return Latency(cuts[49] * 1e3, cuts[98] * 1e3, self.cpu / count * 1e6, self.cpu / self.elapsed * 100)


def together(stretches: Sequence[Stretch]) -> Stretch:
    return Stretch(
        tuple(latency for each in stretches for latency in each.latencies),
        sum(each.cpu for each in stretches),
        sum(each.elapsed for each in stretches),
        sum(each.apart for each in stretches),
    )


def measure(here: Rig, peers: Sequence[Peer], rounds: int, rate: int, count: int) -> str:
    """`count` messages at `rate` messages/s, publisher and consumer in this process."""
    found: dict[Peer, list[Latency]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            found[peer].append(one(here, peer, rate, count))
    columns = [f"at {rate} messages/s", "p50 ms", "p99 ms", "CPU µs a message", "% of a core"]
    return report.table(
        columns,
        (
            [
                peer.name,
                *(report.spread([one[place] for one in values]) for place in range(len(Latency._fields))),
            ]
            for peer, values in found.items()
        ),
    )


def one(here: Rig, peer: Peer, rate: int, count: int) -> Latency:
    """Measure one run of one peer."""
    with running(here, peer, rate) as send:
        return send(count).latency


@contextlib.contextmanager
def running(here: Rig, peer: Peer, rate: int, *, without: str = "") -> Iterator[Callable[[int], Stretch]]:
    """Run the peer inside the block. Yields what publishes so many messages at `rate`, and measures them.

    The time of the peer's threads named `without` does not count.
    """

    def used() -> tuple[float, float]:
        apart = meter.thread_seconds(process, without) if without else 0.0
        return meter.cpu_seconds(process) - apart, apart

    def send(count: int) -> Stretch:
        arrived.clear()
        (before, apart_before), began = used(), time.monotonic()
        publish_evenly(place, rate, count, arrived)
        after, apart = used()
        return Stretch(tuple(arrived), after - before, time.monotonic() - began, apart - apart_before)

    place = here.place(peer.slug, mqtt5=peer.speaks(mqtt5=True))
    here.kafka.create_topic(place.topic, partitions=PARTITIONS)
    with here.live(peer, place) as process, arrivals(place) as arrived:
        meter.wait_quiet(process)
        send(rate)  # one second, so that everything is connected and cached
        yield send
        here.forget_session(place)


def publish_evenly(
    place: Place,
    rate: int,
    count: int,
    arrived: list[float],
    also: Iterator[bytes] | None = None,
) -> None:
    """Publish evenly, and wait until all have arrived. The payload begins with the time of sending, in ns.

    `also` has one more packet for each message; nobody waits for the arrival of these.
    """
    expected = len(arrived) + count
    with closing(backlog.connect(place.mqtt_host, place.mqtt_port, "bench-publisher")) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            packet_id = number % 65535 + 1
            value = backlog.payload(time.monotonic_ns())
            packet = Publish(backlog.topic(place.site, number), value, 1, packet_id).encode(4)
            connection.sendall(packet + next(also) if also else packet)
            with contextlib.suppress(BlockingIOError):
                connection.recv(65536, socket.MSG_DONTWAIT)
        wait_until(
            lambda: len(arrived) >= expected,
            _DEADLINE,
            lambda: f"{expected} messages came out of Kafka, {len(arrived)} so far",
        )


@contextlib.contextmanager
def arrivals(place: Place) -> Iterator[list[float]]:
    """Yields a list that grows by each message's latency, in seconds, as a consumer of Kafka gets it."""
    arrived: list[float] = []
    stop = threading.Event()
    consumer = Consumer(
        {
            "bootstrap.servers": place.bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 500,  # Kafka answers a fetch as soon as there is a record
        }
    )
    consumer.assign([TopicPartition(place.topic, number, 0) for number in range(PARTITIONS)])

    def consume() -> None:
        while not stop.is_set():
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                arrived.append((time.monotonic_ns() - backlog.number_of(message.value())) / 1e9)

    thread = threading.Thread(target=consume, name="arrivals", daemon=True)
    thread.start()
    try:
        yield arrived
    finally:
        stop.set()
        thread.join()
        consumer.close()
