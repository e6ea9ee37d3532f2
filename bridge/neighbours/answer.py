"""Sends one GET and reads its answer, within bounds. Follows no redirect, and uses no proxy.

A redirect would send the key to another host.
"""

import base64
import http.client
import socket
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from bridge.errors import BridgeError

TIMEOUT = 2.0  # seconds for each step: connecting, sending, the first byte
LONGEST = 5.0  # seconds for an answer that comes bit by bit
MOST_BYTES = 2_000_000  # HAProxy's Prometheus endpoint writes about 7 kB a server
_PART = 65_536


class Unavailable(BridgeError):
    """The neighbour gave no useful answer. `reason` is short and repeats word for word; `way_out` helps."""

    def __init__(self, reason: str, way_out: str) -> None:
        self.reason = reason
        self.way_out = way_out
        super().__init__(f"{reason}; {way_out}")


class Hangs(Unavailable):
    """The neighbour accepts the connection, and gives no answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


def ask(url: str, login: tuple[str, str] | None = None, trusted: ssl.SSLContext | None = None) -> Answer:
    """Get `url`, with `login` (user, password) by basic authentication. Blocks; raises Unavailable.

    `trusted`: which certificates to trust; None: those of the system's authorities.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    headers = {"Accept": "*/*", "Connection": "close"}
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    connection: http.client.HTTPConnection
    try:
        if parts.scheme == "https":
            context = trusted or ssl.create_default_context()
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        with closing(connection):
            _connect(connection)
            path = parts.path or "/"
            connection.request("GET", f"{path}?{parts.query}" if parts.query else path, headers=headers)
            return _read(connection)
    except ssl.SSLCertVerificationError as error:
        raise Unavailable(
            f"its certificate is not trusted: {error.verify_message}",
            "add its authority to those of the system: update-ca-certificates",
        ) from None
    except TimeoutError:
        raise Hangs(
            f"no whole answer within {LONGEST:.0f} s",
            "wake or restart it, or correct host and port in the settings",
        ) from None
    except socket.gaierror:
        raise Unavailable("its name does not resolve", "correct the name in the settings, or DNS") from None
    except http.client.HTTPException:
        raise Unavailable(
            "it does not answer as an HTTP server does", "name the port of its HTTP server in the settings"
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise Unavailable(reason, "start it, or correct host and port in the settings") from None


def _connect(connection: http.client.HTTPConnection) -> None:
    """A host that is off sends nothing either, and the kernel of a program that hangs does."""
    try:
        connection.connect()
    except TimeoutError:
        raise Unavailable(
            f"no connection within {TIMEOUT:.0f} s",
            "see whether its host is up, and whether a firewall is between",
        ) from None


def _read(connection: http.client.HTTPConnection) -> Answer:
    until = time.monotonic() + LONGEST
    response = connection.getresponse()
    body = bytearray()
    while part := response.read1(_PART):
        body += part
        if len(body) > MOST_BYTES:
            raise Unavailable(
                f"its answer is longer than {MOST_BYTES} bytes", "name another address in the settings"
            )
        if time.monotonic() > until:
            raise TimeoutError
    return Answer(response.status, bytes(body))
