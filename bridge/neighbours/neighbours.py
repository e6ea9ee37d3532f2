"""Asks HAProxy and EMQX in threads of their own, so that neither the loop nor the other waits for one.

Each thread swaps in its last answer whole. The loop reads it when it makes a snapshot.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event as Signal
from typing import Generic, TypeVar
from urllib.parse import quote, urlsplit

from bridge.errors import BridgeError, NoThread
from bridge.loop import start_thread
from bridge.neighbours import emqx_session, haproxy_stats
from bridge.neighbours.answer import Hangs, Unavailable, ask
from bridge.observe.events import Event, log
from bridge.settings import EmqxSettings, HaproxySettings, Settings
from bridge.settings.passwords import read_emqx_key, read_haproxy_password
from bridge.status.snapshot import BrokerNode, Neighbour, SessionQueue

# Seconds between two questions. HAProxy takes 10 s to find a node DOWN, and its answer of 36 kB costs 1 ms.
HAPROXY_PERIOD = 10.0
EMQX_PERIOD = 5.0
LONGEST_PERIOD = 15.0  # ... to a neighbour that does not answer
GUESS_PERIOD = 60.0  # ... at an address that nobody has set, and where HAProxy never answered
STALE_AFTER = 2 * LONGEST_PERIOD  # seconds; an older answer no longer tells what is so now
LOG_AFTER = 10.0  # seconds without an answer
LOG_AGAIN_AFTER = 3600.0  # seconds, for the same reason

_Answer = TypeVar("_Answer")


class Neighbours:
    """The last answers of HAProxy and EMQX. Any thread may read the properties."""

    def __init__(self, settings: Settings) -> None:
        self._haproxy: _Asked[tuple[BrokerNode, ...]] | None = None
        self._emqx: _Asked[SessionQueue | None] | None = None
        if url := settings.haproxy.address(settings.mqtt.host, settings.mqtt.port):
            self._haproxy = _Asked(
                "HAProxy",
                url,
                lambda: ask_haproxy(url, settings.haproxy),
                HAPROXY_PERIOD,
                settings.haproxy.is_a_guess,
            )
        if settings.emqx.api:
            self._emqx = _Asked(
                "EMQX", settings.emqx.api, Emqx(settings.emqx, settings.mqtt.client_id), EMQX_PERIOD
            )

    def start(self) -> None:
        for asked in (self._haproxy, self._emqx):
            if asked:
                asked.start()

    def close(self) -> None:
        """Ask nobody any more. Does not wait for an answer that is on its way."""
        for asked in (self._haproxy, self._emqx):
            if asked:
                asked.close()

    @property
    def haproxy(self) -> Neighbour | None:
        """None: HAProxy is not asked, or has never answered at the address that the bridge has guessed."""
        return self._haproxy.neighbour(time.monotonic()) if self._haproxy else None

    @property
    def nodes(self) -> tuple[BrokerNode, ...]:
        """The nodes by HAProxy's last answer, with their ages as of now. Empty if that answer is stale."""
        last = self._haproxy.last if self._haproxy else None
        if not last or not last.answer or last.answered_at is None:
            return ()
        since = time.monotonic() - last.answered_at
        if since > STALE_AFTER:
            return ()
        return tuple(replace(node, state_age=node.state_age + since) for node in last.answer)

    @property
    def emqx(self) -> Neighbour | None:
        return self._emqx.neighbour(time.monotonic()) if self._emqx else None

    @property
    def queue(self) -> SessionQueue | None:
        """None: EMQX has not answered lately, or has no session of this client id."""
        last = self._emqx.last if self._emqx else None
        if not last or last.answered_at is None or time.monotonic() - last.answered_at > STALE_AFTER:
            return None
        return last.answer


@dataclass(frozen=True, slots=True)
class _Last(Generic[_Answer]):
    """What a thread swaps in. `answered_at` in monotonic seconds, of the last good answer."""

    answer: _Answer | None = None
    answered_at: float | None = None
    trouble: str = ""
    hangs: bool = False


