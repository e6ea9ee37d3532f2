"""Asks the running service for its /status.json: for `bridge top` and `bridge check`."""

import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from bridge import program
from bridge.errors import BridgeError
from bridge.neighbours.answer import Unavailable, ask
from bridge.settings import Settings
from bridge.settings.passwords import read_http_password
from bridge.status.diagnosis import diagnose
from bridge.status.document import Status
from bridge.status.machine_faults import STUCK_AFTER

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - where to ask what listens everywhere
_STATUS = TypeAdapter(Status)


class NoAnswer(BridgeError):
    """The service did not answer, or answered what is no status. The text has the way out."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where to ask. `is_own`: a service on this machine, whose monotonic clock is ours.

    `client_id`: of the settings here. Where two bridges of one machine have one http.listen, the first one
    to start answers there. Empty: any bridge may answer.
    """

    url: str
    login: tuple[str, str] | None = None
    trusted: ssl.SSLContext | None = None
    is_own: bool = True
    client_id: str = ""

    def ask(self) -> bytes:
        """The document. Raises NoAnswer."""
        try:
            answer = ask(self.url, self.login, self.trusted)
        except Unavailable as error:
            way_out = (
                "it has another http.listen than these settings: name its own settings with --config"
                if self.is_own
                else "http.listen there must be an address that this machine reaches, which the default,"
                " 127.0.0.1, is not"
            )
            raise NoAnswer(
                f"the bridge does not answer at {self.url}: {error.reason}. Is the service running?"
                f" {self._way_to_start()}. If it runs, {way_out}"
            ) from None
        if answer.status == 503:
            raise NoAnswer(f"the bridge at {self.url} is starting: try again in a second")
        if answer.status == 401:
            raise NoAnswer(
                f"the bridge at {self.url} asks for user and password: set http.username and"
                " http.password_file, as the service has them"
            )
        if answer.status != 200:
            raise NoAnswer(f"{self.url} answers HTTP status {answer.status}: is it the bridge's page?")
        return answer.body

    def _way_to_start(self) -> str:
        look = "`systemctl status mqtt-kafka-bridge`, start it with `sudo systemctl start mqtt-kafka-bridge`"
        if not self.is_own:
            return f"Look on its machine with {look}"
        ours = program.here()
        return f"Look with {ours.typed(look)}" if ours.unit else f"Start it: `{ours.service}`"


def running(settings: Settings, url: str | None = None) -> Running:
    """The service to ask: at `url`, or at [http] listen. Raises NoAnswer."""
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NoAnswer(f"--url {url}: must be an address such as http://192.168.1.7:9464")
        if "@" in parts.netloc:
            raise NoAnswer(
                "--url: must hold no user and no password; set http.username and http.password_file"
            )
        return Running(f"{parts.scheme}://{parts.netloc}/status.json", _login(settings), is_own=False)
    http = settings.http
    if not http.listen:
        raise NoAnswer('the page is turned off: http.listen is ""; set an address, and restart the service')
    host, _, port = http.listen.rpartition(":")
    host = _LOOPBACK.get(host, host)
    scheme, trusted = "http", None
    if http.cert_file:
        scheme, trusted = "https", _own_certificate(http.cert_file)
    url = f"{scheme}://{host}:{port}/status.json"
    return Running(url, _login(settings), trusted, client_id=settings.mqtt.client_id)


def _login(settings: Settings) -> tuple[str, str] | None:
    try:
        password = read_http_password(settings.http)
    except BridgeError as error:
        raise NoAnswer(str(error)) from None
    return (settings.http.username, password) if settings.http.username and password else None


def _own_certificate(cert_file: Path) -> ssl.SSLContext:
    """Trusts the page's certificate itself: it is in the settings, and its name need not be 127.0.0.1."""
    trusted = ssl.create_default_context()
    trusted.check_hostname = False
    trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        trusted.load_verify_locations(cert_file)
    except OSError as error:
        raise NoAnswer(f"cannot use {cert_file}: {error.strerror or error}") from None
    return trusted


def read(body: bytes, where: Running | None = None) -> Status:
    """The status in a document, which came from `where`. Raises NoAnswer, also if another bridge made it."""
    try:
        status = _STATUS.validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise NoAnswer(
            f"what answers is not the status of this version of the bridge ({place}: {first['msg']}):"
            " run the `bridge` of the service's version"
        ) from None
    found = status.snapshot.mqtt.client_id
    if where and where.client_id and found != where.client_id:
        address = where.url.removesuffix("/status.json")
        raise NoAnswer(
            f'the bridge that answers at {address} is another one: its client id is "{found}", and'
            f' mqtt.client_id here is "{where.client_id}". Name the settings of that bridge with --config, or'
            " give this one its own http.listen. If mqtt.client_id has changed since the service started,"
            f" restart the service. `top --url {address}` shows that bridge"
        )
    age = time.monotonic() - status.snapshot.made if where and where.is_own else 0.0
    return Status(status.snapshot, diagnose(status.snapshot, age)) if age > STUCK_AFTER else status
