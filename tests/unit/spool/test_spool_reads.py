"""Reads from disk that fail: for a moment, for a minute, and while writes fail too."""

import pytest

from bridge.delivery.results import ReadBack, Refused
from bridge.delivery.segment import Wanted
from bridge.errors import SpoolUnusable
from bridge.spool import disk_thread as disk_thread_module
from bridge.spool.store import Store
from tests.unit.spool.test_spool import ALL, World, message, world

__all__ = ["world"]  # a fixture


def failing(monkeypatch: pytest.MonkeyPatch, times: float) -> None:
    """The next `times` reads fail; the spool retries soon."""
    read, tried = Store.read, []

    def fails(*arguments: object) -> object:
        tried.append(arguments)
        if len(tried) <= times:
            raise SpoolUnusable("Input/output error")
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "read", fails)
    monkeypatch.setattr(disk_thread_module, "_TRY_AGAIN", 0.01)


def unwritable(*_: object, **__: object) -> None:
    raise SpoolUnusable("Input/output error")


def test_what_cannot_be_read_for_a_moment_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write(message(1))
    world.result()
    failing(monkeypatch, times=20)
    assert [each.sequence for each in world.rows()] == [1]
    assert "spool.unreadable" not in capsys.readouterr().out


def test_what_cannot_be_read_for_a_minute_is_left_to_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write(message(1))
    world.result()
    failing(monkeypatch, times=float("inf"))
    monkeypatch.setattr(disk_thread_module, "_TIMEOUT", 0.1)
    assert world.rows() == []
    assert "spool.unreadable" in capsys.readouterr().out


def test_what_could_not_be_written_long_ago_makes_nobody_impatient(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write(message(1))
    world.result()
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", unwritable)
        world.write(message(2))
        assert isinstance(world.result(), Refused)  # then Kafka takes the message: nothing is left to write
    failing(monkeypatch, times=20)
    assert [each.sequence for each in world.rows()] == [1]


def test_nothing_is_waited_for_that_cannot_be_read_while_nothing_can_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise new messages would wait in EMQ's queue, which is short."""
    world.write(message(1))
    world.result()
    monkeypatch.setattr(Store, "write", unwritable)
    failing(monkeypatch, times=float("inf"))
    world.spool.read("sensors", Wanted(0, ALL, 10_000, 10_000_000))
    world.write(message(2))
    assert {type(world.result()), type(world.result())} == {Refused, ReadBack}
    assert "spool.unreadable" in capsys.readouterr().out
