"""What each request gets. No sockets here: a request comes as plain values, an answer goes as bytes."""

import base64
import binascii
import hashlib
import hmac
import importlib.resources
import ipaddress
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bridge.errors import BridgeError
from bridge.settings import HttpSettings
from bridge.settings.passwords import read_http_password
from bridge.status.diagnosis import diagnose
from bridge.status.document import document
from bridge.status.machine_faults import STUCK_AFTER
from bridge.status.snapshot import Snapshot

_HOST = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::\d*)?")
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/runbook": ("runbook.html", "text/html; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

# For all answers. The page needs nothing from elsewhere, and nothing of it belongs into a foreign page.
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Request:
    """`headers`: names in small letters. `host` is empty if an HTTP/1.0 client sent none."""

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    content_type: str = _TEXT
    headers: Mapping[str, str] = field(default_factory=dict)
    ends: bool = False  # the connection closes behind the answer


def says(status: int, text: str, **headers: str) -> Answer:
    """An answer in words, with headers such as `allow="GET, HEAD"`."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Answer(status, f"{text}\n".encode(), headers=named)


class Site:
    """Answers requests. `latest` returns the loop's last snapshot, or None before the first one."""

    def __init__(self, settings: HttpSettings, latest: Callable[[], Snapshot | None]) -> None:
        self._settings = settings
        self._latest = latest
        self._started = time.monotonic()
        self._names = _own_names() | {name.lower().rstrip(".") for name in settings.hosts}
        self._made: dict[str, tuple[Snapshot, int, bytes]] = {}  # by path: the body for the last snapshot
        files = importlib.resources.files("bridge.http") / "page"
        self._files = {path: _file((files / name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()}

    def answer(self, request: Request) -> Answer:
        """The answer to a request whose form is right. With a few routes it costs less than a millisecond."""
        if request.method not in ("GET", "HEAD"):
            return says(405, f"{request.method} is not allowed here: GET and HEAD alone", allow="GET, HEAD")
        if why := self._why_wrong_host(request.headers.get("host", "")):
            return says(403, why)
        if refusal := self._refusal(request.headers.get("authorization", "")):
            return refusal
        path = request.target.partition("?")[0]
        if file := self._files.get(path):
            known = request.headers.get("if-none-match", "")
            return (
                Answer(304, b"", file.content_type, file.headers) if known == file.headers["ETag"] else file
            )
        match path:
            case "/status.json":
                return self._of_snapshot(path, _JSON, _document)
            case "/metrics":
                return self._metrics()
            case "/livez":
                why = self._why_not_live()
                return says(503, why) if why else says(200, "live")
            case "/readyz":
                why = self._why_not_ready()
                return says(503, why) if why else says(200, "ready")
        return says(404, "there are /, /runbook, /status.json, /metrics, /livez and /readyz")

    # -- who may ask -----------------------------------------------------------------------------------

    def _why_wrong_host(self, host: str) -> str:
        """Why the Host header is refused, or an empty text.

        A page of a stranger can let its own name point to this machine (DNS rebinding). The browser then
        takes the bridge for a part of that page, and lets the page read. No name can do that to an address.
        """
        name = _without_port(host).lower().rstrip(".")
        if not name or name in self._names or name.endswith(".localhost") or _is_address(name):
            return ""
        return f"the name {name!r} is not this bridge's: use an address, or add the name to http.hosts"

    def _refusal(self, authorization: str) -> Answer | None:
        if not self._settings.username:
            return None
        try:
            password = read_http_password(self._settings)
        except BridgeError:  # which names the file, and a stranger has asked
            return says(503, "the bridge can't read its password; `bridge check` on its machine says why")
        wanted = f"{self._settings.username}:{password}".encode()
        if hmac.compare_digest(_credentials(authorization), wanted):
            return None
        challenge = 'Basic realm="mqtt-kafka-bridge", charset="UTF-8"'
        return says(401, "user and password, please", www_authenticate=challenge)

    # -- what is shown ---------------------------------------------------------------------------------

    def _of_snapshot(self, path: str, kind: str, render: Callable[[Snapshot, int], bytes]) -> Answer:
        snapshot = self._latest()
        if snapshot is None:
            return says(503, "the bridge starts; try again in a second", retry_after="1")
        # While the loop hangs the snapshot stays the same, and its age is what matters.
        age = max(0, int(time.monotonic() - snapshot.made))
        made = self._made.get(path)
        if made is None or made[0] is not snapshot or made[1] != age:
            made = self._made[path] = snapshot, age, render(snapshot, age)
        return Answer(200, made[2], kind, {"Age": str(age), "Cache-Control": "no-store"})

    def _metrics(self) -> Answer:
        # prometheus_client takes 0.6 MB: imported only where somebody asks.
        from bridge.status import metrics

        return self._of_snapshot(
            "/metrics", metrics.CONTENT_TYPE, lambda snapshot, _: metrics.render(snapshot)
        )

    def _why_not_live(self) -> str:
        snapshot = self._latest()
        silent = time.monotonic() - (snapshot.made if snapshot else self._started)
        return f"the bridge's loop has not turned for {silent:.0f} s" if silent > STUCK_AFTER else ""

    def _why_not_ready(self) -> str:
        snapshot = self._latest()
        if snapshot is None:
            return "the bridge starts"
        sides = (
            ("MQTT", f"{snapshot.mqtt.host}:{snapshot.mqtt.port}", snapshot.mqtt),
            ("Kafka", snapshot.kafka.bootstrap_servers, snapshot.kafka),
        )
        why = [self._why_not_live()]
        for name, where, side in sides:
            if side.state != "live":
                state = side.state.replace("_", " ")
                reason = f" ({side.reason})" if side.reason else ""
                why.append(f"{name} is not live: {state} for {side.state_age:.0f} s, {where}{reason}")
        return "\n".join(text for text in why if text)


def _document(snapshot: Snapshot, age: int) -> bytes:
    return document(snapshot, diagnose(snapshot, age))


def _file(body: bytes, kind: str) -> Answer:
    tag = hashlib.sha256(body).hexdigest()[:16]
    return Answer(200, body, kind, {"ETag": f'"{tag}"', "Cache-Control": "no-cache"})


def _own_names() -> set[str]:
    name = socket.gethostname().lower().rstrip(".")
    short = name.partition(".")[0]
    return {"localhost", name, short, f"{short}.local"}


def _without_port(host: str) -> str:
    """The host alone, without brackets of IPv6. What is no host and port stays whole."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]) if found else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _credentials(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""
