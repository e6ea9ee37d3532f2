"""Connects a socket to the broker: name resolution, TCP, TLS. These calls block, so they run in a thread."""

import contextlib
import socket
import ssl
from collections.abc import Callable

from bridge.errors import NoThread, without_frames
from bridge.loop import start_thread
from bridge.observe.events import Event, log
from bridge.settings import MqttSettings, TcpSettings
from bridge.tls.context import client_context
from bridge.tls.expiry import Expiry, File
from bridge.tls.failures import Names, TlsFailed, explain

Connected = Callable[[socket.socket | OSError], None]
Shown = Callable[[str, bytes], None]  # the peer that has shown a certificate, and the certificate (DER)


def connect_in_background(settings: MqttSettings, done: Connected, shown: Shown) -> None:
    """Connect in a new thread. The thread calls `done` with the socket, or with the error.

    The thread calls `shown` with the certificate that the broker has shown.
    If no thread can be started, `done` is called at once with an OSError, and the session tries again later.
    """

    try:
        start_thread(lambda: done(_attempt(settings, shown)), "connect")
    except NoThread as error:
        done(OSError(str(error)))


def _attempt(settings: MqttSettings, shown: Shown) -> socket.socket | OSError:
    try:
        sock = connect(settings)
        if isinstance(sock, ssl.SSLSocket) and (certificate := sock.getpeercert(binary_form=True)):
            shown(f"{settings.host}:{settings.port}", certificate)
    except OSError as error:
        return without_frames(error)
    except Exception as error:
        return OSError(str(error))
    return sock


def is_open(host: str, port: int, timeout: float) -> bool:
    """Whether a program accepts a connection there within `timeout` seconds."""
    try:
        socket.create_connection((host, port), timeout=timeout).close()
    except (OSError, ValueError):
        return False
    return True


def connect(settings: MqttSettings) -> socket.socket:
    """Try every address of `settings.host` in turn. Raises the last OSError (TlsFailed is one)."""
    tls = settings.tls
    # A new context for each connection: the next connection uses a certificate that was replaced.
    context = client_context(tls.ca_file, tls.cert_file, tls.key_file) if tls.enabled else None
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM
    ):
        sock: socket.socket | None = None
        try:
            sock = socket.socket(family, kind, protocol)
            _set_options(sock, settings.tcp)
            sock.settimeout(settings.tcp.connect_timeout)
            sock.connect(address)
            if context:
                sock = _shake_hands(sock, context, settings)
            sock.setblocking(False)
        except OSError as error:
            failure = without_frames(error)
            if sock:
                sock.close()
        else:
            return sock
    try:
        raise failure or OSError(f"{settings.host} has no address")
    finally:
        del failure  # this frame, which the exception keeps, would keep the exception


def _shake_hands(sock: socket.socket, context: ssl.SSLContext, settings: MqttSettings) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(sock, server_hostname=settings.tls.server_name or settings.host)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
        raise OSError(
            "closed during the TLS handshake: no node is up behind the balancer, or the port speaks no TLS"
        ) from None
    except OSError as error:
        raise explain(error, tls_names(settings)) from None


def _set_options(sock: socket.socket, tcp: TcpSettings) -> None:
    """Let the kernel detect a vanished host within seconds, whether the bridge is idle or sending.

    The values are explained in docs/explanation/timeouts.md.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, round(tcp.keepalive_idle))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, round(tcp.keepalive_interval))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, tcp.keepalive_count)
    with contextlib.suppress(OSError):  # only Linux has TCP_USER_TIMEOUT
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(tcp.user_timeout * 1000))


def tls_names(settings: MqttSettings) -> Names:
    return Names(
        peer=f"{settings.host}:{settings.port}",
        authorities="mqtt.tls.ca_file",
        certificate="mqtt.tls.cert_file",
        its_name="set mqtt.tls.server_name to a name in the certificate",
    )


def watch_expiry(settings: MqttSettings) -> Expiry:
    """Watch when certificates expire: those in the files of [mqtt.tls], and those given to `Expiry.shown`.

    The caller starts it.
    """
    tls = settings.tls
    files = []
    if tls.ca_file:
        files.append(File("mqtt.tls.ca_file", tls.ca_file, authorities=True))
    if tls.cert_file:
        files.append(File("mqtt.tls.cert_file", tls.cert_file))
    return Expiry(files, {})


def log_tls_failure(error: OSError) -> bool:
    """Log a TLS failure that only a person can cure. False: `error` is no such failure and was not logged."""
    if not isinstance(error, TlsFailed):
        return False
    log(Event.MQTT_TLS_FAILED, reason=error.reason, way_out=error.way_out)
    return True


def why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
