"""How events, lines of libraries and uncaught exceptions look in each format."""

import io
import json
import logging
import os
import pty
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from bridge.observe.events import Event, log
from bridge.observe.logging import change_level, set_up

ROOT = Path(__file__).parents[3]


pytestmark = pytest.mark.usefixtures("logging_as_before")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def started(level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    set_up(level, "auto", stream)
    return stream


# -- events --------------------------------------------------------------------------------------------


def test_an_event_is_a_line_of_json() -> None:
    stream = started()

    log(Event.MQTT_LIVE, client_id="a", present=True)

    (line,) = lines(stream)
    assert list(line) == ["timestamp", "level", "event", "client_id", "present"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["present"]) == ("info", "mqtt.live", True)


def test_what_is_below_the_level_is_not_logged() -> None:
    stream = started("warning")

    log(Event.MQTT_LIVE)
    log(Event.MQTT_CLOSED)

    assert [line["event"] for line in lines(stream)] == ["mqtt.closed"]


def test_topics_are_logged_as_text_whatever_their_bytes(tmp_path: Path) -> None:
    stream = started()

    log(Event.ROUTE_UNROUTABLE, topic=b"sensors/\xc3\xa4/\xff", path=tmp_path)

    (line,) = lines(stream)
    assert line["topic"] == "sensors/ä/\\xff"
    assert line["path"] == str(tmp_path)


def test_a_line_break_in_a_field_makes_no_new_line() -> None:
    stream = started()

    log(Event.ROUTE_UNROUTABLE, topic='a\n{"event": "forged"}')

    assert [line["event"] for line in lines(stream)] == ["route.unroutable"]


def test_a_terminal_gets_colours_and_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    set_up("info", "auto", stream)

    log(Event.MQTT_LIVE, client_id="a")

    assert "\x1b[" in stream.getvalue()
    assert "mqtt.live" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize(("no_color", "stream"), [("1", Terminal()), ("", io.StringIO())])
def test_console_without_colours(monkeypatch: pytest.MonkeyPatch, no_color: str, stream: io.StringIO) -> None:
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    set_up("info", "console", stream)

    log(Event.MQTT_LIVE, client_id="a")

    assert "\x1b[" not in stream.getvalue()
    assert "client_id=a" in stream.getvalue()


def test_json_is_given_to_a_terminal_that_asks_for_it() -> None:
    stream = Terminal()
    set_up("info", "json", stream)

    log(Event.MQTT_LIVE)

    assert lines(stream)[0]["event"] == "mqtt.live"


def test_a_log_that_can_t_be_written_ends_nothing() -> None:
    class FullDisk(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    set_up("info", "json", FullDisk())

    log(Event.MQTT_LIVE)


# -- libraries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logger", "level", "event", "shown"),
    [
        ("paho.mqtt.client", logging.DEBUG, "library.paho", "debug"),
        ("paho.mqtt.client", logging.ERROR, "library.paho", "warning"),
        ("librdkafka", logging.WARNING, "library.librdkafka", "warning"),
        ("librdkafka", logging.ERROR, "library.librdkafka", "debug"),
        ("somebody.else", logging.CRITICAL, "library.python", "warning"),
    ],
)
def test_a_library_s_line_goes_through_the_same_log(logger: str, level: int, event: str, shown: str) -> None:
    stream = started("debug")

    logging.getLogger(logger).log(level, "node %d is gone", 1)

    (line,) = lines(stream)
    assert (line["event"], line["level"]) == (event, shown)
    assert (line["logger"], line["message"]) == (logger, "node 1 is gone")


def test_a_python_warning_goes_through_the_same_log() -> None:
    stream = started()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    assert "DeprecationWarning: old" in lines(stream)[0]["message"]


# -- uncaught exceptions -------------------------------------------------------------------------------

_RAISES = """
import sys, threading
from bridge.observe.logging import change_level, set_up
set_up("info", "json")
def connect(password):
    raise OSError("the cable is out")
if sys.argv[1] == "thread":
    thread = threading.Thread(target=connect, args=("geheim",), name="resolver")
    thread.start()
    thread.join()
else:
    connect("geheim")
"""


@pytest.mark.parametrize(
    ("where", "status", "thread"), [("main", 1, "MainThread"), ("thread", 0, "resolver")]
)
def test_an_uncaught_exception_is_logged_without_its_local_variables(
    where: str, status: int, thread: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _RAISES.replace('"geheim"', '"ge" "heim"'), where],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == status
    assert (line["event"], line["level"], line["thread"]) == ("service.failed", "error", thread)
    assert "OSError: the cable is out" in line["exception"]
    assert "geheim" not in done.stderr


def test_a_log_that_nobody_reads_holds_up_nobody_and_says_later_what_it_has_lost() -> None:
    read, write = os.pipe()
    with open(read, encoding="utf-8") as reader, open(write, "w", encoding="utf-8") as writer:
        set_up("info", "json", writer)
        finished = threading.Event()

        def many() -> None:
            for number in range(3000):
                log(Event.MQTT_CLOSED, reason="x" * 50, number=number)
            log(Event.MQTT_CLOSED, reason="y" * 200_000, number=3000)
            finished.set()

        threading.Thread(target=many, daemon=True).start()
        assert finished.wait(10), "nobody read, so a line waited"
        os.set_blocking(read, False)
        first = reader.read()
        log(Event.MQTT_LIVE)
        rest = reader.read()

    came = [json.loads(line)["number"] for line in first.splitlines()]
    lost, live = (json.loads(line) for line in rest.splitlines())
    assert came == list(range(len(came)))
    assert (lost["event"], lost["level"], lost["lines"]) == ("log.lines_lost", "warning", 3001 - len(came))
    assert live["event"] == "mqtt.live"


def test_a_terminal_that_nobody_reads_holds_up_nobody() -> None:
    main, terminal = pty.openpty()
    with open(terminal, "w", encoding="utf-8") as writer:
        set_up("info", "json", writer)
        finished = threading.Event()

        def many() -> None:
            for number in range(2000):
                log(Event.MQTT_CLOSED, reason="x" * 50, number=number)
            finished.set()

        threading.Thread(target=many, daemon=True).start()
        assert finished.wait(10), "nobody read, so a line waited"
        os.close(main)


def test_a_line_that_does_not_fit_as_a_whole_spoils_no_other() -> None:
    read, write = os.pipe()
    with open(read, encoding="utf-8") as reader, open(write, "w", encoding="utf-8") as writer:
        set_up("info", "json", writer)
        log(Event.MQTT_CLOSED, reason="y" * 200_000)
        os.set_blocking(read, False)
        begun = reader.read()
        log(Event.MQTT_LIVE)
        rest = begun + reader.read()

    _, lost, live = rest.splitlines()
    assert json.loads(lost)["lines"] == 1
    assert json.loads(live)["event"] == "mqtt.live"


HOSTILE = "a\x1b[2Jb\x9b2Jc\u2028d\u202ee\u2066f\x85g\u200fh"


def test_json_that_a_terminal_shows_can_not_steer_it() -> None:
    stream = started()
    log(Event.MQTT_REFUSED, reason=HOSTILE, topic=HOSTILE.encode())
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    assert json.loads(line)["reason"] == json.loads(line)["topic"] == HOSTILE, "a program reads it as it was"


def test_a_line_for_people_can_not_steer_their_terminal() -> None:
    terminal = io.StringIO()
    set_up("info", "console", terminal)
    log(Event.MQTT_REFUSED, reason=HOSTILE, words=f"with a space {HOSTILE}")
    (shown,) = terminal.getvalue().splitlines()
    assert shown.isprintable()


def test_a_traceback_for_people_can_not_steer_their_terminal() -> None:
    terminal = io.StringIO()
    set_up("info", "console", terminal)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - it is raised here, for its traceback
        raise ValueError(HOSTILE) from KeyError(f"cause {HOSTILE}")
    log(Event.SERVICE_FAILED, exc_info=caught.value)
    shown = terminal.getvalue().split("\n")
    assert all(line.isprintable() for line in shown)
    assert "\\x1b[2J" in shown[-2]
    assert "Traceback (most recent call last):" in shown, "each line of it is still a line"


# -- journald ------------------------------------------------------------------------------------------


def test_journald_is_told_the_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        set_up("info", "auto", journal)

        log(Event.MQTT_LIVE)
        log(Event.MQTT_REFUSED)
        journal.seek(0)

        assert [line[:4] for line in journal.read().splitlines()] == ["<6>{", "<3>{"]


def test_a_file_is_not_taken_for_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:4711")
    with (tmp_path / "log").open("w+") as file:
        set_up("info", "auto", file)

        log(Event.MQTT_LIVE)
        file.seek(0)

        assert file.read().startswith("{")


# -- memory --------------------------------------------------------------------------------------------


def test_the_service_carries_no_rich_and_a_dry_run_may_still_have_it() -> None:
    check = "import sys, bridge.app, bridge.commands.cli; assert 'rich' not in sys.modules; import rich.table"

    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True, timeout=30)


# -- reload ------------------------------------------------------------------------------------------


def test_a_changed_level_holds_for_the_next_line_of_the_bridge_and_of_libraries() -> None:
    stream = started("warning")
    log(Event.MQTT_LIVE)
    change_level("info")
    log(Event.MQTT_LIVE)
    logging.getLogger("paho").info("seen")
    change_level("error")
    log(Event.MQTT_CLOSED)
    logging.getLogger("paho").warning("not seen")
    assert [line["event"] for line in lines(stream)] == ["mqtt.live", "library.paho"]
