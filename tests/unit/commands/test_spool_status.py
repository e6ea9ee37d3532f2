"""`bridge spool status` shows what is on disk, beside the running service and after it has ended."""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bridge.commands import spool_status, terminal
from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.segment import cut, pack
from bridge.errors import SpoolUnusable
from bridge.message import Message
from bridge.settings import SpoolSettings
from bridge.spool.contents import OnDisk, Waiting
from bridge.spool.read_only import look, on_disk
from bridge.spool.schema import letter_bytes
from bridge.spool.store import Store
from tests.harness.kit import ROOT
from tests.unit.settings.configurations import WORKS

LIMITS = SpoolSettings(keep_free=0, max_bytes=1_000_000)
HOUR = 3_600_000  # ms
NOBODY = 65534


def now() -> int:
    return time.time_ns() // 1_000_000


def fill(store: Store, topic: str, *received: int, first: int = 1) -> None:
    """Write one message for each time of receipt."""
    messages = []
    for sequence, timestamp in enumerate(received, first):
        message = Message.of(b"s/1", 2, 0, None, b"21.5")
        message.sequence, message.timestamp = sequence, timestamp
        messages.append(message)
    store.write([(topic, segment, pack(segment.messages)) for segment in cut(messages)])


def keep_letter(store: Store, payload: bytes = b"x") -> None:
    store.write((), [DeadLetter(Message.of(b"s/2", 2, 0, None, payload), "too large")])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(state: OnDisk) -> dict[str, Any]:
    stream = io.StringIO()
    spool_status.show(state, as_json=True, stream=stream)
    (line,) = stream.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


# -- what is on disk ----------------------------------------------------------------------------------


def test_one_message_waits(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, "iot", now())
    keep_letter(store)
    store.close()
    stream = io.StringIO()
    spool_status.show(on_disk(tmp_path, LIMITS), as_json=False, stream=stream)
    assert "1 message waits for Kafka; 1 dead letter (" in stream.getvalue()


def test_it_says_beside_the_service_what_each_topic_has_and_how_old_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, "iot.b", now() - HOUR, now())
    fill(store, "iot.a", -1)
    keep_letter(store, b"xy")
    state = on_disk(tmp_path, LIMITS)
    assert [(topic.topic, topic.messages) for topic in state.topics] == [("iot.a", 1), ("iot.b", 2)]
    said = shown(state)
    assert (said["rows"], said["dead_letters"], said["dead_letters_bytes"]) == (
        3,
        1,
        letter_bytes(len(b"s/2xytoo large")),
    )
    unknown, known = said["topics"]
    assert (unknown["oldest"], unknown["oldest_age_seconds"]) == (None, None)
    assert known["oldest_age_seconds"] == pytest.approx(3600, abs=60)
    store.close()


def test_what_is_drained_is_gone_from_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    message = Message.of(b"s/1", 2, 0, None, b"21.5")
    message.sequence = 7
    (segment,) = cut([message])
    store.write([("iot", segment, pack([message]))])
    store.write((), (), [("iot", segment)])
    assert on_disk(tmp_path, LIMITS).topics == ()
    store.close()


def test_a_stopped_service_leaves_the_same_and_a_look_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, "iot", now())
    store.close()
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert on_disk(tmp_path, LIMITS).messages == 1
    assert (
        {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
        == before
        == {"spool.db": before["spool.db"]}
    )


def test_what_only_the_log_of_a_killed_service_holds_is_seen(tmp_path: Path) -> None:
    store = Store(tmp_path / "killed")
    fill(store, "iot", now())
    left = tmp_path / "left"
    left.mkdir()
    for file in (tmp_path / "killed").iterdir():
        (left / file.name).write_bytes(file.read_bytes())
    store.close()
    assert on_disk(left, LIMITS).messages == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("running", [True, False])
def test_who_may_only_read_the_directory_sees_it(running: bool) -> None:
    with tempfile.TemporaryDirectory() as name:  # other users can't reach pytest's own directories
        directory = Path(name)
        store = Store(directory)
        fill(store, "iot", now())
        if not running:
            store.close()
        directory.chmod(0o750)
        for file in (directory, *directory.iterdir()):
            os.chown(file, 0, NOBODY)
        with ProcessPoolExecutor(1) as pool:
            assert pool.submit(_messages_seen_by_nobody, directory).result(30) == 1
        store.close()


def _messages_seen_by_nobody(directory: Path) -> int:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    return on_disk(directory, LIMITS).messages


def test_where_there_is_no_spool_nothing_waits(tmp_path: Path) -> None:
    state = on_disk(tmp_path, LIMITS)
    assert (shown(state)["rows"], shown(state)["exists"]) == (0, False)
    stream = io.StringIO()
    spool_status.show(state, as_json=False, stream=stream)
    assert "has not been made yet" in stream.getvalue()


def test_who_may_not_read_it_is_told_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(tmp_path).close()

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "spool.db"))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(SpoolUnusable, match=r"cannot read .*spool\.db: permission denied; run this as"):
        on_disk(tmp_path, LIMITS)


