"""The journal in the database: what a start finds, and who may go on with it."""

import sqlite3
from pathlib import Path
from threading import Event as Signal
from typing import Any, NamedTuple, TypeVar

import pytest

from bridge.delivery.intent import Intent
from bridge.delivery.journal import Journal, Journaled, Recalled, Standing
from bridge.delivery.ledger import Ledger
from bridge.delivery.results import Moved, Refused, Written
from bridge.delivery.segment import cut
from bridge.errors import SpoolUnusable
from bridge.loop import Loop
from bridge.message import Message
from bridge.observe.events import Event
from bridge.settings import SpoolSettings
from bridge.spool import disk_space, disk_thread, schema
from bridge.spool.spool import Spool
from bridge.spool.store import Store
from tests.harness.conditions import wait_until

Result = TypeVar("Result")


class Run(NamedTuple):
    spool: Spool
    journal: Journal
    ledger: Ledger
    loop: Loop

    def receive(self, number: int, qos: int = 1, payload: bytes = b"v") -> Message:
        message = Message.of(b"s/1", qos << 1, number, None, payload)
        message.sequence, message.timestamp = number, -1
        self.ledger.receive([message])
        return message

    def write(self, *messages: Message) -> None:
        self.spool.write("sensors", list(cut(messages)))
        self.until(Written)

    def until(self, kind: type[Result]) -> Result:
        def is_there() -> bool:
            self.spool.turn(0.0)
            self.loop.wait(0.01)
            return any(isinstance(each, kind) for each in self.spool.results)

        wait_until(is_there, 10.0, "the disk has answered")
        for result in self.spool.results:
            if isinstance(result, Journaled):
                self.journal.committed(result)
        found = next(each for each in self.spool.results if isinstance(each, kind))
        self.spool.results.clear()
        return found

    def kill(self) -> None:
        """End it without a word to the journal."""
        self.spool.journal = None
        self.spool.close([])
        self.loop.close()


def start(directory: Path, session: str = "me", on: bool = True, leads_to: str = "sensors") -> Run:
    loop = Loop()
    spool = Spool(
        SpoolSettings(keep_free=0),
        directory,
        loop,
        f"routes to {leads_to}",
        lambda _: (leads_to, ""),
        session,
        keeps_journal=on,
    )
    ledger = Ledger(100)
    journal = Journal(ledger, spool.stand)
    journal.begin(spool.recalled)
    spool.journal = journal if on else None
    return Run(spool, journal, ledger, loop)


def connect(run: Run, session_present: bool = True) -> None:
    run.journal.connecting()
    run.journal.connected(session_present, window_known=True)


def identifiers(found: Recalled) -> list[int]:
    return [entry.packet_id for entry in found.entries]


def version(directory: Path) -> int:
    with sqlite3.connect(directory / Store.FILE) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def test_what_was_on_disk_is_recalled_after_a_kill(tmp_path: Path) -> None:
    run = start(tmp_path)
    connect(run, session_present=False)
    run.write(run.receive(7), run.receive(8, qos=2))
    run.kill()
    again = start(tmp_path)
    assert identifiers(again.spool.recalled) == [7, 8]
    assert again.spool.recalled.facts.last_id == 8
    again.kill()


def test_an_entry_is_written_with_its_message_or_not_at_all(tmp_path: Path) -> None:
    run = start(tmp_path)
    connect(run, session_present=False)
    run.journal.add("what the disk never gets", [run.receive(7)])
    run.write(run.receive(8))
    run.kill()
    again = start(tmp_path)
    assert identifiers(again.spool.recalled) == [8]
    again.kill()


