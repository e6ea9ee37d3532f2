"""`bridge top`: shows the running service's state in the terminal, from its /status.json."""

import json
import shutil
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TextIO
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError
from rich.console import Group
from rich.live import Live
from rich.text import Text

from bridge.commands.terminal import console
from bridge.errors import BridgeError
from bridge.neighbours.answer import Unavailable, ask
from bridge.observe.printable import printable, printable_json
from bridge.settings import Settings
from bridge.status.diagnosis import Diagnosis, diagnose
from bridge.status.snapshot import KafkaBroker, Snapshot
from bridge.status.spoken import count, duration, rate
from bridge.units import size

_EVERY = 1.0  # seconds between two questions
_OLD = 10.0  # seconds after which the service's own diagnosis no longer holds
_LEVELS = {"good": ("ALL WELL", "green"), "warning": ("WARNING", "yellow"), "broken": ("BROKEN", "red")}
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - where to ask what listens everywhere
_LABEL = 9  # characters of the left column


class NoAnswer(BridgeError):
    """The service did not answer, or answered what is no status. The text has the way out."""


@dataclass(frozen=True, slots=True)
class Status:
    """What /status.json holds. Fields that this version does not know are ignored."""

    snapshot: Snapshot
    diagnosis: Diagnosis


_STATUS = TypeAdapter(Status)


