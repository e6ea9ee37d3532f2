"""As much of Kafka's protocol as it takes to ask a broker about its cluster. Standard library only.

bridge/kafka/listeners.py and quorum_clock.py ask too, with the bridge's packages, which a Kafka Pi may lack.
"""

import errno
import itertools
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass

CLIENTS, CONTROLLERS = 9092, 9093
BROKERS = 9094  # in a cluster with TLS the brokers' own listener, where a node's certificate is its login
TIMEOUT = 5.0  # seconds, for a connection and for an answer; Linux takes 3 to find out that a node is away

_METADATA, _DESCRIBE_QUORUM, _DESCRIBE_CLUSTER = (3, 5), (55, 2), (60, 2)  # API key and version
_ADD_VOTER, _REMOVE_VOTER = (80, 0), (81, 0)


Certificate = ssl.SSLContext | None  # a node's, in a cluster with TLS


class Unreachable(Exception):
    """A node does not answer. The text says what to look at."""


@dataclass(frozen=True)
class Partition:
    topic: str
    number: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.topic}-{self.number}"


@dataclass(frozen=True)
class Cluster:
    identifier: str
    brokers: dict[int, str]  # the live ones: id -> host
    partitions: list[Partition]
    away: dict[int, str]  # members that do not run: id -> host


@dataclass(frozen=True)
class Quorum:
    leader: int
    now: float  # the leader's clock
    caught_up: dict[int, float]  # voter -> when it last had the whole log, by the leader's clock
    committed: int  # how many records of the log a majority has; -1 while a new leader does not know
    ends: dict[int, int]  # voter -> how many records it has
    directories: dict[int, bytes]  # voter -> the id of its directory; zeros in a quorum that has none


def certificate(directory: str) -> ssl.SSLContext:
    """The certificate of this node, node.pem, and the authority that it trusts, ca.crt. Raises OSError."""
    context = ssl.create_default_context(cafile=f"{directory}/ca.crt")
    context.load_cert_chain(f"{directory}/node.pem")
    return context


# -- the protocol: https://kafka.apache.org/protocol ---------------------------------------------------


class Answer:
    """Reads the fields of an answer, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def number(self, form: str) -> int:
        """An integer: "b" has 1 byte, "h" 2, "i" 4, "q" 8."""
        (value,) = struct.unpack_from(f">{form}", self._content, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def text(self) -> str:
        return self._take(self.number("h"))

    def many(self, read: Callable[[], object]) -> list:  # type: ignore[type-arg]
        return [read() for _ in range(self.number("i"))]

    # Compact fields of newer versions: a length is a varint, and 1 more than the length.

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.number("B")
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def compact_text(self) -> str:
        return self._take(self.varint() - 1)

    def compact_many(self, read: Callable[[], object]) -> list:  # type: ignore[type-arg]
        return [read() for _ in range(self.varint() - 1)]

    def identifier(self) -> bytes:
        self._at += 16
        return self._content[self._at - 16 : self._at]

    def skip_tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            self._take(self.varint())

    def _take(self, length: int) -> str:
        taken = self._content[self._at : self._at + max(length, 0)]
        self._at += len(taken)
        return taken.decode(errors="replace")


def ask(host: str, certificate: Certificate, api: tuple[int, int], body: bytes, flexible: bool) -> Answer:
    """Raises Unreachable."""
    name = b"install.sh"
    head = struct.pack(">hhih", *api, 1, len(name)) + name + (b"\0" if flexible else b"")
    with _opened(host, certificate) as connection:
        try:
            connection.sendall(struct.pack(">i", len(head + body)) + head + body)
            (length,) = struct.unpack(">i", _receive(connection, 4))
            answer = Answer(_receive(connection, length))
        except OSError as error:
            where = place(host, CLIENTS if certificate is None else BROKERS)
            raise Unreachable(f"{where}: it accepts connections, but gives no answer") from error
    answer.number("i")  # the number of the request
    if flexible:
        answer.skip_tags()
    return answer


def _opened(host: str, certificate: Certificate) -> socket.socket:
    """Raises Unreachable."""
    if certificate is None:
        return connected(host, CLIENTS)
    connection = connected(host, BROKERS)
    try:
        return certificate.wrap_socket(connection, server_hostname=host)
    except OSError as error:
        connection.close()
        raise Unreachable(f"{place(host, BROKERS)}: no TLS connection: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)


def _receive(connection: socket.socket, length: int) -> bytes:
    content = b""
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            raise ConnectionResetError
        content += part
    return content


def connected(host: str, port: int) -> socket.socket:
    """Raises Unreachable with what to look at."""
    where = place(host, port)
    try:
        return socket.create_connection((host, port), TIMEOUT)
    except socket.gaierror as error:
        raise Unreachable(f"{host}: no address is known for this name") from error
    except ConnectionRefusedError as error:
        raise Unreachable(f"{where}: nothing listens there. Does Kafka run on that node?") from error
    except TimeoutError as error:
        raise Unreachable(f"{where}: no answer. Is the node on, and no firewall in the way?") from error
    except OSError as error:
        unreachable = error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)
        why = "not in the network. Is the node on, and the address right?" if unreachable else error.strerror
        raise Unreachable(f"{where}: {why}") from error


def place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def differs(host: str, certificate: Certificate) -> str:
    """Why this node and that one cannot talk to each other; "" if they can, or if that one does not answer.

    It asks the port of the controllers, where a node listens before a majority runs.
    """
    where = place(host, CONTROLLERS)
    try:
        connection = connected(host, CONTROLLERS)
    except Unreachable:
        return ""
    try:
        with (certificate or _any_certificate()).wrap_socket(connection, server_hostname=host):
            return "" if certificate else f"{where}: that node has TLS: give --tls DIRECTORY here too"
    except ssl.SSLCertVerificationError as error:
        return f"{where}: this node does not trust that one's certificate: {_reason(error)}"
    except TimeoutError:
        return ""
    except OSError:
        return (
            f"{where}: that node has no TLS: stop Kafka there, and give --tls there too"
            if certificate
            else ""
        )
    finally:
        connection.close()


def _any_certificate() -> ssl.SSLContext:
    """Accepts each server. It only finds out whether there is TLS; nothing is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def cluster(host: str, certificate: Certificate) -> Cluster:
    """What one broker knows of the cluster. Raises Unreachable."""
    answer = ask(host, certificate, _METADATA, struct.pack(">ib", -1, 0), False)  # all topics; create none

    def broker() -> tuple[int, str]:
        number, address = answer.number("i"), answer.text()
        answer.number("i")
        answer.text()
        return number, address

    def numbers() -> tuple[int, ...]:
        return tuple(answer.many(lambda: answer.number("i")))

    def topic() -> list[Partition]:
        answer.number("h")
        name = answer.text()
        answer.number("b")

        def partition() -> Partition:
            answer.number("h")
            found = Partition(name, answer.number("i"), answer.number("i"), numbers(), numbers())
            numbers()
            return found

        return answer.many(partition)

    answer.number("i")
    brokers = dict(answer.many(broker))
    identifier = answer.text()
    answer.number("i")
    partitions = list(itertools.chain(*answer.many(topic)))
    return Cluster(identifier, brokers, partitions, _away(host, certificate))


