"""The socket through which a second terminal sends requests to the lab."""

import contextlib
import fcntl
import json
import os
import queue
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TextIO

from tests.harness.host import LAB, USERS_LAB
from tests.harness.kit import cache
from tests.harness.lab.verbs import LabError

RUN = cache() / ("lab" if LAB == USERS_LAB else f"lab-{LAB}")
"""The directory of this user's lab: its socket, logs and data."""

_SOCKET = RUN / "door"


class NoLab(LabError):
    """No lab takes requests."""


@dataclass
class Request:
    """A request, as the words of a command line. One thread, whichever it is, must answer it once; until then
    any thread may tell how far it is.
    """

    words: Sequence[str]
    is_awaited: bool = True  # a second terminal waits for the answer; after a key press nobody does
    _answer: "queue.SimpleQueue[tuple[bool | None, str]]" = field(default_factory=queue.SimpleQueue)
    _delivered: threading.Event = field(default_factory=threading.Event)
    _server: threading.Thread | None = None  # writes the answer

    def tell(self, text: str) -> None:
        """Show the terminal that asked how far its request is."""
        if self.is_awaited:
            self._answer.put((None, text))

    def answer(self, text: str, *, good: bool = True) -> None:
        """Answer, and return when the answer was sent: the lab may end right afterwards."""
        if self.is_awaited:
            self._answer.put((good, text))
            if self._server is not threading.current_thread():
                self._delivered.wait(1.0)

    def serve(self, take: Callable[["Request"], None], stream: TextIO) -> None:
        """Pass the request to `take`, and write its answer to the terminal that asked."""
        self._server = threading.current_thread()
        take(self)
        good = None
        while good is None:  # only told, not answered yet
            good, text = self._answer.get()
            stream.write(json.dumps({"good": good, "text": text}) + "\n")
            stream.flush()
        self._delivered.set()


class Door:
    """Accepts requests in threads. The owner of the door must answer each request.

    Until `open` is called, `early` gets each request, in the request's own thread.
    """

    def __init__(self, early: Callable[[Request], None]) -> None:
        self._take = early
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        _SOCKET.unlink(missing_ok=True)  # a lab that was killed with -9 left it: we hold the lock
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(_SOCKET))
        self._listener.listen()
        threading.Thread(target=self._accept, name="door", daemon=True).start()

    def open(self) -> None:
        """From now on requests wait for `next`."""
        self._take = self._requests.put

    def next(self, timeout: float) -> Request | None:
        """The next request, or None if none arrives within `timeout` seconds."""
        try:
            return self._requests.get(timeout=timeout)
        except queue.Empty:
            return None

    def press(self, words: Sequence[str]) -> None:
        """Make a request from inside the lab, without waiting for an answer."""
        self._requests.put(Request(words, is_awaited=False))

    def close(self) -> None:
        _SOCKET.unlink(missing_ok=True)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), client, client.makefile("rw") as stream:
            Request(json.loads(stream.readline())).serve(lambda request: self._take(request), stream)


def ask(words: Sequence[str], tell: Callable[[str], object] = lambda text: None) -> str:
    """Send a request to the running lab, and wait for the answer. Meanwhile `tell` how far the request is.
    Raises LabError if it fails.
    """
    with socket.socket(socket.AF_UNIX) as client:
        _connect(client)
        with client.makefile("rw") as stream:
            stream.write(json.dumps(list(words)) + "\n")
            stream.flush()
            for line in stream:
                answer = json.loads(line)
                if answer["good"]:
                    return str(answer["text"])
                if answer["good"] is not None:
                    raise LabError(answer["text"])
                tell(answer["text"])
    raise NoLab("the lab has ended meanwhile")


def require_open() -> None:
    """Raises LabError if no lab takes requests."""
    with socket.socket(socket.AF_UNIX) as client:
        _connect(client)


def _connect(client: socket.socket) -> None:
    try:
        client.connect(str(_SOCKET))
    except OSError:
        raise NoLab("no lab is up: deploy/lab up, in another terminal") from None


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold this user's lock for a lab. Raises LabError if this user already has a lab up."""
    RUN.mkdir(parents=True, exist_ok=True)
    with (RUN / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"a lab is up already (process {_pid(lock)}): deploy/lab down") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _pid(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip() or "starting"


def fresh_directory() -> Path:
    """Make an empty directory for this run. The last run's logs stay until then."""
    directory = RUN / "last"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory
