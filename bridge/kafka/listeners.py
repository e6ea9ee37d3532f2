"""Which kind of listener answers at an address, where the client speaks another one's language.

A Kafka broker that is spoken to in the wrong way closes the connection, and librdkafka then says "all
brokers are down", or blames the password. So librdkafka's words are read here, and where they do not tell,
the address is asked once more: does it speak TLS, does it want SASL, is it a
controller's or an MQTT broker's?
"""

import re
import socket
import ssl
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

from bridge.errors import NoThread
from bridge.loop import start_thread
from bridge.observe.events import Event, log
from bridge.settings import KafkaSettings

LOG_IN = "correct sasl.username or the file of kafka.password_file, which is read again without a restart"

_TIMEOUT = 3.0  # seconds
_HURRY = 1.0  # seconds, where an address takes the connection and has left the first question unanswered
_ADDRESS = re.compile(r"^(?:\w+://)?(\S+)/(?:bootstrap|\d+): ")
_CONTROLLER = (
    "it is the port of a Kafka controller; name a broker's, usually 9092, in kafka.bootstrap_servers"
)

_MQTT = "it is the port of an MQTT broker; name a Kafka broker's, usually 9092, in kafka.bootstrap_servers"

# librdkafka's words -> what they mean.
_WORDS = (
    (
        "connecting to a PLAINTEXT broker listener",
        "the listener does not speak TLS: name the port of one that does, or set security.protocol ="
        ' "PLAINTEXT", with SASL "SASL_PLAINTEXT"',
    ),
    (
        "Request not valid in current SASL state",
        "the listener does not use SASL: name the port of one that does, or take sasl.* away and set"
        ' security.protocol = "PLAINTEXT", with TLS "SSL"',
    ),
    ("requires Apache Kafka broker version", _CONTROLLER),
    (
        "OAUTHBEARER token",
        "the token endpoint, sasl.oauthbearer.token.endpoint.url, must answer this machine and know"
        " sasl.oauthbearer.client.id with its secret",
    ),
)

# CONNECT of MQTT 3.1.1 with a clean session and without a client id: it takes no session from anybody.
_MQTT_CONNECT = bytes([0x10, 12, 0, 4, *b"MQTT", 4, 2, 0, 10, 0, 0])
_MQTT_CONNACK = bytes([0x20, 2])  # of every answer, also of a refusal

# Kafka protocol guide, "API Keys".
_METADATA, _API_VERSIONS = 3, 18


def address_in(error: str) -> str:
    """host:port of the broker that an error of librdkafka's is about; empty: of none."""
    found = _ADDRESS.match(error)
    return found[1] if found else ""


def explain_words(error: str) -> str:
    """What a person is to do, where librdkafka's own words tell that the listener is a wrong one."""
    return next((meaning for words, meaning in _WORDS if words in error), "")


@dataclass(frozen=True)
class Listener:
    """What answers at an address. `sasl` None: that can't be seen."""

    tls: bool
    sasl: bool | None
    is_controller: bool = False
    is_mqtt: bool = False


def explain(address: str, found: Listener, options: Mapping[str, object]) -> str:
    """What a person is to do; empty: the listener is the right one. Pure."""
    if found.is_controller:
        return f"{address} answers, but {_CONTROLLER}"
    if found.is_mqtt:
        return f"{address} answers, but {_MQTT}"
    now = str(options.get("security.protocol", "PLAINTEXT")).upper()
    sasl = now.startswith("SASL_") if found.sasl is None else found.sasl
    right = ("SASL_" if sasl else "") + ("SSL" if found.tls else "PLAINTEXT")
    if right == now:
        return ""
    return (
        f"{address} is a listener for {right}, and security.protocol is {now}: set security.protocol ="
        f' "{right}" in [kafka.options], or name the port of a listener for {now} in kafka.bootstrap_servers'
    )


def look(host: str, port: int) -> Listener | None:
    """None: nothing answers, or neither Kafka nor MQTT. Blocks: for 5 s where a program hangs."""
    seconds = _TIMEOUT
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT).close()
    except OSError:
        return None
    try:
        with _connected(host, port, tls=True) as sock:
            found = _asked(sock, tls=True)
        return found or _asked_as_mqtt(host, port, tls=True) or Listener(tls=True, sasl=None)
    except ssl.SSLError as error:
        if error.reason and "ALERT" in error.reason.replace(" ", "_").upper():
            return Listener(tls=True, sasl=None)
    except TimeoutError:
        seconds = _HURRY
    except OSError:
        pass
    with suppress(OSError), _connected(host, port, tls=False, seconds=seconds) as sock:
        if found := _asked(sock, tls=False):
            return found
    return _asked_as_mqtt(host, port, tls=False, seconds=seconds)