@dataclass(frozen=True, slots=True)
class Service:
    """Where to ask. `is_own`: a service on this machine, whose monotonic clock is ours."""

    url: str
    login: tuple[str, str] | None = None
    trusted: ssl.SSLContext | None = None
    is_own: bool = True

    def ask(self) -> bytes:
        """The document. Raises NoAnswer."""
        try:
            answer = ask(self.url, self.login, self.trusted)
        except Unavailable as error:
            raise NoAnswer(
                f"the bridge does not answer at {self.url}: {error.reason}. Is the service running? Look with"
                " `systemctl status mqtt-kafka-bridge`, start it with `sudo systemctl start"
                " mqtt-kafka-bridge`. If it runs, http.listen tells its address: give it with --url"
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


def service(settings: Settings, url: str | None) -> Service:
    """The service to ask: at `url`, or at [http] listen. Raises NoAnswer."""
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NoAnswer(f"--url {url}: must be an address such as http://192.168.1.7:9464")
        return Service(f"{parts.scheme}://{parts.netloc}/status.json", _login(settings), is_own=False)
    http: Any = getattr(settings, "http", None)
    listen = http.listen if http else "127.0.0.1:9464"
    if not listen:
        raise NoAnswer('the page is turned off: http.listen is ""; set an address, and restart the service')
    host, _, port = listen.rpartition(":")
    host = _LOOPBACK.get(host, host)
    if http and http.cert_file:
        return Service(f"https://{host}:{port}/status.json", _login(settings), _own_certificate(http))
    return Service(f"http://{host}:{port}/status.json", _login(settings))


def _login(settings: Settings) -> tuple[str, str] | None:
    http: Any = getattr(settings, "http", None)
    if not http or not http.username or not http.password_file:
        return None
    try:
        return http.username, http.password_file.read_text().rstrip("\r\n")
    except OSError as error:
        raise NoAnswer(
            f"cannot read {http.password_file}: {error.strerror} (run as root or as the service's user)"
        ) from None


def _own_certificate(http: Any) -> ssl.SSLContext:
    """Trusts the page's certificate itself: it is in the settings, and its name need not be 127.0.0.1."""
    trusted = ssl.create_default_context()
    trusted.check_hostname = False
    trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        trusted.load_verify_locations(http.cert_file)
    except OSError as error:
        raise NoAnswer(f"cannot use {http.cert_file}: {error.strerror or error}") from None
    return trusted


def top(where: Service, as_json: bool, once: bool) -> int:
    """Show the state, on a terminal again each second. Returns the exit status: 1 if something is broken."""
    if as_json:
        return _print_json(where, sys.stdout)
    if once or not sys.stdout.isatty():
        status = read(where.ask(), where.is_own)
        width = shutil.get_terminal_size().columns
        console(sys.stdout).print(Group(*lines(status, width)), soft_wrap=True)
        return _exit_status(status)
    with suppress(KeyboardInterrupt):
        _watch(where)
    return 0


def _print_json(where: Service, stream: TextIO) -> int:
    body = where.ask()
    status = read(body, where.is_own)
    document = json.loads(body)  # with the fields that this version does not know
    document["diagnosis"] = asdict(status.diagnosis)
    stream.write(printable_json(json.dumps(document, ensure_ascii=False)) + "\n")
    stream.flush()
    return _exit_status(status)


def _exit_status(status: Status) -> int:
    return 1 if status.diagnosis.level == "broken" else 0


def _watch(where: Service) -> None:
    out = console(sys.stdout)
    last: Status | None = None
    with Live(console=out, screen=True, auto_refresh=False, vertical_overflow="crop") as screen:
        while True:
            try:
                last = read(where.ask(), where.is_own)
                shown = lines(last, out.width)
            except NoAnswer as error:
                shown = [*_wrapped(f"NO ANSWER. {str(error)[0].upper()}{str(error)[1:]}.", out.width, "red")]
                if last:
                    shown += [Text(), Text("The last answer was:", style="dim"), *lines(last, out.width)]
            screen.update(Group(*shown[: out.height - 1]), refresh=True)
            time.sleep(_EVERY)


def read(body: bytes, is_own: bool = False) -> Status:
    """The status in a document. Raises NoAnswer."""
    try:
        status = _STATUS.validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise NoAnswer(
            f"what answers is not the status of this version of the bridge ({place}: {first['msg']}):"
            " run the `bridge` of the service's version"
        ) from None
    age = time.monotonic() - status.snapshot.made if is_own else 0.0
    return Status(status.snapshot, diagnose(status.snapshot, age)) if age > _OLD else status


def lines(status: Status, width: int) -> list[Text]:
    """The state in lines of at most `width` characters, the most important first."""
    s, diagnosis = status.snapshot, status.diagnosis
    word, colour = _LEVELS[diagnosis.level]
    made: list[Text] = [
        Text(
            _cut(f"mqtt-kafka-bridge {s.version}, up {duration(s.uptime)}, {s.made_at}", width), style="dim"
        ),
        *_wrapped(f"{word}. {diagnosis.sentence}", width, colour),
        Text(),
    ]
    for label, text in _rows(s):
        made.append(Text(f"{label:{_LABEL}}{_cut(printable(text), width - _LABEL)}"))
    for finding in diagnosis.findings[1:]:
        made.append(Text())
        made += _wrapped(f"{_LEVELS[finding.level][0]}. {finding.what} {finding.remedy}", width, "yellow")
    if s.happened:
        made.append(Text())
    for each in s.happened:
        made.append(Text(_cut(f"{duration(each.age):>9} ago  {printable(each.text or each.event)}", width)))
    return made


def _broker(broker: KafkaBroker) -> str:
    return f"{broker.address or f'broker {broker.number}'}{' (hangs)' if broker.hangs else ''}"


def _rows(s: Snapshot) -> list[tuple[str, str]]:
    flow, spool, mqtt = s.flow, s.spool, s.mqtt
    nodes = ", ".join(f"{node.name} {node.status} {duration(node.state_age)}" for node in s.nodes)
    known = s.kafka.brokers
    down = ", ".join(_broker(each) for each in known if not each.is_up)
    brokers = f"{sum(each.is_up for each in known)} of {len(known)} up{f', DOWN: {down}' if down else ''}"
    dropped, letters = sum(flow.dropped.values()), sum(flow.dead_lettered.values())
    rows = [
        ("HAProxy", f"{mqtt.host}:{mqtt.port}"),
        ("EMQ", nodes or "nodes not known: HAProxy's statistics are not asked"),
        (
            "session",
            f"{mqtt.state.replace('_', ' ')} for {duration(mqtt.state_age)}, client id {mqtt.client_id}",
        ),
        (
            "Kafka",
            f"{s.kafka.state} for {duration(s.kafka.state_age)}:"
            f" {brokers if known else s.kafka.bootstrap_servers}",
        ),
        ("rates", f"received {rate(flow.received_rate)}, delivered {rate(flow.delivered_rate)}"),
        ("oldest", f"waits for {duration(flow.oldest_undelivered_age)}, {flow.in_flight:,} in flight"),
        ("received", f"{flow.received:,} and {flow.restored:,} from disk = {flow.delivered:,} delivered"),
        (
            "",
            f"+ {flow.in_flight:,} in flight + {flow.spooled:,} on disk + {letters:,} dead letters"
            f" + {sum(flow.skipped.values()):,} skipped",
        ),
        ("", f"+ {dropped:,} dropped + {flow.unreadable:,} unreadable; unaccounted: {flow.unaccounted:,}"),
        (
            "disk",
            f"{spool.state}: {count(spool.messages, 'message')}, {size(spool.bytes_used)} of"
            f" {size(spool.bytes_limit)}, {size(spool.disk_free)} free"
            + (f", full in {duration(spool.full_in)}" if spool.full_in is not None else ""),
        ),
    ]
    if s.queue:
        lasts = f", full in {duration(s.queue.full_in)}" if s.queue.full_in is not None else ""
        rows.append(
            (
                "queue",
                f"EMQ holds {s.queue.length:,} of {s.queue.limit:,}, dropped {s.queue.dropped:,}{lasts}",
            )
        )
    rows += [
        ("held", f"{each.topic}: {each.state}, {count(each.messages, 'message')}, {each.reason}")
        for each in s.held[:5]
    ]
    return rows


def _wrapped(text: str, width: int, colour: str) -> list[Text]:
    words, made, line = printable(text).split(), [], ""
    for word in words:
        if line and len(line) + 1 + len(word) > width:
            made.append(Text(line, style=colour))
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*made, Text(line, style=colour)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"
