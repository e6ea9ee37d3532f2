"""What the thread that asks a neighbour makes of answers and failures."""

import pytest
from structlog.testing import capture_logs

from bridge.errors import NoThread
from bridge.neighbours import neighbours
from bridge.neighbours.neighbours import _Asked


def test_an_answer_that_the_bridge_can_not_read_is_told_and_ends_nothing() -> None:
    def question() -> int:
        raise OverflowError("SESAME")

    asked = _Asked("EMQX", "http://e:18083", question, 5.0)
    assert asked.turn() == 5.0
    neighbour = asked.neighbour(0.0)
    assert neighbour is not None
    assert neighbour.trouble == "the bridge can't read its answer: OverflowError"


def test_the_query_of_an_url_may_hold_a_key_and_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NoThread

    monkeypatch.setattr(neighbours, "start_thread", refuse)
    with capture_logs() as logged:
        _Asked("HAProxy", "http://h:8081/stats?key=SESAME", lambda: 1, 5.0).start()
    assert [line["url"] for line in logged] == ["http://h:8081/stats"]