def look_at_all(addresses: Iterable[str]) -> dict[str, Listener | None]:
    """What `look` finds at each host:port. All are asked at once, for each may hang. Raises NoThread."""
    answers: SimpleQueue[tuple[str, Listener | None]] = SimpleQueue()

    def ask_one(address: str) -> None:
        found = None
        try:
            found = look(*host_and_port(address))
        finally:
            answers.put((address, found))

    asked = list(addresses)
    for each in asked:
        start_thread(partial(ask_one, each), "listeners")
    found = dict(answers.get() for _ in asked)
    return {each: found[each] for each in asked}


def why(settings: KafkaSettings, found: Mapping[str, Listener | None]) -> str:
    """What is wrong with one of the listeners found, by host:port; empty: nothing that shows. Pure."""
    options = settings.client_options()
    explained = (explain(each, listener, options) for each, listener in found.items() if listener)
    return next(filter(None, explained), "")


def report_in_background(settings: KafkaSettings) -> None:
    """Log what is wrong with the listeners, if anything is. A thread asks."""

    def work() -> None:
        # Nobody waits for it, so one thread asks one after another: the service may be allowed no more.
        found = {each: look(*host_and_port(each)) for each in addresses(settings.bootstrap_servers)}
        if reason := why(settings, found):
            log(Event.KAFKA_WRONG_LISTENER, reason=reason)

    with suppress(NoThread):  # it is asked again where nobody is reached a minute later
        start_thread(work, "listeners")


def addresses(bootstrap_servers: str) -> list[str]:
    """host:port of each server, as Kafka's metadata writes it."""
    found = []
    for server in bootstrap_servers.split(","):
        host, port = host_and_port(server.strip().rpartition("://")[2])
        found.append(address(host, port))
    return found


def address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_and_port(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":") if re.search(r":\d+$", server) else (server, "", "9092")
    return host.strip("[]"), int(port)


def ask(server: str, key: int, version: int, body: bytes, *, tls: bool) -> bytes:
    """Send one request to host:port without a login. Returns the answer's body; empty: it hung up.

    Raises OSError.
    """
    host, port = host_and_port(server)
    with _connected(host, port, tls=tls) as sock:
        return _call(sock, key, version, body)


def _connected(host: str, port: int, *, tls: bool, seconds: float = _TIMEOUT) -> socket.socket:
    """Raises OSError. Nobody is trusted: nothing is sent but questions."""
    sock = socket.create_connection((host, port), timeout=seconds)
    if not tls:
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except OSError:
        sock.close()
        raise


def _asked(sock: socket.socket, *, tls: bool) -> Listener | None:
    """None: it does not answer as Kafka does. Raises OSError."""
    try:
        answer = _call(sock, _API_VERSIONS, 0, b"")
    except ssl.SSLError:
        return None  # it wants a certificate
    if len(answer) < 6:
        return None
    (count,) = struct.unpack_from(">i", answer, 2)
    keys = {key: lowest for key, lowest, _ in struct.iter_unpack(">hhh", answer[6 : 6 + 6 * count])}
    if _METADATA not in keys:
        return Listener(tls, sasl=None, is_controller=True)
    try:
        # Version 4: no topics, and none is to be created. Without a login a listener for SASL hangs up.
        return Listener(tls, sasl=not _call(sock, _METADATA, 4, struct.pack(">i?", 0, False)))
    except OSError:
        return Listener(tls, sasl=True)


def _asked_as_mqtt(host: str, port: int, *, tls: bool, seconds: float = _TIMEOUT) -> Listener | None:
    """None: it does not answer as an MQTT broker does."""
    with suppress(OSError), _connected(host, port, tls=tls, seconds=seconds) as sock:
        sock.sendall(_MQTT_CONNECT)
        if _received(sock, 2) == _MQTT_CONNACK:
            return Listener(tls, sasl=None, is_mqtt=True)
    return None


def _request(key: int, version: int, body: bytes) -> bytes:
    client = b"mqtt-kafka-bridge"
    request = struct.pack(">hhih", key, version, 1, len(client)) + client + body
    return struct.pack(">i", len(request)) + request


API_VERSIONS_REQUEST = _request(_API_VERSIONS, 0, b"")  # every Kafka broker answers it before a login


def _call(sock: socket.socket, key: int, version: int, body: bytes) -> bytes:
    """A request and the body of its answer; empty: it hung up (Kafka protocol guide, "Network")."""
    sock.sendall(_request(key, version, body))
    head = _received(sock, 8)
    if len(head) < 8:
        return b""
    (size,) = struct.unpack_from(">i", head)
    return _received(sock, size - 4) if 4 <= size < 1_000_000 else b""


def _received(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (more := sock.recv(size - len(found))):
        found += more
    return found