def test_an_entry_stays_although_the_commit_that_wrote_it_was_reported_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message is on disk, and is written again only a little later."""
    run = start(tmp_path)
    connect(run, session_present=False)
    write = Store.write

    def fails_too_late(store: Store, *rest: Any, **named: Any) -> None:
        write(store, *rest, **named)
        raise SpoolUnusable("input/output error")

    run.journal.release(7, is_known=False)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", fails_too_late)
        run.spool.write("sensors", list(cut([run.receive(8)])))
        run.until(Refused)
    run.spool.intend(Intent(1, "run", {}, 0, "sensors"), lambda _: None)  # another commit comes first
    run.until(Journaled)
    run.kill()
    again = start(tmp_path)
    assert identifiers(again.spool.recalled) == [8]
    again.kill()


def test_a_pubrel_is_written_although_nothing_else_is_to_be_written(tmp_path: Path) -> None:
    run = start(tmp_path)
    connect(run, session_present=False)
    run.write(run.receive(7, qos=2))
    run.journal.release(7, is_known=True)
    run.until(Journaled)
    run.kill()
    again = start(tmp_path)
    assert identifiers(again.spool.recalled) == []
    again.kill()


def test_connect_and_connack_are_on_disk(tmp_path: Path) -> None:
    run = start(tmp_path)
    connect(run, session_present=False)
    run.write(run.receive(7))
    run.journal.connecting()
    run.kill()
    run = start(tmp_path)
    assert run.spool.recalled.standing is Standing.ASKED
    assert identifiers(run.spool.recalled) == [7]
    connect(run)  # it may be another session: the bridge subscribes, and is killed
    run.kill()
    run = start(tmp_path)
    assert identifiers(run.spool.recalled) == []
    assert run.spool.recalled.standing is Standing.KNOWN
    run.kill()


def test_a_session_that_is_there_is_known_again_at_once(tmp_path: Path) -> None:
    run = start(tmp_path)
    connect(run, session_present=False)
    run.write(run.receive(7))
    connect(run)
    run.kill()
    again = start(tmp_path)
    assert again.spool.recalled.standing is Standing.KNOWN
    assert identifiers(again.spool.recalled) == [7]
    again.kill()


def test_a_lost_session_is_gone_at_once(tmp_path: Path) -> None:
    run = start(tmp_path)
    connect(run, session_present=False)
    run.write(run.receive(7))
    connect(run, session_present=False)
    run.kill()
    again = start(tmp_path)
    assert identifiers(again.spool.recalled) == []
    again.kill()


def test_another_session_finds_nothing(tmp_path: Path) -> None:
    run = start(tmp_path)
    connect(run, session_present=False)
    run.write(run.receive(7))
    run.kill()
    other = start(tmp_path, session="other")
    assert identifiers(other.spool.recalled) == []
    other.kill()
    again = start(tmp_path)
    assert identifiers(again.spool.recalled) == []
    again.kill()


def test_the_default_mode_gets_it_once_and_leaves_a_file_as_older_packages_know_it(tmp_path: Path) -> None:
    run = start(tmp_path)
    connect(run, session_present=False)
    run.write(run.receive(7))
    run.kill()
    assert version(tmp_path) == schema.WITH_INTENTS
    off = start(tmp_path, on=False)
    assert identifiers(off.spool.recalled) == [7]
    off.kill()
    assert version(tmp_path) == schema.VERSION
    again = start(tmp_path)
    assert identifiers(again.spool.recalled) == []
    again.kill()


def test_a_package_that_knows_no_journal_refuses_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(tmp_path).kill()
    monkeypatch.setattr(schema, "WITH_INTENTS", 1)  # as such a package has it
    with pytest.raises(SpoolUnusable, match="newer version"):
        Store(tmp_path)


def test_a_disk_that_fails_keeps_the_bridge_from_connecting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(tmp_path)

    def fails(*_: object) -> None:
        raise SpoolUnusable("broken")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "stand", fails)
        with pytest.raises(SpoolUnusable, match="broken"):
            run.journal.connecting()
    run.journal.connecting()
    run.kill()


def test_a_disk_that_hangs_when_the_bridge_connects_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the log would only tell that the bridge does not connect, and not why."""
    said: list[Event] = []
    monkeypatch.setattr(disk_thread, "log", lambda event, **_: said.append(event))
    monkeypatch.setattr(disk_thread, "_STAND_TIMEOUT", 0.05)
    run = start(tmp_path)
    goes_on = Signal()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "stand", lambda *_: goes_on.wait(10.0))
        for _ in range(2):
            with pytest.raises(SpoolUnusable, match="did not answer"):
                run.journal.connecting()
        assert said == [Event.SPOOL_SLOW], "once a minute"
        goes_on.set()
        run.kill()


def test_connect_opens_a_file_that_could_not_be_opened_at_the_start_as_a_start_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages go to the topics of the present routes, and nothing is recalled from it any more."""
    run = start(tmp_path)
    connect(run, session_present=False)
    run.write(run.receive(7))
    run.kill()
    opens = Store.__init__

    def fails(*_: object) -> None:
        raise SpoolUnusable("broken")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "__init__", fails)
        run = start(tmp_path, leads_to="new")
    assert Store.__init__ is opens
    run.journal.connecting()
    moved = run.until(Moved)
    assert [(each.topic, each.messages) for each in moved.found] == [("new", 1)]
    run.kill()
    again = start(tmp_path, leads_to="new")
    assert again.spool.recalled.standing is Standing.ASKED
    assert identifiers(again.spool.recalled) == []
    again.kill()


def test_a_disk_that_is_full_of_what_rows_have_left_takes_messages_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else would empty it: there is no quiet moment while messages wait for it."""
    monkeypatch.setattr(disk_thread, "_AGAIN_WHEN_FULL", 0.01)
    run = start(tmp_path)
    connect(run, session_present=False)
    messages = [run.receive(number, payload=b"x" * 10_000) for number in range(1, 101)]
    segments = list(cut(messages))
    run.spool.write("sensors", segments)
    run.until(Written)
    run.spool.delete("sensors", segments)
    run.write(run.receive(101))

    def room(_: Path, *__: object) -> tuple[int, str, str]:
        """A disk without any room but what the bridge's own files leave, and the reserve has its own."""
        used = sum(each.stat().st_size for each in tmp_path.iterdir() if each.suffix != ".reserve")
        return 500_000 - used, "spool.keep_free", "the disk is full"

    monkeypatch.setattr(disk_space, "room", room)
    run.write(run.receive(102))
    run.kill()
