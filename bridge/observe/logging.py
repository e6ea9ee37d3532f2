"""Sets up logging: one pipeline for the bridge's events, the libraries' lines and uncaught exceptions.

A line of JSON is {"timestamp", "level", "event", ...fields}; a terminal shows the same fields in colour.
Tracebacks show no local variables, because a local variable may contain a password.
"""

import contextlib
import io
import logging
import os
import select
import sys
import threading
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from bridge.observe import events
from bridge.observe.events import Event, log, log_at
from bridge.observe.printable import printable, printable_json

# Libraries whose log lines have their own event, by the first part of the logger's name.
_LIBRARIES = {"paho": Event.LIBRARY_PAHO, "librdkafka": Event.LIBRARY_LIBRDKAFKA}

# journald's numbers for the levels: syslog(3).
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}


def set_up(level: str, form: Literal["auto", "json", "console"], stream: TextIO | None = None) -> None:
    """Log every line from `level` up ("debug" to "error") to `stream`, by default standard error."""
    stream = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    # "auto" ignores $INVOCATION_ID: desktops start terminals as units, so it is set in terminals too.
    console = form == "console" or (form == "auto" and stream.isatty())
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _readable,
        *(_for_people(stream) if console else _FOR_PROGRAMS),
    ]
    if _is_journal(stream):
        processors.append(_with_priority)

    lines = _Lines(stream)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=threshold, handlers=[_FromLibraries()], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = lambda _kind, error, _trace: _uncaught(error)
    threading.excepthook = lambda crash: _uncaught(crash.exc_value, getattr(crash.thread, "name", ""))


def change_level(level: str) -> None:
    """Log every line from `level` up from now on, to the same stream."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        **{**structlog.get_config(), "wrapper_class": structlog.make_filtering_bound_logger(threshold)}
    )
    logging.getLogger().setLevel(threshold)
    events.use_new_configuration()


class _Lines:
    """Writes structlog's lines.

    Nothing waits for the log. A line is lost and counted where the stream has no room; a stream that fails (a
    full disk, a closed pipe) ends nothing. The next line that fits says how many were lost before it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lost = 0
        self._is_telling = False
        self._is_cut = False  # the beginning of a line is out, its end is not
        self._lock = threading.RLock()
        self._poll: select.poll | None = None
        with contextlib.suppress(OSError, ValueError):  # a stream without a file behind it never blocks
            poll = select.poll()
            self._descriptor = _that_never_blocks(stream)
            poll.register(self._descriptor, select.POLLOUT)
            self._poll = poll

    def msg(self, line: str) -> None:
        with self._lock:
            if self._lost and not self._is_telling:
                self._tell_lost()
            try:
                if not self._lost and self._write(line + "\n"):
                    return
            except (OSError, ValueError):
                pass
            self._lost += 1

    def _tell_lost(self) -> None:
        """Write how many lines are lost, if there is room for that now."""
        lost, self._lost, self._is_telling = self._lost, 0, True
        log(Event.LOG_LINES_LOST, lines=lost)
        self._is_telling = False
        if self._lost:
            self._lost = lost

    def _write(self, text: str) -> bool:
        """False: the stream has no room."""
        if self._poll is None:
            self._stream.write(text)
            self._stream.flush()
            return True
        data = text.encode(self._stream.encoding or "utf-8", "backslashreplace")
        if self._is_cut:
            data = b"\n" + data
        # A pipe that poll() calls writable takes PIPE_BUF bytes without blocking (pipe(7)). A terminal, a
        # file or journald's socket then has at least as much room.
        for begin in range(0, len(data), select.PIPE_BUF):
            if not self._poll.poll(0):
                self._is_cut |= begin > 0
                return False
            part = data[begin : begin + select.PIPE_BUF]
            try:
                written = os.write(self._descriptor, part)
            except BlockingIOError:
                written = 0
            if written < len(part):
                self._is_cut |= begin + written > 0
                return False
        self._is_cut = False
        return True

    debug = info = warning = error = critical = msg


def _that_never_blocks(stream: TextIO) -> int:
    """The stream's descriptor. A terminal is opened once more: poll() calls one writable that is nearly full.

    O_NONBLOCK on the stream's own descriptor would bind every program that shares it, such as the shell.
    """
    if stream.isatty():
        with contextlib.suppress(OSError):
            name = os.ttyname(stream.fileno())
            return os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    return stream.fileno()


class _FromLibraries(logging.Handler):
    """Sends what libraries such as paho and librdkafka log with the `logging` module to the pipeline."""

    def emit(self, record: logging.LogRecord) -> None:
        library = record.name.partition(".")[0]
        log_at(
            _level(library, record.levelno),
            _LIBRARIES.get(library, Event.LIBRARY_PYTHON),
            logger=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )


def _level(library: str, level: int) -> int:
    if library == "librdkafka" and level >= logging.ERROR:
        return logging.DEBUG  # librdkafka logs each attempt; the kafka.* events report them less often
    return min(level, logging.WARNING)  # ERROR means that a person must act; a library can't know that


def _uncaught(error: BaseException | None, thread: str = "MainThread") -> None:
    if error is not None and not isinstance(error, KeyboardInterrupt):
        log(Event.SERVICE_FAILED, error=repr(error), thread=thread, exc_info=error)


def _readable(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Decode topics and keys, which are logged as bytes, and put timestamp, level and event first."""
    readable: EventDict = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    for name, value in event.items():
        readable[name] = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return readable


def _on_one_line(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape what could move a terminal's cursor or rewrite its lines; a traceback has lines of its own."""
    return {
        name: printable(value) if isinstance(value, str) and name not in ("event", "exception") else value
        for name, value in event.items()
    }


def _escape(_: WrappedLogger, __: str, line: Any) -> str:
    return printable_json(line)


def _for_people(stream: TextIO) -> list[Processor]:
    return [
        _on_one_line,
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty() and "NO_COLOR" not in os.environ,
            sort_keys=False,
            pad_event_to=26,
            exception_formatter=_printable_traceback,
        ),
    ]


def _printable_traceback(sink: TextIO, error: ExcInfo) -> None:
    """Write the traceback with its own line breaks. An error's text and a line of code may hold anything."""
    lines = io.StringIO()
    structlog.dev.plain_traceback(lines, error)
    sink.write("\n".join(printable(line) for line in lines.getvalue().split("\n")))


_FOR_PROGRAMS: list[Processor] = [
    structlog.processors.format_exc_info,
    structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
    _escape,
]


def _is_journal(stream: TextIO) -> bool:
    """Whether `stream` is connected to journald: $JOURNAL_STREAM in systemd.exec(5)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # the stream has no file descriptor
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _with_priority(_: WrappedLogger, level: str, line: Any) -> str:
    """Put "<4>" before the line. journald removes it, and `journalctl -p warning` works (sd-daemon(3))."""
    return f"<{_PRIORITIES.get(level, 3)}>{line}"
