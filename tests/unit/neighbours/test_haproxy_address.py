"""What the log says where haproxy.stats names another page of HAProxy's."""

import pytest
from structlog.testing import capture_logs

from bridge.neighbours import neighbours
from bridge.neighbours.answer import Answer
from bridge.neighbours.neighbours import Neighbours
from bridge.settings import Settings

CSV = b"# pxname,svname,scur,status,lastchg,addr,\nmqtt-kafka,server1,1,UP,1,,\n"


def asked(stats: str) -> Neighbours:
    return Neighbours(
        Settings(
            mqtt={"host": "emq"},
            kafka={"bootstrap_servers": "k"},
            routes=[{"name": "r", "filter": "#", "topic": "t"}],
            haproxy={"stats": stats},
        )
    )


def test_the_console_as_a_page_is_answered_with_its_address_as_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "LOG_AFTER", 0.0)
    monkeypatch.setattr(
        neighbours, "ask", lambda url, _: Answer(200, CSV if url.endswith("?stats;csv") else b"<html>")
    )
    page = asked("http://emq:8081/haproxy?stats")
    assert page._haproxy
    with capture_logs() as lines:
        page._haproxy.turn()
    (line,) = lines
    assert line["url"] == "http://emq:8081/haproxy?stats", "what ;csv goes behind is shown"
    assert line["way_out"].endswith("/haproxy?stats;csv")
    followed = asked(line["url"] + ";csv")
    assert followed._haproxy
    followed._haproxy.turn()
    assert [node.name for node in followed.nodes] == ["server1"]


def test_a_query_of_the_users_own_is_not_shown() -> None:
    assert neighbours._shown("http://emq:8081/metrics?key=secret") == "http://emq:8081/metrics"
