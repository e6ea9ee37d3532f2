"""TLS with Kafka, where librdkafka does too little: replaced files, and the reasons of failures.

librdkafka reads certificates and keys once, when a client is built. It does not say why it refuses a
certificate, and it says nothing about a certificate that it accepts. So this module watches the files, and
it connects to a broker once more with Python's ssl, which gives the reason and the certificate.
"""

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from bridge.errors import BridgeError, NoThread
from bridge.kafka.listeners import host_and_port
from bridge.loop import start_thread
from bridge.observe.events import Event, log
from bridge.settings import KafkaSettings
from bridge.tls.context import client_context
from bridge.tls.expiry import Expiry, File
from bridge.tls.failures import Names, TlsFailed, explain, explain_words

Options = Mapping[str, str | int | float | bool]
Stamp = tuple[tuple[int, int, int] | None, ...]

_TIMEOUT = 5.0  # seconds for a handshake
_ALERT = 1.0  # seconds after the handshake in which the broker may send an alert
_AUTHORITIES, _CERTIFICATE, _KEY = "ssl.ca.location", "ssl.certificate.location", "ssl.key.location"
_LOCATIONS = (_AUTHORITIES, _CERTIFICATE, _KEY, "ssl.keystore.location", "ssl.crl.location")
_COMPARE = "compare ssl.* of [kafka.options] with the broker's listener"
_ADDRESS = re.compile(r"^\w+://\[?(?P<host>.+?)\]?:(?P<port>\d+)/")  # librdkafka's errors begin with this


def is_used(options: Options) -> bool:
    return str(options.get("security.protocol", "")).lower() in ("ssl", "sasl_ssl")


def files(settings: KafkaSettings) -> list[Path]:
    """Return the files that a new producer would read: certificates, keys and the password."""
    options = settings.client_options()
    named = [Path(str(options[name])) for name in _LOCATIONS if name in options]
    return named + ([settings.password_file] if settings.password_file else [])


def stamp(paths: list[Path]) -> Stamp:
    """Return a value that changes when a file is replaced or written to, or when its permissions change."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_ctime_ns, status.st_size))
    return tuple(found)


def require_usable(settings: KafkaSettings) -> None:
    """Check the TLS files. Raises BridgeError that names the file where librdkafka would refuse one."""
    options = settings.client_options()
    if is_used(options) and _is_plain(options):
        try:
            _context(options)
        except TlsFailed as failed:
            raise BridgeError(failed.sentence) from None


def report_in_background(settings: KafkaSettings, error: str) -> None:
    """`report` in a thread of its own. Without a thread the broker is not asked: librdkafka's words do."""
    try:
        start_thread(lambda: report(settings, error), "tls")
    except NoThread:
        _log_failure(_in_its_words(error))


def report(settings: KafkaSettings, error: str) -> None:
    """Log why TLS failed with the broker that librdkafka's `error` is about. Blocks for some seconds."""
    _log_failure(why(settings, error))


def _log_failure(failed: TlsFailed) -> None:
    log(Event.KAFKA_TLS_FAILED, reason=failed.reason, way_out=failed.way_out)


def why(settings: KafkaSettings, error: str) -> TlsFailed:
    """Return why TLS failed with a broker. Connects to that broker once more; blocks for some seconds."""
    options = settings.client_options()
    failed: TlsFailed | None = None
    if address := _ADDRESS.match(error):
        host, port = address["host"], int(address["port"])
        failed = look(host, port, options) if _is_plain(options) else None
        failed = failed or explain_words(error, _names(host, port))
    return failed or TlsFailed(error, _COMPARE)


def _in_its_words(error: str) -> TlsFailed:
    address = _ADDRESS.match(error)
    names = _names(address["host"], int(address["port"])) if address else _names("the broker", 0)
    return explain_words(error, names) or TlsFailed(error, _COMPARE)


def look(host: str, port: int, options: Options) -> TlsFailed | None:
    """Shake hands as librdkafka does. Returns a failure that only a person can cure; else None."""
    try:
        with _connected(host, port, options) as sock:
            sock.settimeout(_ALERT)
            with suppress(TimeoutError):
                sock.recv(1)
    except OSError as error:
        explained = explain(error, _names(host, port))
        return explained if isinstance(explained, TlsFailed) else None
    return None


def watch_expiry(settings: KafkaSettings) -> Expiry | None:
    """Watch when certificates expire: those of the files in [kafka.options], and those the brokers show.

    The caller starts it. None: TLS is not used, or not in the way in which Python's ssl uses it.
    """
    options = settings.client_options()
    if not is_used(options) or not _is_plain(options):
        return None
    files = [
        File(name, Path(str(options[name])), authorities=name == _AUTHORITIES)
        for name in (_AUTHORITIES, _CERTIFICATE)
        if name in options
    ]
    peers = {
        server: partial(_certificate_of, *host_and_port(server), options)
        for server in settings.bootstrap_servers.split(",")
    }
    return Expiry(files, peers)


def _certificate_of(host: str, port: int, options: Options) -> bytes | None:
    try:
        with _connected(host, port, options) as sock:
            return sock.getpeercert(binary_form=True)
    except OSError:  # the events kafka.tls_failed and kafka.error report the failure
        return None


@contextmanager
def _connected(host: str, port: int, options: Options) -> Iterator[ssl.SSLSocket]:
    """Connect by TCP and TLS. Raises OSError; TlsFailed is an OSError too."""
    context = _context(options)
    with (
        socket.create_connection((host, port), timeout=_TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=host) as sock,
    ):
        yield sock


def _names(host: str, port: int) -> Names:
    return Names(
        peer=f"{host}:{port}",
        authorities=_AUTHORITIES,
        certificate=_CERTIFICATE,
        its_name="get a certificate for the address that reaches the broker (kafka.bootstrap_servers,"
        " the broker's advertised.listeners)",
    )


def _is_plain(options: Options) -> bool:
    """Whether Python's ssl would read the options as librdkafka does, and no option loosens the checks."""
    loose = {"enable.ssl.certificate.verification", "ssl.endpoint.identification.algorithm"}
    own_ways = {
        "ssl.keystore.location",
        "ssl.crl.location",
        "ssl.ca.pem",
        "ssl.certificate.pem",
        "ssl.key.pem",
        "ssl.engine.id",
    }
    authorities = options.get(_AUTHORITIES)
    is_file = authorities is None or not (authorities == "probe" or Path(str(authorities)).is_dir())
    return is_file and not (loose | own_ways) & options.keys()


def _context(options: Options) -> ssl.SSLContext:
    def path(name: str) -> Path | None:
        return Path(str(options[name])) if name in options else None

    password = options.get("ssl.key.password")
    return client_context(
        path(_AUTHORITIES),
        path(_CERTIFICATE),
        path(_KEY),
        password=None if password is None else str(password),
    )