def test_another_programs_database_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(SpoolUnusable, match="another program's"):
        look(_foreign(tmp_path), lambda database: None)


def _foreign(directory: Path) -> Path:
    store = Store(directory)
    store._db.execute("PRAGMA application_id = 7")
    store.close()
    return directory / Store.FILE


def test_a_file_that_is_no_database_is_said_to_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.spool.read_only._PAUSE", 0)
    (tmp_path / "spool.db").write_bytes(b"no database" * 1000)
    with pytest.raises(SpoolUnusable, match="not a database"):
        on_disk(tmp_path, LIMITS)


def test_a_service_that_starts_while_somebody_looks_is_looked_at_again(tmp_path: Path) -> None:
    Store(tmp_path).close()
    started: list[Store] = []
    seen = []

    def question(database: Any) -> int:
        if not started:
            started.append(Store(tmp_path))
            fill(started[0], "iot", now())
        seen.append(1)
        count: int = database.execute("SELECT ifnull(sum(messages), 0) FROM lanes").fetchone()[0]
        return count

    assert look(tmp_path / Store.FILE, question) == 1
    assert len(seen) == 2
    started[0].close()


def test_damaged_databases_and_a_full_spool_are_shown(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep_letter(store, bytes(1_100_000))
    (tmp_path / "spool.db.damaged-1").write_bytes(b"")
    (tmp_path / "spool.db.damaged-1-wal").write_bytes(b"")
    stream = io.StringIO()
    spool_status.show(on_disk(tmp_path, LIMITS), as_json=False, stream=stream)
    text = stream.getvalue()
    assert "FULL: it holds" in text
    assert f"a damaged database was kept: {tmp_path}/spool.db.damaged-1\n" in text
    store.close()


# -- the output ---------------------------------------------------------------------------------------


def state(messages: int) -> OnDisk:
    topics = (Waiting("iot\x1b[2J", messages, 500, now() - 90_000),) if messages else ()
    return OnDisk("/s/spool.db", True, topics, used=1, file_size=1_234_567, free=9, max_bytes=2_000_000_000)


def test_a_person_sees_a_table_that_can_not_move_the_cursor() -> None:
    stream = Terminal()
    spool_status.show(state(12_345), as_json=False, stream=stream)
    assert "12,345" in stream.getvalue()
    assert "0:01:30" in stream.getvalue()
    assert r"iot\x1b[2J" in stream.getvalue()
    assert "1.23 MB, 1 B of them in use, of 2 GB" in stream.getvalue()


@pytest.mark.parametrize(("count", "text"), [(999, "999 B"), (1500, "1.5 KB"), (2_500_000_000, "2.5 GB")])
def test_sizes_are_short(count: int, text: str) -> None:
    assert terminal.size(count) == text


def test_watching_a_drain_shows_a_bar_and_ends_when_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([state(400), state(500), state(100), state(0)])
    monkeypatch.setattr(spool_status, "_EVERY", 0)
    stream = Terminal()
    spool_status.watch(lambda: next(states), as_json=False, stream=stream)
    assert "500 of 500 delivered" in stream.getvalue()
    assert next(states, None) is None


def test_a_program_that_watches_gets_a_line_for_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter([state(2), state(1), state(0)])
    monkeypatch.setattr(spool_status, "_EVERY", 0)
    stream = io.StringIO()
    spool_status.watch(lambda: next(states), as_json=True, stream=stream)
    assert [json.loads(line)["rows"] for line in stream.getvalue().splitlines()] == [2, 1, 0]


# -- as a process -------------------------------------------------------------------------------------


def test_the_command_finds_the_spool_by_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(f'state_directory = "{tmp_path / "state"}"\n{WORKS}')
    store = Store(tmp_path / "state")
    fill(store, "iot", now(), now())
    command = [sys.executable, "-m", "bridge", "spool", "status", "--json", "--config", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    store.close()
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rows"] == 2


def test_it_does_not_wait_for_paho_and_librdkafka() -> None:
    commands = "bridge.commands.dead_letters, bridge.commands.spool_status"
    code = f"import sys, {commands}; print({{'paho', 'confluent_kafka'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
