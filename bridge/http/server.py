"""The thread that listens: accepts clients, bounds them, and tries again where the address can't be had."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from bridge.errors import BridgeError, NoThread
from bridge.http.budget import Budget
from bridge.http.connection import HEAD_TIMEOUT, Connection
from bridge.http.site import Site
from bridge.loop import start_thread
from bridge.observe.events import Event, log
from bridge.settings import HttpSettings
from bridge.settings.http import address
from bridge.settings.passwords import read_http_password
from bridge.status.snapshot import Snapshot
from bridge.tls.context import server_context
from bridge.tls.failures import TlsFailed

SHARE = 0.01  # of a core, for all clients; an open page needs 0.0003 of a PC's. With 0.005 a busy PC was late
SAVED = 0.1  # seconds of processor time; a page that opens needs 0.004 of a PC's
CONNECTIONS = 32  # at once; a browser opens up to 6
RETRY = 60.0  # seconds until the address is tried again
_LOG_AGAIN_AFTER = 3600.0  # seconds, for the same reason
_LOOK_FOR_ROOM = 0.05  # seconds between two looks, while no client can go
_BACKLOG = 32  # connections that the kernel holds while the bridge accepts none
_STOPS_WITHIN = 2.0  # seconds

_WAYS_OUT = {
    errno.EADDRINUSE: "another program or another bridge listens there; end it (ss -ltnp shows it), or set"
    " another port in http.listen",
    errno.EACCES: "ports below 1024 need a capability that the service does not have; set a higher port in"
    " http.listen",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; correct http.listen",
}


class Server:
    """Shows the snapshots that `latest` returns, at http.listen. Raises nothing into the service."""

    def __init__(
        self,
        settings: HttpSettings,
        latest: Callable[[], Snapshot | None],
        *,
        share: float = SHARE,
        saved: float = SAVED,
        retry: float = RETRY,
    ) -> None:
        self._settings = settings
        self._site = Site(settings, latest)
        self._share, self._saved, self._retry = share, saved, retry
        self._said: tuple[str, float] = "", 0.0  # the last reason of http.unavailable, and when
        self._clients: dict[asyncio.Task[None], Connection | None] = {}
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to listen, in a thread. Does nothing if http.listen is empty."""
        if not self._settings.listen:
            return
        try:
            self._thread = start_thread(self._run, "http")
        except NoThread as error:
            log(Event.HTTP_UNAVAILABLE, reason="no thread", way_out=str(error))

    def close(self) -> None:
        """Close all connections, and wait for the thread's end, but not for long."""
        self._closed = True
        if self._thread is None:
            return
        with contextlib.suppress(RuntimeError):  # the thread has closed its event loop already
            if self._loop and self._work:
                self._loop.call_soon_threadsafe(self._work.cancel)
        self._thread.join(_STOPS_WITHIN)

    def _run(self) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):  # close()
                asyncio.run(self._stay())
        except Exception as defect:
            self._say("a defect of the bridge", repr(defect))

    async def _stay(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._on_defect)
        self._work = asyncio.current_task()
        while not self._closed:
            try:
                with self._listener() as listener:
                    secret = _TlsFiles(self._settings) if self._settings.cert_file else None
                    if self._settings.username:
                        read_http_password(self._settings)  # a person who has just set it wants to know
                    host, port = listener.getsockname()[:2]
                    shown = f"[{host}]" if ":" in host else host
                    log(Event.HTTP_LISTENING, url=f"http{'s' if secret else ''}://{shown}:{port}/")
                    self._said = "", 0.0
                    await self._accept(listener, secret)
            except TlsFailed as error:
                self._say(error.reason, error.way_out)
            except OSError as error:
                way_out = _WAYS_OUT.get(error.errno or 0, "correct http.listen")
                self._say((error.strerror or str(error)).lower(), way_out)
            except BridgeError as error:
                self._say(str(error), "correct http.password_file")
            except Exception as defect:
                self._say(repr(defect), "report it: this is a defect of the bridge")
            await asyncio.sleep(self._retry)

    def _listener(self) -> socket.socket:
        host, port = address(self._settings.listen)
        try:
            family, _, _, _, where = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except UnicodeError:
            raise OSError(errno.EADDRNOTAVAIL, "no such name") from None
        both = family == socket.AF_INET6 and where[0] == "::"
        listener = socket.create_server(where[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=both)
        listener.setblocking(False)
        return listener

    async def _accept(self, listener: socket.socket, secret: "_TlsFiles | None") -> None:
        """Accept clients for ever, within the budget. If all places are taken, one client must go.

        While none can go, because all have just come or shake hands by TLS, the next one waits.
        """
        loop = asyncio.get_running_loop()
        budget = Budget(self._share, self._saved)
        try:
            while True:
                await budget.turn()
                try:
                    client, _ = await loop.sock_accept(listener)
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        await asyncio.sleep(1.0)
                    continue
                try:
                    while len(self._clients) >= CONNECTIONS and not self._make_room():
                        await asyncio.sleep(_LOOK_FOR_ROOM)
                except asyncio.CancelledError:
                    client.close()
                    raise
                task = loop.create_task(self._serve(client, secret, budget))
                self._clients[task] = None
                task.add_done_callback(self._forget)
        finally:
            tasks = list(self._clients)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _make_room(self) -> bool:
        """End the client that has been silent for longest. Returns whether there was one.

        Clients whose TLS handshake is not finished are left alone: they have 5 s.
        """
        silent = [(connection.since, task) for task, connection in self._clients.items() if connection]
        if silent:
            task = min(silent, key=lambda each: each[0])[1]
            task.cancel()
            del self._clients[task]
        return bool(silent)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._clients.pop(task, None)
        if not task.cancelled() and (defect := task.exception()):
            self._say(repr(defect), "report it: this is a defect of the bridge")

    async def _serve(self, client: socket.socket, secret: "_TlsFiles | None", budget: Budget) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=16_384)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                client,
                ssl=secret.context() if secret else None,
                ssl_handshake_timeout=HEAD_TIMEOUT if secret else None,
                ssl_shutdown_timeout=1.0 if secret else None,
            )
        except (OSError, TimeoutError):  # no TLS, or gone already
            client.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        connection = Connection(reader, writer, self._site, budget)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine of a task
        self._clients[task] = connection
        await connection.serve()

    def _on_defect(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        if isinstance(context.get("exception"), OSError):  # a client that is gone, or speaks no TLS
            return
        self._say(f"{context.get('message')}: {context.get('exception')!r}", "report it, with this line")

    def _say(self, reason: str, way_out: str) -> None:
        """Log why there is no page: once an hour for the same reason."""
        said, at = self._said
        now = time.monotonic()
        if reason != said or now - at >= _LOG_AGAIN_AFTER:
            self._said = reason, now
            log(Event.HTTP_UNAVAILABLE, listen=self._settings.listen, reason=reason, way_out=way_out)


class _TlsFiles:
    """The certificate, read again once its files have changed. Raises TlsFailed at the first reading."""

    def __init__(self, settings: HttpSettings) -> None:
        self._files = [path for path in (settings.cert_file, settings.key_file) if path]
        self._seen = self._stamps()
        self._context = self._read()

    def context(self) -> ssl.SSLContext:
        """The context for the next client. Files that can't be used leave the old one in force."""
        if (stamps := self._stamps()) != self._seen:
            self._seen = stamps
            with contextlib.suppress(TlsFailed):
                self._context = self._read()
        return self._context

    def _read(self) -> ssl.SSLContext:
        return server_context(self._files[0], self._files[1] if len(self._files) > 1 else None)

    def _stamps(self) -> list[tuple[int, int] | None]:
        return [_stamp(path) for path in self._files]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
