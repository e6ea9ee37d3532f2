"""`bridge dead-letters` finds, shows, exports and removes letters on disk, also beside the service."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.commands import cli, dead_letters, dead_letters_output
from bridge.delivery.dead_letter import DeadLetter, Selection, StoredLetter
from bridge.errors import SpoolUnusable
from bridge.message import RETAIN, Message, Properties
from bridge.spool import dead_letters as letters_module
from bridge.spool.dead_letters import StoredLetters
from bridge.spool.store import Store
from tests.artefacts import pages
from tests.unit.settings.configurations import WORKS, Machine

PROPERTIES = Properties(1, 60, "text/plain", "answer", b"\xff", (3,), (("a", "1"),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The service's store. It stays open while the commands read and delete."""
    store = Store(tmp_path)
    yield store
    store.close()


def letter(
    topic: bytes = b"s/1", payload: bytes = b"21.5", reason: str = "too large", route: str = "r", **given: Any
) -> DeadLetter:
    message = Message.of(topic, given.get("flags", 2), 0, given.get("properties"), payload)
    message.timestamp = given.get("received", 1_700_000_000_000)
    return DeadLetter(message, reason, route, given.get("kafka_topic", "iot") if route else "")


def keep_letters(store: Store, *letters: DeadLetter) -> None:
    store.write((), letters)


def age(store: Store, number: int, at: int) -> None:
    store._db.execute("UPDATE dead_letters SET at = ? WHERE id = ?", (at, number))


def found(directory: Path, payloads: bool = False, **selection: Any) -> list[StoredLetter]:
    return [
        each for page in StoredLetters(directory).pages(Selection(**selection), payloads) for each in page
    ]


def numbers(directory: Path, **selection: Any) -> list[int]:
    return [each.number for each in found(directory, **selection)]


# -- finding ------------------------------------------------------------------------------------------


def test_a_letter_is_found_as_it_was_buried(store: Store, tmp_path: Path) -> None:
    keep_letters(store, letter(b"s/\xc3\xbc", b"\x00\xff", flags=5, properties=PROPERTIES, received=-1))
    (back,) = found(tmp_path, payloads=True)
    message = back.letter.message
    assert (message.topic, message.payload, message.flags) == ("s/ü".encode(), b"\x00\xff", 5)
    assert (message.properties, message.timestamp, back.payload_size) == (PROPERTIES, -1, 2)
    assert (back.letter.reason, back.letter.route, back.letter.kafka_topic) == ("too large", "r", "iot")


def test_payloads_are_read_only_for_who_wants_them(store: Store, tmp_path: Path) -> None:
    keep_letters(store, letter(payload=b"x" * 1000))
    (back,) = found(tmp_path)
    assert (back.payload_size, back.letter.message.payload) == (1000, b"")


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        ({}, [1, 2, 3, 4]),
        ({"numbers": (4, 2, 77)}, [2, 4]),
        ({"route": "r"}, [1, 2]),
        ({"route": ""}, [4]),
        ({"reason": "TOO"}, [1, 3]),
        ({"reason": "100%"}, [2]),
        ({"topic": "s/+"}, [1, 2]),
        ({"topic": "#"}, [1, 2, 3, 4]),
        ({"before": 2000}, [1]),
        ({"after": 2000}, [3, 4]),
        ({"after": 1000, "before": 4000, "topic": "t/#"}, [3]),
        ({"up_to": 2}, [1, 2]),
        ({"numbers": (1,), "route": "q"}, []),
    ],
)
def test_what_is_chosen(store: Store, tmp_path: Path, selection: dict[str, Any], chosen: list[int]) -> None:
    keep_letters(store, letter(b"s/1"), letter(b"s/2", reason="100% odd"), letter(b"t/1", route="q"))
    keep_letters(store, letter(b"\xff/1", reason="no route", route=""))
    for number in (1, 2, 3, 4):
        age(store, number, number * 1000)
    assert numbers(tmp_path, **selection) == chosen


@pytest.mark.parametrize(("rows", "size"), [(2, 10**9), (500, 5)])
def test_many_are_read_page_by_page(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, size: int
) -> None:
    monkeypatch.setattr(letters_module, "_PAGE", rows)
    monkeypatch.setattr(letters_module, "_PAGE_BYTES", size)
    keep_letters(store, *(letter(b"a" if n % 3 else b"b", b"12345") for n in range(10)))
    pages = list(StoredLetters(tmp_path).pages(Selection(topic="a"), payloads=True))
    assert [each.number for page in pages for each in page] == [2, 3, 5, 6, 8, 9]
    assert len(pages) > 1


