"""`bridge top` shows the state of the running service, and says plainly when no service answers."""

import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bridge.commands import cli, top
from bridge.commands.running import NoAnswer, Running, read
from bridge.program import Program
from bridge.settings import load
from bridge.status.diagnosis import diagnose
from bridge.status.document import Status
from bridge.status.snapshot import HeldTopic, Snapshot, Transactions
from tests.harness.snapshots import STATES, healthy
from tests.unit.settings.configurations import WORKS


def document(snapshot: Snapshot, **more: Any) -> bytes:
    status = {"snapshot": asdict(snapshot) | more, "diagnosis": asdict(diagnose(snapshot))}
    return json.dumps(status).encode()


@contextmanager
def serving(body: bytes, status: int = 200) -> Iterator[str]:
    """An HTTP server on a free port of loopback. Yields its URL."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/status.json" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "bridge.toml"
    file.write_text(WORKS)
    return str(file)


def run(config: str, *words: str) -> int:
    return cli.main(["top", "--config", config, *words])


def text_of(name: str, width: int = 80) -> list[str]:
    snapshot = STATES[name]()
    return [line.plain for line in top.lines(Status(snapshot, diagnose(snapshot)), width)]


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    assert [line for line in text_of(name, width) if len(line) > width] == []


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("width", [20, 80])
def test_no_word_is_cut_in_a_narrow_terminal(name: str, width: int) -> None:
    narrow, wide = ("".join("".join(text_of(name, each)).split()) for each in (width, 10_000))
    assert narrow == wide


@pytest.mark.parametrize("name", STATES)
def test_sentence_chain_and_sums_fit_into_24_lines(name: str) -> None:
    shown = text_of(name)[:23]
    assert shown[1].startswith(("All is well, since ", "WARNING. ", "BROKEN. "))
    for label in ("HAProxy", "EMQ", "session", "Kafka", "rates", "oldest", "received", "disk"):
        assert [line for line in shown if line.startswith(label)], (label, shown)


def test_each_dead_broker_is_named() -> None:
    assert "Kafka    live for 6 d 2 h: 2 of 3 up, DOWN: 172.30.1.33:9092" in text_of("one_kafka_down")


def test_no_broker_is_called_up_while_kafka_is_away() -> None:
    """For some seconds the bridge knows that it reaches none, and not yet which of them are down."""
    whole = healthy()
    snapshot = replace(whole, kafka=replace(whole.kafka, state="away", state_age=1.0))
    text = " ".join(line.plain for line in top.lines(Status(snapshot, diagnose(snapshot)), 200))
    assert f"Kafka    away for 1 s: {whole.kafka.bootstrap_servers}" in text
    assert "of 3 up" not in text


def test_a_topic_that_is_late_without_a_reason_ends_with_the_number_of_its_messages() -> None:
    snapshot = replace(healthy(), held=(HeldTopic("mqtt", "spooling", 1.0, 1),))
    shown = [line.plain for line in top.lines(Status(snapshot, diagnose(snapshot)), 80)]
    assert "held     mqtt: spooling, 1 message" in shown


def test_with_delivery_exactly_once_its_transactions_are_counted() -> None:
    whole = healthy()
    snapshot = replace(whole, kafka=replace(whole.kafka, transactions=Transactions(1234, 2, 0)))
    shown = "\n".join(line.plain for line in top.lines(Status(snapshot, diagnose(snapshot)), 200))
    assert "commits  1,234 transactions committed, 2 failed, 0 fenced; 0 on disk" in shown
    assert "commits" not in "".join(line.plain for line in top.lines(Status(whole, diagnose(whole)), 200))


def test_bridges_with_the_same_client_id_and_page_are_told_apart_by_their_settings() -> None:
    installed = healthy()
    by_hand = replace(installed, program=Program(".venv/bin/bridge", " --config /home/a/bridge.toml", ""))
    shown = [
        "\n".join(map(str, top.lines(Status(each, diagnose(each)), 100))) for each in (installed, by_hand)
    ]
    assert "settings: " not in shown[0], "the installed service has the default file"
    assert "settings: /home/a/bridge.toml\n" in shown[1]


def test_once_prints_the_sentence_the_chain_and_the_events(config: str, capsys: Any) -> None:
    with serving(document(STATES["one_emq_down"]())) as url:
        assert run(config, "--once", "--url", url) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "WARNING. EMQ node emq2 (172.30.1.22:1883) is down" in shown
    assert "EMQ emq1 up 9 d, emq2 down 95 s" in shown
    assert "2 d 1 h ago The session with 172.30.1.10 is live." in shown


def test_once_fails_where_something_is_broken_and_shows_all_findings(config: str, capsys: Any) -> None:
    with serving(document(replace(STATES["kafka_down"](), clock_trusted=False))) as url:
        assert run(config, "--once", "--url", url) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "BROKEN. No Kafka broker answers" in shown
    assert "WARNING. The bridge's clock can't be trusted" in shown


def test_a_bridge_elsewhere_is_shown_without_settings_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(load, "DEFAULT_FILE", tmp_path / "there is none.toml")
    with serving(document(healthy())) as url:
        assert cli.main(["top", "--once", "--url", url]) == 0
    assert "All is well" in capsys.readouterr().out
    assert cli.main(["top", "--once"]) == 2  # without an address the settings must tell it


def test_json_is_the_document_of_the_service_on_one_line(config: str, capsys: Any) -> None:
    body = document(healthy(), field_of_a_newer_version=7)
    with serving(body) as url:
        assert run(config, "--json", "--url", f"{url}/") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == json.loads(body)


def test_a_service_that_does_not_answer_is_named_with_the_way_to_start_it(config: str, capsys: Any) -> None:
    with serving(b"") as url:
        pass
    assert run(config, "--once", "--url", url) == 1
    said = capsys.readouterr().err
    assert f"the bridge does not answer at {url}/status.json: connection refused" in said
    assert "sudo systemctl start mqtt-kafka-bridge" in said


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 503, "is starting"),
        (b"", 401, "asks for user and password"),
        (b"", 404, "HTTP status 404"),
        (b"<html>", 200, "not the status of this version"),
        (b'{"snapshot": {}}', 200, "not the status of this version"),
    ],
)
def test_an_answer_that_is_no_status_is_explained(
    config: str, capsys: Any, body: bytes, status: int, said: str
) -> None:
    with serving(body, status) as url:
        assert run(config, "--once", "--url", url) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("url", ["localhost:9464", "ftp://a", "http://"])
def test_a_url_that_is_none_is_refused(config: str, capsys: Any, url: str) -> None:
    assert run(config, "--once", "--url", url) == 1
    assert "must be an address such as" in capsys.readouterr().err


def test_a_stuck_loop_of_the_own_service_is_noticed_by_the_age_of_the_snapshot() -> None:
    old = document(replace(healthy(), made=time.monotonic() - 60))
    assert [each.id for each in read(old, Running("")).diagnosis.findings] == ["bridge-stuck"]
    assert read(old).diagnosis.level == "good"  # another machine has another monotonic clock


def test_text_from_outside_does_not_move_the_cursor() -> None:
    whole = healthy()
    evil = replace(whole, mqtt=replace(whole.mqtt, client_id="\x1b[2J"))
    shown = top.lines(Status(evil, diagnose(evil)), 80)
    assert all(line.plain.isprintable() for line in shown)


def test_a_terminal_shows_the_last_state_when_the_service_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([document(healthy()), NoAnswer("the bridge does not answer at X"), KeyboardInterrupt()])
    turns = io.StringIO()

    class Where:
        is_own = True
        client_id = ""

        def ask(self) -> bytes:
            answer = next(answers)
            if isinstance(answer, BaseException):
                raise answer
            return answer

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            return turns.write(text)

    monkeypatch.setattr(top, "_EVERY", 0.0)
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm")

    assert top.top(Where(), as_json=False, once=False) == 0  # type: ignore[arg-type]

    first, _, second = turns.getvalue().partition("NO ANSWER. The bridge does not answer at X.")
    assert "All is well" in first
    assert "The last answer was:" in second
    assert "All is well" in second
