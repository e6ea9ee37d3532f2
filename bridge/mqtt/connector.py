"""A connected socket to the broker: name, TCP, TLS. All of it blocks, so it runs in a thread of its own."""

import contextlib
import socket
import ssl
from collections.abc import Callable
from threading import Thread

from bridge.settings import MqttSettings, TcpSettings, TlsSettings

Connected = Callable[[socket.socket | OSError], None]


def connect_in_background(settings: MqttSettings, done: Connected) -> None:
    """Connect, and call `done` from another thread with a socket, or with why there is none."""

    def work() -> None:
        try:
            sock: socket.socket | OSError = connect(settings)
        except OSError as error:
            sock = error
        except Exception as error:
            sock = OSError(str(error))
        done(sock)

    Thread(target=work, name="connect", daemon=True).start()


def connect(settings: MqttSettings) -> socket.socket:
    """Try every address of `settings.host` in turn. Raises the last OSError (ssl.SSLError is one)."""
    # Built for each connection, so that a certificate that was replaced is used by the next one.
    context = _tls_context(settings.tls) if settings.tls.enabled else None
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
                name = settings.tls.server_name or settings.host
                sock = context.wrap_socket(sock, server_hostname=name)
            sock.setblocking(False)
        except OSError as error:
            failure = error
            if sock:
                sock.close()
        else:
            return sock
    raise failure or OSError(f"{settings.host} has no address")


def _set_options(sock: socket.socket, tcp: TcpSettings) -> None:
    """A host that vanished is found in seconds, idle or sending (docs/explanation/timeouts.md)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, round(tcp.keepalive_idle))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, round(tcp.keepalive_interval))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, tcp.keepalive_count)
    with contextlib.suppress(OSError):  # only Linux knows it
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(tcp.user_timeout * 1000))


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context
