"""A connected socket to the broker: name, TCP, TLS. All of it blocks, so it runs in a thread of its own."""

import contextlib
import socket
import ssl
from collections.abc import Callable

from bridge.errors import NoThread
from bridge.loop import start_thread
from bridge.observe.events import Event, log
from bridge.settings import MqttSettings, TcpSettings
from bridge.tls.context import client_context
from bridge.tls.expiry import Expiry, File
from bridge.tls.failures import Names, TlsFailed, explain

Connected = Callable[[socket.socket | OSError], None]
Shown = Callable[[str, bytes], None]  # who has shown a certificate, and which (DER)


def connect_in_background(settings: MqttSettings, done: Connected, shown: Shown) -> None:
    """Connect, and call `done` from another thread with a socket, or with why there is none.

    Without a thread to do so `done` is called at once: the attempt has failed, and the session tries again.
    """

    def work() -> None:
        try:
            sock: socket.socket | OSError = connect(settings)
            if isinstance(sock, ssl.SSLSocket) and (certificate := sock.getpeercert(binary_form=True)):
                shown(f"{settings.host}:{settings.port}", certificate)
        except OSError as error:
            sock = error
        except Exception as error:
            sock = OSError(str(error))
        done(sock)

    try:
        start_thread(work, "connect")
    except NoThread as error:
        done(OSError(str(error)))


def connect(settings: MqttSettings) -> socket.socket:
    """Try every address of `settings.host` in turn. Raises the last OSError (TlsFailed is one)."""
    tls = settings.tls
    # Built for each connection, so that a certificate that was replaced is used by the next one.
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
            failure = error
            if sock:
                sock.close()
        else:
            return sock
    raise failure or OSError(f"{settings.host} has no address")


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
    """A host that vanished is found in seconds, idle or sending (docs/explanation/timeouts.md)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, round(tcp.keepalive_idle))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, round(tcp.keepalive_interval))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, tcp.keepalive_count)
    with contextlib.suppress(OSError):  # only Linux knows it
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(tcp.user_timeout * 1000))


def tls_names(settings: MqttSettings) -> Names:
    return Names(
        peer=f"{settings.host}:{settings.port}",
        authorities="mqtt.tls.ca_file",
        certificate="mqtt.tls.cert_file",
        its_name="set mqtt.tls.server_name to a name that it bears",
    )


def watch_expiry(settings: MqttSettings) -> Expiry:
    """Of the files in [mqtt.tls], and of what the broker is said to have shown. It is not started yet."""
    tls = settings.tls
    files = []
    if tls.ca_file:
        files.append(File("mqtt.tls.ca_file", tls.ca_file, authorities=True))
    if tls.cert_file:
        files.append(File("mqtt.tls.cert_file", tls.cert_file))
    return Expiry(files, {})


def log_tls_failure(error: OSError) -> bool:
    """Log what only a person can cure. False: it is nothing like that, and was not logged."""
    if not isinstance(error, TlsFailed):
        return False
    log(Event.MQTT_TLS_FAILED, reason=error.reason, way_out=error.way_out)
    return True


def why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