def _away(host: str, certificate: Certificate) -> dict[int, str]:
    """The members that the controllers know and that do not run. Raises Unreachable."""
    body = struct.pack(">bbbB", 0, 1, 1, 0)  # no rights; brokers, also those that are away
    answer = ask(host, certificate, _DESCRIBE_CLUSTER, body, True)

    def broker() -> tuple[int, str, bool]:
        number, address = answer.number("i"), answer.compact_text()
        answer.number("i")
        answer.compact_text()
        away = bool(answer.number("b"))
        answer.skip_tags()
        return number, address, away

    answer.number("i")
    failed = answer.number("h")
    answer.compact_text()
    answer.number("b")
    answer.compact_text()
    answer.number("i")
    found = [] if failed else answer.compact_many(broker)
    return {number: address for number, address, away in found if away}


def quorum(host: str, certificate: Certificate) -> Quorum:
    """What the leader of the controllers tells, asked by way of one broker. Raises Unreachable."""
    name = b"__cluster_metadata"
    topic = struct.pack(">B", len(name) + 1) + name + struct.pack(">BiBB", 2, 0, 0, 0)
    answer = ask(host, certificate, _DESCRIBE_QUORUM, b"\x02" + topic + b"\0", True)

    def replica() -> tuple[int, bytes, int, float]:
        number, directory, end = answer.number("i"), answer.identifier(), answer.number("q")
        answer.number("q")
        caught_up = answer.number("q")
        answer.skip_tags()
        return number, directory, end, caught_up / 1000

    def partition() -> Quorum | None:
        answer.number("i")
        failed = answer.number("h")
        answer.compact_text()
        leader = answer.number("i")
        answer.number("i")
        committed = answer.number("q")
        voters = answer.compact_many(replica)
        answer.compact_many(replica)
        answer.skip_tags()
        caught_up = {number: when for number, _, _, when in voters}
        if failed or leader not in caught_up:
            return None
        ends = {number: end for number, _, end, _ in voters}
        directories = {number: directory for number, directory, _, _ in voters}
        return Quorum(leader, caught_up[leader], caught_up, committed, ends, directories)

    def partitions() -> list[Quorum | None]:
        answer.compact_text()
        found = answer.compact_many(partition)
        answer.skip_tags()
        return found

    failed = answer.number("h")
    answer.compact_text()
    found: list[Quorum | None] = [] if failed else list(itertools.chain(*answer.compact_many(partitions)))
    if not found or found[0] is None:
        raise Unreachable(f"{host}: the controllers have no leader")
    return found[0]


def remove_voter(host: str, certificate: Certificate, number: int, directory: bytes) -> str:
    """Take a directory out of the quorum. Returns why not. Raises Unreachable."""
    body = struct.pack(">bi", 0, number) + directory + b"\0"
    return _refusal(ask(host, certificate, _REMOVE_VOTER, body, True))


def add_voter(host: str, certificate: Certificate, number: int, directory: bytes, address: str) -> str:
    """Take a directory of a node at this address into the quorum. Returns why not. Raises Unreachable."""
    listener = _short("CONTROLLER") + _short(address) + struct.pack(">HB", CONTROLLERS, 0)
    body = struct.pack(">bii", 0, int(TIMEOUT * 1000) - 1000, number) + directory + b"\2" + listener + b"\0"
    return _refusal(ask(host, certificate, _ADD_VOTER, body, True))


def _refusal(answer: Answer) -> str:
    answer.number("i")
    failed, said = answer.number("h"), answer.compact_text()
    return (said or f"error {failed}") if failed else ""


def _short(text: str) -> bytes:
    return bytes([len(text) + 1]) + text.encode()