def test_where_there_is_no_spool_there_are_no_letters(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    assert StoredLetters(tmp_path).last() == 0


# -- removing -----------------------------------------------------------------------------------------


def test_what_is_removed_is_gone_and_nothing_else(store: Store, tmp_path: Path) -> None:
    keep_letters(store, *(letter() for _ in range(5)))
    assert StoredLetters(tmp_path).delete(found(tmp_path, numbers=(2, 4))) == 2
    assert numbers(tmp_path) == [1, 3, 5]


def test_what_somebody_else_has_removed_is_not_counted(store: Store, tmp_path: Path) -> None:
    keep_letters(store, letter(), letter())
    both = found(tmp_path)
    StoredLetters(tmp_path).delete(both[:1])
    assert StoredLetters(tmp_path).delete(both) == 1


def test_a_number_is_never_used_again(store: Store, tmp_path: Path) -> None:
    keep_letters(store, letter())
    StoredLetters(tmp_path).delete(found(tmp_path))
    keep_letters(store, letter())
    assert numbers(tmp_path) == [2]


def test_they_are_removed_from_a_stopped_service_too_and_nothing_is_left_beside(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep_letters(store, letter(), letter())
    store.close()
    StoredLetters(tmp_path).delete(found(tmp_path, numbers=(1,)))
    assert numbers(tmp_path) == [2]
    assert [file.name for file in tmp_path.iterdir()] == ["spool.db"]


def test_the_service_gets_its_turn_between_two_transactions(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters_module, "_AT_ONCE_BYTES", 10)
    pauses: list[float] = []
    monkeypatch.setattr(letters_module.time, "sleep", pauses.append)
    keep_letters(store, *(letter(payload=b"123456") for _ in range(4)), letter(payload=b"x" * 50))
    StoredLetters(tmp_path).delete(found(tmp_path))
    assert len(pauses) == 5
    assert min(pauses) >= letters_module._LEAST_PAUSE


def test_who_may_not_write_is_told_who_may(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_letters(store, letter())
    connect = letters_module.connect
    monkeypatch.setattr(letters_module, "connect", lambda path, _mode: connect(path, "mode=ro"))
    with pytest.raises(SpoolUnusable, match=r"cannot write .*spool\.db; run this as the service's user"):
        StoredLetters(tmp_path).delete(found(tmp_path))


def test_the_database_of_a_service_that_keeps_it_is_said_to_be_locked(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_letters(store, letter())
    monkeypatch.setattr(letters_module, "_TIMEOUT", 0.01)
    store._db.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolUnusable, match="locked"):
        StoredLetters(tmp_path).delete(found(tmp_path))
    store._db.execute("ROLLBACK")


def test_two_can_not_replay_at_once(store: Store, tmp_path: Path) -> None:
    with (
        StoredLetters(tmp_path).alone(),
        pytest.raises(SpoolUnusable, match="another command replays"),
        StoredLetters(tmp_path).alone(),
    ):
        pass
    with StoredLetters(tmp_path).alone():
        pass


def test_a_service_that_writes_never_fails_beside_the_commands(store: Store, tmp_path: Path) -> None:
    """A busy database would make the store raise an error; it must raise none."""
    rounds = 150
    failed: list[BaseException] = []
    removed: list[int] = []
    over = threading.Event()

    def commands() -> None:
        try:
            while not over.is_set():
                page = found(tmp_path, payloads=True)
                removed.append(StoredLetters(tmp_path).delete(page[: len(page) // 2]))
        except BaseException as error:
            failed.append(error)

    beside = [threading.Thread(target=commands) for _ in range(2)]
    for thread in beside:
        thread.start()
    for _ in range(rounds):
        keep_letters(store, letter(payload=bytes(20_000)), letter())
        store.give_back()
    over.set()
    for thread in beside:
        thread.join()
    assert failed == []
    assert sum(removed) > 0
    assert len(found(tmp_path)) + sum(removed) == 2 * rounds
    (sound,) = store._db.execute("PRAGMA integrity_check").fetchone()
    assert sound == "ok"


# -- the output ---------------------------------------------------------------------------------------


def printed(*letters: StoredLetter) -> str:
    stream = io.StringIO()
    dead_letters_output.show_all([letters], as_json=False, stream=stream)
    return stream.getvalue()


def test_the_list_has_a_line_for_each_that_can_not_move_the_cursor(store: Store, tmp_path: Path) -> None:
    keep_letters(store, letter(b"s/\x1b[2J", reason="bad\nluck"), letter(payload=bytes(40_000), route=""))
    text = printed(*found(tmp_path))
    first, second, total = text.splitlines()
    assert r"s/\x1b[2J -> iot  bad\nluck" in first
    assert "40 KB" in second
    assert "->" not in second
    assert total == "2 dead letters, 40 KB"


def test_an_empty_list_says_so() -> None:
    stream = io.StringIO()
    dead_letters_output.show_all([], as_json=False, stream=stream)
    assert stream.getvalue() == "no dead letters\n"


def test_a_clock_that_was_far_off_does_not_keep_a_letter_from_being_listed(
    store: Store, tmp_path: Path
) -> None:
    keep_letters(store, letter())
    age(store, 1, 2**62)
    assert str(2**62) in printed(*found(tmp_path))


# -- the commands -------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path, monkeypatch)
    machine.write(f'state_directory = "{tmp_path}"\n{WORKS}')
    return machine


@pytest.fixture
def run(machine: Machine, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str, status: int = 0) -> str:
        assert cli.main(["dead-letters", *arguments]) == status
        done = capsys.readouterr()
        return done.out if status == 0 else done.err

    return run


def test_list_as_json(run: Any, store: Store) -> None:
    keep_letters(
        store, letter(properties=PROPERTIES, flags=2 | RETAIN), letter(b"\xff", route="", received=-1)
    )
    first, second = map(json.loads, run("list", "--json").splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "id": 1,
        "reason": "too large",
        "route": "r",
        "kafka_topic": "iot",
        "topic": "s/1",
        "qos": 1,
        "retained": True,
        "duplicate": False,
        "received": "2023-11-14T22:13:20Z",
        "properties": {
            "payload_format": 1,
            "message_expiry": 60,
            "content_type": "text/plain",
            "response_topic": "answer",
            "correlation_data_base64": "/w==",
            "user": [["a", "1"]],
        },
        "bytes": 4,
    }
    assert second["topic_base64"] == "/w=="
    assert (second["route"], second["kafka_topic"], second["received"]) == (None, None, None)


def test_list_takes_ids_and_filters(run: Any, store: Store) -> None:
    keep_letters(store, letter(), letter(route="q"), letter(route="q"))
    age(store, 1, 1000)
    chosen = ["list", "--json", "2", "3", "--route", "q", "--newer-than", "1h", "--reason", "large"]
    assert [json.loads(line)["id"] for line in run(*chosen).splitlines()] == [2, 3]
    assert [json.loads(line)["id"] for line in run("list", "--json", "--older-than", "1h").splitlines()] == [
        1
    ]
    assert [json.loads(line)["id"] for line in run("list", "--json", "--topic", "t").splitlines()] == []


def test_show_prints_the_payload_and_the_rest(run: Any, store: Store) -> None:
    keep_letters(store, letter(payload=b'{"t": 21.5}\x1b'), letter(payload=b"\xff" * 100))
    text = run("show", "1")
    assert "reason:      too large\n" in text
    assert r'payload:     {"t": 21.5}\x1b' in text
    assert "0xffff" in run("show", "2")
    assert base64.b64decode(json.loads(run("show", "2", "--json"))["payload_base64"]) == b"\xff" * 100


def test_show_of_an_id_that_is_not_there(run: Any, store: Store) -> None:
    assert (
        run("show", "7", status=1)
        == "bridge: there is no dead letter 7; bridge dead-letters list shows them\n"
    )


def test_export_writes_a_line_of_json_for_each_with_its_payload(run: Any, store: Store) -> None:
    keep_letters(store, letter(payload=b"\x00"), letter(payload=b""), letter(route="q"))
    lines = [json.loads(line) for line in run("export", "--route", "r").splitlines()]
    assert [(line["id"], base64.b64decode(line["payload_base64"])) for line in lines] == [
        (1, b"\x00"),
        (2, b""),
    ]


def test_purge_without_a_terminal_wants_yes(run: Any, store: Store, tmp_path: Path) -> None:
    keep_letters(store, letter(), letter(route="q"))
    said = "bridge: dead-letters purge: 2 dead letters, 8 B: nobody is there to be asked; add --yes\n"
    assert run("purge", status=2) == said
    assert numbers(tmp_path) == [1, 2]
    assert run("purge", "--yes", "--route", "q") == "1 removed\n"
    assert numbers(tmp_path) == [1]
    assert json.loads(run("purge", "--yes", "--json")) == {"removed": 1}
    assert run("purge") == "0 removed\n"


@pytest.mark.parametrize(("answer", "left"), [("y\n", []), ("\n", [1]), ("", [1])])
def test_purge_asks_at_a_terminal(
    run: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[int]
) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(dead_letters.sys, "stdin", Keyboard(answer))
    keep_letters(store, letter())
    run("purge")
    assert numbers(tmp_path) == left


@pytest.mark.parametrize("by_age", [("--older-than", "1h"), ("--newer-than", "30d")])
def test_purge_by_age_without_a_question_wants_a_clock_that_ntp_has_set(
    run: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_age: tuple[str, str]
) -> None:
    keep_letters(store, letter(), letter(), letter())
    for number in (1, 2, 3):
        age(store, number, (time.time_ns() - 2 * 3600 * 10**9) // 10**6)
    monkeypatch.setattr(dead_letters, "is_synchronised", lambda: False)
    said = run("purge", "--yes", *by_age, status=1)
    assert "3 dead letters" in said
    assert "timedatectl set-ntp true" in said
    assert numbers(tmp_path) == [1, 2, 3]
    assert run("purge", "--yes", "1") == "1 removed\n", "its age does not matter"
    asked: list[str] = []
    monkeypatch.setattr(dead_letters, "_agreed", asked.append)
    run("purge", *by_age)
    assert "NTP has not set this machine's clock" in asked[0]
    monkeypatch.setattr(dead_letters, "is_synchronised", lambda: True)
    assert run("purge", "--yes", *by_age) == "2 removed\n"


def test_what_is_buried_while_purge_asks_is_kept(
    run: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agreed(_: str) -> bool:
        keep_letters(store, letter())
        return True

    monkeypatch.setattr(dead_letters, "_agreed", agreed)
    keep_letters(store, letter())
    run("purge")
    assert numbers(tmp_path) == [2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], '"dead-letters": no such command; it goes on with list or show or export or'),
        (["lst"], '"dead-letters lst": no such command; did you mean dead-letters list? (see bridge --help)'),
        (["show"], "dead-letters show: wants one ID; bridge dead-letters list shows them"),
        (["show", "1", "2"], "dead-letters show: wants one ID"),
        (["list", "x"], '"x": no ID; bridge dead-letters list shows them'),
        (["list", "--yes"], "--yes: only with topics and dead-letters purge"),
        (
            ["export", "--json"],
            "--json: only with --dry-run and check and spool status and top and topics and consume and dead-"
            "letters list",
        ),
        (["list", "--topic", "a/#/b"], """--topic "a/#/b": '#' is allowed only at the end"""),
        (["replay", "--to", "a b"], '--to "a b": '),
        (["list", "--older-than", "x"], "argument --older-than: x: a duration is a number and a unit"),
    ],
)
def test_a_wrong_command_line(run: Any, arguments: list[str], said: str) -> None:
    assert run(*arguments, status=2).startswith(f"bridge: {said}")


# -- the page that explains them ----------------------------------------------------------------------

PAGE = pages.ROOT / "docs" / "how-to" / "dead-letters.md"
_WITH_NTP = """
import sys
from bridge.delivery import clock
clock.is_synchronised = lambda: True
from bridge.commands.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("command", pages.commands(PAGE))
def test_each_command_of_the_page_does_what_it_says(
    store: Store, machine: Machine, tmp_path: Path, command: str
) -> None:
    """Runs `replay` with an empty disk, so that it does not contact Kafka."""
    if "jq" in command and not shutil.which("jq"):
        pytest.skip("there is no jq (apt-get install jq)")
    replays = "replay" in command
    if not replays:
        keep_letters(
            store, letter(b"sensors/1/temp", route="temperatures", reason="larger than max.message.bytes")
        )
        keep_letters(store, letter())
        age(store, 2, 1000)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "bridge"
    program.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' -c '{_WITH_NTP}' \"$@\" --config '{machine.file}'\n"
    )
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(pages.ROOT),
    }
    if "purge" in command:
        command += " --yes"
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    match command.split()[2]:
        case "list":
            assert len(done.stdout.splitlines()) == 2 + (command == "bridge dead-letters list")
        case "show":
            assert "21.5" in done.stdout
        case "export":
            assert len((tmp_path / "dead-letters.jsonl").read_text().splitlines()) == 2
        case "purge":
            assert numbers(tmp_path) == [1]
        case _:
            assert done.stdout == "0 delivered and removed, 0 stay\n"
