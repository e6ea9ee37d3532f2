"""The record of the filters that the broker's session has."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.mqtt import subscription_record as record_module
from bridge.mqtt.subscription_record import SubscriptionRecord

SESSION = "bridge at broker:1884"
FILTERS = {"a/#": (1, 0), "b": (2, 77)}


def test_it_outlives_the_process(tmp_path: Path) -> None:
    SubscriptionRecord(tmp_path, SESSION).record(FILTERS, {"c"})
    found = SubscriptionRecord(tmp_path, SESSION)
    assert (found.known, found.applied, found.uncertain) == (True, FILTERS, {"c"})


def test_without_a_directory_it_does_not(tmp_path: Path) -> None:
    record = SubscriptionRecord(None, SESSION)
    record.record(FILTERS, set())
    assert record.applied == FILTERS
    assert list(tmp_path.iterdir()) == []


def test_a_new_machine_knows_nothing(tmp_path: Path) -> None:
    assert not SubscriptionRecord(tmp_path / "not there", SESSION).known


def test_the_directory_is_made_where_it_is_missing(tmp_path: Path) -> None:
    SubscriptionRecord(tmp_path / "new", SESSION).record(FILTERS, set())
    assert SubscriptionRecord(tmp_path / "new", SESSION).known


@pytest.mark.parametrize("other", ["other at broker:1884", "bridge at elsewhere:1884"])
def test_the_record_of_another_session_says_nothing(tmp_path: Path, other: str) -> None:
    SubscriptionRecord(tmp_path, other).record(FILTERS, set())
    found = SubscriptionRecord(tmp_path, SESSION)
    assert (found.known, found.applied) == (False, {})


CORRUPT = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"session": "bridge at broker:1884"}',
    b'{"session": "bridge at broker:1884", "applied": {"a": [1, 0]}}',
    b'{"session": "bridge at broker:1884", "applied": [], "uncertain": []}',
    b'{"session": "bridge at broker:1884", "applied": {"a": 1}, "uncertain": []}',
    b'{"session": "bridge at broker:1884", "applied": {"a": ["x", 0]}, "uncertain": []}',
    b'{"session": "bridge at broker:1884", "applied": {"a": [1, 0]}, "uncertain": 5}',
]


@pytest.mark.parametrize("content", CORRUPT)
def test_a_corrupt_file_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "subscriptions.json").write_bytes(content)
    found = SubscriptionRecord(tmp_path, SESSION)
    assert (found.known, found.applied, found.uncertain) == (False, {}, set())


def test_what_did_not_change_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = SubscriptionRecord(tmp_path, SESSION)
    record.record(FILTERS, set())
    (tmp_path / "subscriptions.json").unlink()
    record.record(dict(FILTERS), set())
    assert not (tmp_path / "subscriptions.json").exists()


def test_file_and_directory_are_synced_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(record_module.os, "fsync", fsync)
    SubscriptionRecord(tmp_path, SESSION).record(FILTERS, set())
    assert synced == ["subscriptions.new", tmp_path.name]


def test_what_cannot_be_written_is_no_longer_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = SubscriptionRecord(tmp_path, SESSION)
    record.record(FILTERS, set())

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record_module.os, "fsync", fsync)
    record.record({}, set())
    assert record.applied == {}  # the process still knows the right state
    assert not SubscriptionRecord(tmp_path, SESSION).known


def test_a_directory_that_can_not_be_written_is_logged_once_until_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = SubscriptionRecord(tmp_path, SESSION)

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    with capture_logs() as lines:
        for fails in (True, False, True):
            with monkeypatch.context() as patch:
                if fails:
                    patch.setattr(record_module.os, "fsync", fsync)
                record.record({}, {str(fails)})
                record.record(FILTERS, set())
    assert [line["event"] for line in lines] == ["mqtt.state_unwritable"] * 2


def test_a_death_in_the_middle_of_writing_leaves_the_old_record(tmp_path: Path) -> None:
    SubscriptionRecord(tmp_path, SESSION).record(FILTERS, set())
    (tmp_path / "subscriptions.new").write_text('{"sess')
    assert SubscriptionRecord(tmp_path, SESSION).applied == FILTERS
