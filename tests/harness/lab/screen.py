"""The live view's terminal: one thread draws and reads keys, and restores the terminal at the end."""

import contextlib
import os
import re
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.live import Live

from tests.harness.lab import keys
from tests.harness.lab.draw import draw
from tests.harness.lab.snapshot import Snapshot

_PERIOD = 0.25  # s between two snapshots; the view is drawn again only after a change
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)  # arrow keys end with a letter too
_SENT_TO = "garden/gate"  # the topic to which the key for a message publishes


def is_for_people(stdin: TextIO, stdout: TextIO) -> bool:
    """Whether both are a terminal that can show the view."""
    return (
        stdin.isatty()
        and stdout.isatty()
        and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
        and stdout.encoding.lower() in ("utf-8", "utf8")
    )


class Screen:
    """Draws what `look` returns, until the screen is closed. Keys work only once `press` is set.

    Its own thread opens and restores the terminal, because no signal interrupts that thread.
    """

    def __init__(self, look: Callable[[], Snapshot], first: int) -> None:
        self._look = look
        self.first = first  # index of the first entry that was not printed before the view began
        self.press: Callable[[Sequence[str]], None] | None = None
        self._sent = 0
        self._closing = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="screen")

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def require_alive(self) -> None:
        """Raises RuntimeError if the view has ended by itself."""
        if self._failure is not None:
            raise RuntimeError(f"the view has failed: {self._failure!r}") from self._failure

    def _run(self) -> None:
        try:
            self._draw_and_read(sys.stdin.fileno())
        except BaseException as error:
            self._failure = error

    def _draw_and_read(self, stdin: int) -> None:
        console = Console(highlight=False)
        shown = None
        with (
            _each_key_at_once(stdin),
            Live(
                console=console,
                screen=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            ) as live,
        ):
            while not self._closing.is_set():
                now = self._look(), console.size
                if now != shown:
                    live.update(draw(now[0], console.width, console.height), refresh=True)
                    shown = now
                if select.select([stdin], [], [], _PERIOD)[0]:
                    self._read(os.read(stdin, 1024).decode(errors="ignore"), now[0].conditions)
                    shown = None  # any key redraws, in case another program wrote to the terminal

    def _read(self, typed: str, conditions: Mapping[str, str]) -> None:
        if not typed:
            raise EOFError("the terminal is closed")
        for key in _ESCAPES.sub("", typed):
            if key == keys.QUIT:
                os.kill(os.getpid(), signal.SIGINT)  # like Ctrl-C
            elif self.press is None:
                continue
            elif key == keys.SEND:
                self._sent += 1
                self.press(["publish", _SENT_TO, f"hello {self._sent}"])
            elif words := keys.words(key, conditions):
                self.press(words)


@contextlib.contextmanager
def _each_key_at_once(terminal: int) -> Iterator[None]:
    """Read keys without Enter and without echo. Ctrl-Z is off: it would leave the terminal like this."""
    before = termios.tcgetattr(terminal)
    now = termios.tcgetattr(terminal)
    now[3] &= ~(termios.ICANON | termios.ECHO)
    now[6][termios.VSUSP] = b"\0"
    termios.tcsetattr(terminal, termios.TCSADRAIN, now)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal is closed
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
