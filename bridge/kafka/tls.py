"""TLS with Kafka as far as librdkafka leaves it open: which files it has read, and what went wrong.

librdkafka reads certificates and keys once, when a client is built, and of a certificate that it refuses
it says no more than that. So the files are watched here, and a handshake that failed is tried once more
with Python's ssl, which says why.
"""

import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bridge.errors import BridgeError
from bridge.observe.events import Event, log
from bridge.settings import KafkaSettings
from bridge.tls.context import client_context
from bridge.tls.failures import Names, TlsFailed, explain, explain_words

Options = Mapping[str, str | int | float | bool]
Stamp = tuple[tuple[int, int, int] | None, ...]

_PATIENCE = 5.0  # seconds for a handshake
_ALERT = 1.0  # seconds after it for the broker's objections
_LOCATIONS = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location")
_ADDRESS = re.compile(r"^\w+://\[?(?P<host>.+?)\]?:(?P<port>\d+)/")  # as librdkafka's errors begin


def is_used(options: Options) -> bool:
    return str(options.get("security.protocol", "")).lower() in ("ssl", "sasl_ssl")


def files(settings: KafkaSettings) -> list[Path]:
    """What a new producer would read: certificates, keys and the password."""
    options = settings.client_options()
    named = [Path(str(options[name])) for name in _LOCATIONS if name in options]
    return named + ([settings.password_file] if settings.password_file else [])


def stamp(paths: list[Path]) -> Stamp:
    """Differs where one of the files was replaced or written to."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def require_usable(settings: KafkaSettings) -> None:
    """Raises BridgeError where librdkafka would refuse a file, in words that name it."""
    options = settings.client_options()
    if is_used(options) and _is_plain(options):
        try:
            _context(options)
        except TlsFailed as failed:
            raise BridgeError(f"{failed.reason} ({failed.way_out})") from None


def report(settings: KafkaSettings, error: str) -> None:
    """Log why TLS failed with the broker that librdkafka's `error` is about. Blocks for some seconds."""
    options = settings.client_options()
    failed: TlsFailed | None = None
    if address := _ADDRESS.match(error):
        host, port = address["host"], int(address["port"])
        failed = look(host, port, options) if _is_plain(options) else None
        failed = failed or explain_words(error, _names(host, port))
    if failed:
        log(Event.KAFKA_TLS_FAILED, reason=failed.reason, way_out=failed.way_out)
    else:
        log(Event.KAFKA_TLS_FAILED, reason=error, way_out="compare ssl.* with the broker's listener")


def look(host: str, port: int, options: Options) -> TlsFailed | None:
    """Shake hands as librdkafka does. What only a person can cure, or None."""
    names = _names(host, port)
    try:
        context = _context(options)
        with (
            socket.create_connection((host, port), timeout=_PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=host) as sock,
        ):
            sock.settimeout(_ALERT)
            with suppress(TimeoutError):
                sock.recv(1)
    except OSError as error:
        explained = explain(error, names)
        return explained if isinstance(explained, TlsFailed) else None
    return None


def _names(host: str, port: int) -> Names:
    return Names(
        peer=f"{host}:{port}",
        authorities="ssl.ca.location",
        certificate="ssl.certificate.location",
        its_name="have it signed for the address by which the broker is reached (kafka.bootstrap_servers,"
        " the broker's advertised.listeners)",
    )


def _is_plain(options: Options) -> bool:
    """Nothing is set that Python's ssl reads in another way, or that loosens librdkafka's checks."""
    loose = {"enable.ssl.certificate.verification", "ssl.endpoint.identification.algorithm"}
    own_ways = {"ssl.keystore.location", "ssl.ca.pem", "ssl.certificate.pem", "ssl.key.pem", "ssl.engine.id"}
    authorities = options.get("ssl.ca.location")
    is_file = authorities is None or not (authorities == "probe" or Path(str(authorities)).is_dir())
    return is_file and not (loose | own_ways) & options.keys()


def _context(options: Options) -> ssl.SSLContext:
    def path(name: str) -> Path | None:
        return Path(str(options[name])) if name in options else None

    password = options.get("ssl.key.password")
    return client_context(
        path("ssl.ca.location"),
        path("ssl.certificate.location"),
        path("ssl.key.location"),
        password=None if password is None else str(password),
    )
