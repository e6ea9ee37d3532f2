"""`bridge --dry-run` tells a person at a terminal that it is connected and waits; nobody else is told."""

import io
from typing import Any

import pytest

from bridge.commands.dry_run import DryRun
from bridge.mqtt.session import Session
from bridge.settings import Settings


class Stream(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def said_by(
    monkeypatch: pytest.MonkeyPatch,
    *filters: str,
    is_terminal: bool = True,
    json: bool = False,
    refused: tuple[str, ...] = (),
    connections: int = 1,
) -> str:
    """What standard error has after the broker has answered SUBSCRIBE; nothing may be on the output."""
    settings = Settings.model_validate(
        {
            "mqtt": {"host": "emq", "port": 1883},
            "kafka": {"bootstrap_servers": "unused:9092"},
            "routes": [{"name": f"r{n}", "filter": each, "topic": "mqtt"} for n, each in enumerate(filters)],
        }
    )
    output, errors = Stream(is_terminal), Stream(is_terminal)
    monkeypatch.setattr("sys.stderr", errors)
    monkeypatch.setattr(Session, "refused", property(lambda _: refused))
    command: Any = DryRun(settings, None, json, "garden-dry-run", output)
    for _ in range(connections):
        command.subscribed()
    assert output.getvalue() == ""
    return errors.getvalue()


@pytest.mark.parametrize("json", [False, True])
def test_a_terminal_is_told_where_it_is_connected_and_that_it_waits(
    monkeypatch: pytest.MonkeyPatch, json: bool
) -> None:
    assert said_by(monkeypatch, "a/#", "b/+", json=json) == (
        'connected to emq:1883 as garden-dry-run with MQTT 5, subscribed to "a/#" and "b/+"; waiting for'
        " messages, Ctrl-C ends\n"
    )


def test_a_second_connection_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said_by(monkeypatch, "a/#", connections=3).count("\n") == 1


def test_a_log_file_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said_by(monkeypatch, "a/#", is_terminal=False) == ""


def test_many_filters_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    said = said_by(monkeypatch, *(f"t{n}/#" for n in range(9)))
    assert 'subscribed to "t0/#", "t1/#", "t2/#" and 6 more; ' in said


def test_a_filter_that_the_broker_refused_is_not_called_subscribed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'subscribed to "b/#"; ' in said_by(monkeypatch, "a/#", "b/#", refused=("a/#",))
    assert said_by(monkeypatch, "a/#", refused=("a/#",)) == ""
