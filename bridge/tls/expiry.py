"""Logs in time that a certificate expires: the bridge's own, its authority's, or one that a peer shows.

Where TLS is used, a thread looks at the certificates every 6 hours, and every minute while one expires soon.
Each warning is logged once a day.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock

from bridge.errors import NoThread
from bridge.loop import start_thread
from bridge.observe.events import Event, log
from bridge.tls.certificate import in_pem, not_after

SOON = timedelta(days=14)
_SAY_AGAIN_AFTER = timedelta(hours=23)
_LOOK_EVERY = 6 * 3600.0  # seconds
_LOOK_SOONER = 60.0  # seconds, while one expires soon: whoever renews it wants to see that


@dataclass(frozen=True)
class File:
    """A file with certificates in PEM, and the setting that names it."""

    setting: str
    path: Path
    authorities: bool = False
    """The file holds authorities, and the last one that expires counts; in a chain the first one counts."""

    def expires(self) -> datetime:
        dates = [not_after(der) for der in in_pem(self.path.read_text(encoding="ascii"))]
        return (max if self.authorities else min)(dates)


class Expiry:
    """Watches when certificates expire.

    `peers`: by peer a function that returns the certificate which the peer shows now, as DER, or None.
    """

    def __init__(self, files: Sequence[File], peers: Mapping[str, Callable[[], bytes | None]]) -> None:
        self._files = files
        self._peers = peers
        self._shown: dict[str, bytes] = {}
        self._logged_at: dict[str, datetime] = {}
        self._expires: dict[str, float] = {}  # seconds since 1970
        self._lock = Lock()
        self._started = False

    def start(self) -> None:
        """Call it again now and then: where no thread can be started, a later call starts it."""
        if not self._started:
            with suppress(NoThread):
                start_thread(self._work, "expiry")
                self._started = True

    def shown(self, peer: str, der: bytes) -> None:
        """A peer has just shown this certificate. Any thread may call this."""
        with self._lock:
            self._shown[peer] = der
        self._say_if_soon(f"shown by {peer}", lambda: not_after(der))

    def known(self) -> dict[str, float]:
        """When each certificate expires, in seconds since 1970, as it was seen last."""
        with self._lock:
            return dict(self._expires)

    def look(self) -> None:
        for file in self._files:
            self._say_if_soon(f"{file.setting} = {file.path}", file.expires)
        for peer, ask in self._peers.items():
            if der := ask():
                self.shown(peer, der)
        with self._lock:
            known = [item for item in self._shown.items() if item[0] not in self._peers]
        for peer, der in known:
            self.shown(peer, der)

    def dates(self, *, ask_peers: bool) -> Iterator[tuple[str, datetime | str]]:
        """Yield each certificate with its expiry, or with why that can't be read. Blocks for peers."""
        for file in self._files:
            name = f"{file.setting} = {file.path}"
            try:
                yield name, file.expires()
            except OSError as error:
                yield name, error.strerror or str(error)
            except ValueError:
                yield name, "there is no certificate in it"
        for peer, ask in self._peers.items() if ask_peers else ():
            if der := ask():
                yield f"shown by {peer}", not_after(der)

    def _say_if_soon(self, certificate: str, expires: Callable[[], datetime]) -> None:
        with suppress(OSError, ValueError):  # an unreadable file is logged where it is used
            at = expires()
            now = datetime.now(UTC)
            with self._lock:
                self._expires[certificate] = at.timestamp()
                logged = self._logged_at.get(certificate)
                if at - now > SOON or (logged and now - logged < _SAY_AGAIN_AFTER):
                    return
                self._logged_at[certificate] = now
            log(
                Event.TLS_EXPIRES_SOON,
                certificate=certificate,
                expires=at.isoformat(),
                days_left=(at - now).days,
            )

    def _work(self) -> None:
        while True:
            self.look()
            time.sleep(self._pause())

    def _pause(self) -> float:
        """Seconds until the next look."""
        soon = (datetime.now(UTC) + SOON).timestamp()
        return _LOOK_SOONER if any(at < soon for at in self.known().values()) else _LOOK_EVERY