class _Asked(Generic[_Answer]):
    """One neighbour, and the thread that asks it."""

    def __init__(
        self, name: str, url: str, question: Callable[[], _Answer], period: float, is_a_guess: bool = False
    ) -> None:
        self.last: _Last[_Answer] = _Last()
        self._name = name
        self._url = url
        self._question = question
        self._period = period
        self._is_a_guess = is_a_guess
        self._is_over = Signal()
        self._failures = 0
        self._fails_since = 0.0
        self._logged_at: dict[str, float] = {}

    def start(self) -> None:
        try:
            start_thread(self._work, f"ask-{self._name.lower()}")
        except NoThread as error:
            self.last = _Last(trouble=str(error))
            log(Event.NEIGHBOUR_UNAVAILABLE, neighbour=self._name, url=_shown(self._url), reason=str(error))

    def close(self) -> None:
        self._is_over.set()

    def neighbour(self, now: float) -> Neighbour | None:
        last = self.last
        if self._is_a_guess and last.answered_at is None:
            return None
        age = None if last.answered_at is None else now - last.answered_at
        return Neighbour(url=_shown(self._url), asked_age=age, trouble=last.trouble, hangs=last.hangs)

    def _work(self) -> None:
        while not self._is_over.wait(self.turn()):
            pass

    def turn(self) -> float:
        """Ask once. Returns after how many seconds to ask again."""
        try:
            answer = self._question()
        except Unavailable as error:
            self._failed(error, time.monotonic())
        except BridgeError as error:  # the file with the password or key
            self._failed(Unavailable(str(error), "see reason"), time.monotonic())
        except Exception as defect:  # else nobody would ask any more, and nobody would know
            reason = f"the bridge can't read its answer: {type(defect).__name__}"
            self._failed(Unavailable(reason, "report it: this is a defect of the bridge"), time.monotonic())
        else:
            self.last = _Last(answer, time.monotonic())
            self._failures = 0
            return self._period
        if self._is_a_guess and self.last.answered_at is None:
            return GUESS_PERIOD
        return min(self._period * self._failures, LONGEST_PERIOD)

    def _failed(self, error: Unavailable, now: float) -> None:
        self._failures += 1
        if self._failures == 1:
            self._fails_since = now
        answer = None if isinstance(error, _SessionMissing) else self.last.answer
        self.last = replace(self.last, answer=answer, trouble=error.reason, hangs=isinstance(error, Hangs))
        if self._is_a_guess and self.last.answered_at is None:
            return
        logged = self._logged_at.get(error.reason)
        if now - self._fails_since < LOG_AFTER or (logged is not None and now - logged < LOG_AGAIN_AFTER):
            return
        self._logged_at[error.reason] = now
        log(
            Event.NEIGHBOUR_UNAVAILABLE,
            neighbour=self._name,
            url=_shown(self._url),
            reason=error.reason,
            way_out=error.way_out,
        )


def _shown(url: str) -> str:
    """The URL without its query, which may hold a key of the user's own; ?stats is HAProxy's own."""
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query in ("stats", "stats;csv") else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"


def ask_haproxy(url: str, settings: HaproxySettings) -> tuple[BrokerNode, ...]:
    password = read_haproxy_password(settings)
    login = (settings.username, password) if settings.username and password is not None else None
    answer = ask(url, login)
    if answer.status in (401, 403):
        raise Unavailable(
            f"HAProxy refuses: HTTP status {answer.status}",
            "correct haproxy.username or the file of haproxy.password_file"
            if login
            else "name the Prometheus endpoint in haproxy.stats, or set haproxy.username and password_file",
        )
    nodes = haproxy_stats.nodes(answer.body.decode("utf-8", "replace"), settings.backend)
    if answer.status != 200 or nodes is None:
        raise Unavailable(
            f"no statistics of HAProxy there: HTTP status {answer.status}",
            "name in haproxy.stats the Prometheus endpoint, or the console with ;csv at the end, such as"
            " http://HOST:8081/haproxy?stats;csv",
        )
    if not nodes:
        raise Unavailable(
            f"HAProxy has no section {settings.backend} with servers",
            "name in haproxy.backend the section whose servers are the EMQ nodes",
        )
    return nodes


class _SessionMissing(Unavailable):
    """EMQX answered well, and has no session."""


class Emqx:
    """The question for EMQX, with what earlier answers said. EMQX's version shows in its answer."""

    def __init__(self, settings: EmqxSettings, client_id: str) -> None:
        base = (settings.api or "").rstrip("/")
        for path in ("/api/v5", "/api/v4"):
            base = base.removesuffix(path)
        self._settings = settings
        self._client_id = client_id
        self._urls = [f"{base}/api/{version}/clients/{quote(client_id, safe='')}" for version in ("v5", "v4")]
        self._history = emqx_session.History()

    def __call__(self) -> SessionQueue:
        login = read_emqx_key(self._settings)
        refused: Unavailable | None = None
        for url in tuple(self._urls):
            answer = ask(url, login)
            if answer.status in (401, 403):
                refused = refused or Unavailable(
                    f"EMQX refuses the API key {login[0]}: HTTP status {answer.status}",
                    "make a key as docs/how-to/prepare-emq.md says, and write it into the file of"
                    " emqx.key_file",
                )
                continue
            try:
                queue = emqx_session.read(answer.status, answer.body)
            except emqx_session.NotEmqx:
                continue
            except emqx_session.NoSession:
                self._prefer(url)
                raise _SessionMissing(
                    f"EMQX has no session of the client id {self._client_id}",
                    "the bridge makes one when it connects; if it is connected, emqx.api names another"
                    " cluster than mqtt.host",
                ) from None
            self._prefer(url)
            return self._history.add(queue, time.monotonic())
        raise refused or Unavailable(
            f"no API of EMQX there: HTTP status {answer.status}",
            "name in emqx.api port 18083 of a node with EMQX 5, or port 8081 of one with EMQX 4.x",
        )

    def _prefer(self, url: str) -> None:
        """Ask first where EMQX answered: the other version's path may cost a line of EMQX's log each time."""
        self._urls.remove(url)
        self._urls.insert(0, url)
