"""Asks which brokers are up, in a thread that lives only while it asks. It decides nothing.

The thread asks the producer's cluster for its metadata, by the connections that the producer has. Then it
tries to reach the addresses that are in doubt, all at once, with one question each.
"""

import errno
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event as Signal
from typing import Protocol

from confluent_kafka import KafkaException
from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]

from bridge.errors import NoThread
from bridge.kafka.brokers import Brokers, Partition, Reach
from bridge.kafka.listeners import API_VERSIONS_REQUEST, address, host_and_port
from bridge.kafka.tls import is_used
from bridge.loop import start_thread
from bridge.settings import KafkaSettings

EVERY = 5.0  # seconds from the end of one round to the next
_METADATA_TIMEOUT = 4.0  # seconds
_REACH_TIMEOUT = 2.0  # seconds, for all addresses together
_MOST_ADDRESSES = 64  # in one round; the others have their turn in the next
_MOST_TOPICS = 100  # whose replicas are looked at in turn
_OFFSETS = "__consumer_offsets"  # nearly every cluster has this topic, and nobody deletes it


class Client(Protocol):
    """The part of a producer that is used here; its docstrings are in producer.py."""

    @property
    def queued(self) -> int: ...
    def metadata(self, topic: str | None, seconds: float) -> ClusterMetadata: ...


class BrokerWatch:
    """Fills `brokers`. One round every EVERY seconds; a round takes up to six seconds."""

    def __init__(self, settings: KafkaSettings, brokers: Brokers) -> None:
        self._brokers = brokers
        self._tls = is_used(settings.client_options())
        self._asks = Signal()
        self._due = 0.0
        self._topics: deque[str] = deque(maxlen=_MOST_TOPICS)
        self._offsets_exist = False
        self._next_address = 0
        self._holds = False  # librdkafka held messages in the last round

    def use_topic(self, topic: str) -> None:
        """The topic exists. The metadata of one topic is small, and tells which brokers hold it."""
        if topic not in self._topics:
            self._topics.append(topic)

    def turn(self, now: float, producer: Client | None) -> None:
        """Begin a round if one is due. `producer` None: the cluster rests, so the round asks no metadata."""
        if now < self._due or self._asks.is_set():
            return
        self._asks.set()
        try:
            start_thread(lambda: self._work(producer), "brokers")
        except NoThread:  # the next round may find room
            self._asks.clear()
            self._due = now + EVERY

    def _work(self, producer: Client | None) -> None:
        try:
            self.ask(producer)
        finally:
            self._due = time.monotonic() + EVERY
            self._asks.clear()

    def ask(self, producer: Client | None) -> None:
        """One round. Blocks."""
        live: dict[int, str] | None = None
        partitions: dict[str, list[Partition]] = {}
        holds = False
        topic = self._topics[0] if self._topics else _OFFSETS if self._offsets_exist else None
        if producer:
            with suppress(KafkaException, RuntimeError):
                found = producer.metadata(topic, _METADATA_TIMEOUT)
                holds = producer.queued > 0
                live = {
                    number: address(str(each.host), each.port or 0) for number, each in found.brokers.items()
                }
                if topic is None:
                    self._offsets_exist = _OFFSETS in found.topics
                elif (told := found.topics.get(topic)) is None or told.error is not None:
                    self._drop(topic)
                elif topic in self._topics:
                    self._topics.rotate(-1)
                    partitions[topic] = [
                        Partition(each.leader, frozenset(each.replicas), frozenset(each.isrs))
                        for each in told.partitions.values()
                    ]
        doubtful = self._brokers.doubtful(live, self._needed(holds, partitions))
        reached = reach(self._some(doubtful), tls=self._tls)
        self._brokers.keep_topics(self._topics.copy())
        self._brokers.judge(time.monotonic(), live, reached, partitions=partitions)
        self._ask_soon({each.topic for each in self._brokers.stopped if not each.has_leader})

    def _needed(self, holds: bool, partitions: Mapping[str, Sequence[Partition]]) -> set[int]:
        """The brokers that hold the topic of this round, where messages wait for Kafka; else none."""
        held_before, self._holds = self._holds, holds
        if not (held_before and holds):
            return set()
        return {number for parts in partitions.values() for part in parts for number in part.replicas}

    def _ask_soon(self, stopped: Collection[str]) -> None:
        """Every second round asks about a topic without a leader: its state is the one that changes."""
        if len(self._topics) > 2 and self._topics[-1] not in stopped:
            for topic in self._topics.copy():
                if topic in stopped:
                    self._topics.remove(topic)
                    self._topics.appendleft(topic)
                    return

    def _drop(self, topic: str) -> None:
        self._offsets_exist = False
        with suppress(ValueError):
            self._topics.remove(topic)

    def _some(self, addresses: Sequence[str]) -> list[str]:
        if len(addresses) <= _MOST_ADDRESSES:
            return list(addresses)
        begin = self._next_address % len(addresses)
        self._next_address = begin + _MOST_ADDRESSES
        return [*addresses[begin:], *addresses[:begin]][:_MOST_ADDRESSES]


# -- addresses ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Attempt:
    place: str  # host:port
    question: bytes
    is_connected: bool = False


def reach(places: Iterable[str], *, tls: bool, timeout: float = _REACH_TIMEOUT) -> dict[str, Reach]:
    """Connect to all places at once, each host:port, and send one question to each.

    Blocks for at most `timeout` seconds, and for as long as the resolver takes for names.

    The question needs no login: ApiVersions, or with `tls` the first record of a handshake. A broker logs
    nothing above DEBUG about a connection that ends after that.
    """
    found: dict[str, Reach] = {}
    with _sockets() as selector:
        for place in places:
            found[place] = Reach.AWAY
            host, port = host_and_port(place)
            with suppress(OSError, ValueError):  # ValueError: no name that the resolver or TLS takes
                family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
                sock = socket.socket(family, kind, protocol)
                sock.setblocking(False)
                question = _hello(host) if tls else API_VERSIONS_REQUEST
                selector.register(sock, selectors.EVENT_WRITE, _Attempt(place, question))
                if sock.connect_ex(where) not in (0, errno.EINPROGRESS):
                    _drop(selector, sock)
        until = time.monotonic() + timeout
        while selector.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                _go_on(selector, key, found)
    return found


@contextmanager
def _sockets() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as selector:
        try:
            yield selector
        finally:
            for key in list(selector.get_map().values()):
                _drop(selector, key.fileobj)


def _drop(selector: selectors.BaseSelector, sock: object) -> None:
    selector.unregister(sock)  # type: ignore[arg-type]
    sock.close()  # type: ignore[attr-defined]


def _go_on(selector: selectors.BaseSelector, key: selectors.SelectorKey, found: dict[str, Reach]) -> None:
    sock: socket.socket = key.fileobj  # type: ignore[assignment]
    attempt: _Attempt = key.data
    try:
        if attempt.is_connected:
            found[attempt.place] = Reach.ANSWERS if sock.recv(64) else Reach.AWAY
        elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.send(attempt.question)  # a new connection's buffer takes some hundred bytes whole
            attempt.is_connected = True
            found[attempt.place] = Reach.HANGS  # until it answers
            selector.modify(sock, selectors.EVENT_READ, attempt)
            return
    except BlockingIOError:
        return
    except OSError:
        found[attempt.place] = Reach.AWAY
    _drop(selector, sock)


def _hello(host: str) -> bytes:
    """The first record of a TLS handshake. Nobody is trusted, for nothing else is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sent = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=host).do_handshake()
    return sent.read()
