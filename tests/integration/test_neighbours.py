"""What the bridge learns from HAProxy (real) and from EMQX's API (a scripted server)."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.neighbours import answer
from bridge.neighbours import neighbours as module
from bridge.neighbours.neighbours import Neighbours
from bridge.settings import Settings
from bridge.status.mqtt_faults import node_state
from bridge.status.snapshot import BrokerNode
from tests.harness.brokers import Brokers
from tests.harness.conditions import wait_until
from tests.harness.emqx_api import KEY, EmqxApi
from tests.harness.haproxy import CONSOLE, PASSWORD, USER, HAProxy
from tests.unit.neighbours.test_emqx_session import FIVE, FOUR


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HAPROXY_PERIOD", "EMQX_PERIOD", "LONGEST_PERIOD", "GUESS_PERIOD"):
        monkeypatch.setattr(module, name, 0.1)
    monkeypatch.setattr(module, "LOG_AFTER", 0.0)


@pytest.fixture
def asking() -> Iterator[Callable[..., Neighbours]]:
    """asking(mqtt={...}, haproxy={...}, emqx={...}) starts the threads of such settings."""
    started = []

    def start(**tables: Any) -> Neighbours:
        mqtt = {"host": "127.0.0.1", "port": 1} | tables.pop("mqtt", {})
        neighbours = Neighbours(
            Settings(mqtt=mqtt, kafka={"bootstrap_servers": "k:9092"}, routes=[_ROUTE], **tables)
        )
        started.append(neighbours)
        neighbours.start()
        return neighbours

    yield start
    for neighbours in started:
        neighbours.close()


_ROUTE = {"name": "all", "filter": "#", "topic": "mqtt"}


# -- HAProxy ---------------------------------------------------------------------------------------


def _is(neighbours: Neighbours, number: int, status: str) -> Callable[[], bool]:
    return lambda: any(node.name == f"server{number}" and node.status == status for node in neighbours.nodes)


def _wait(neighbours: Neighbours, number: int, status: str) -> BrokerNode:
    wait_until(_is(neighbours, number, status), 60, lambda: f"server{number} is {status}: {neighbours.nodes}")
    return neighbours.nodes[number - 1]


def test_without_any_setting_the_nodes_of_the_shipped_file_are_seen_dead_hung_in_maintenance_and_back(
    asking: Callable[..., Neighbours], emq: Brokers, haproxy: HAProxy
) -> None:
    neighbours = asking(mqtt={"host": haproxy.host.address, "port": 1884})
    assert _wait(neighbours, 1, "UP").is_up
    with emq.node(1).dead():
        assert node_state(_wait(neighbours, 1, "DOWN")) == "is down"
        assert neighbours.nodes[0].state_age < 30
        assert neighbours.nodes[1].is_up
    _wait(neighbours, 1, "UP")
    with emq.node(2).hung():
        assert node_state(_wait(neighbours, 2, "DOWN")) == "hangs"
    _wait(neighbours, 2, "UP")
    haproxy.ask("set server mqtt-kafka/server2 state maint")
    assert not _wait(neighbours, 2, "MAINT").is_up
    haproxy.ask("set server mqtt-kafka/server2 state ready")
    _wait(neighbours, 2, "UP")


def test_the_console_with_its_password_tells_the_same(
    asking: Callable[..., Neighbours], haproxy: HAProxy, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("wrong\n")
    url = f"http://{haproxy.host.address}:{CONSOLE}/haproxy?stats;csv"
    with capture_logs() as lines:
        neighbours = asking(haproxy={"stats": url, "username": USER, "password_file": password})
        wait_until(lambda: "HTTP status 401" in _trouble(neighbours), 10, "the password is refused")
        wait_until(lambda: lines, 10, "the refusal is logged")
    assert "haproxy.password_file" in lines[0]["way_out"]
    password.write_text(PASSWORD)
    _wait(neighbours, 1, "UP")
    assert _trouble(neighbours) == ""


def test_a_haproxy_that_dies_is_logged_once_and_its_last_answer_stays(
    asking: Callable[..., Neighbours], haproxy: HAProxy
) -> None:
    neighbours = asking(mqtt={"host": haproxy.host.address, "port": 1884})
    _wait(neighbours, 1, "UP")
    with capture_logs() as lines, haproxy.dead():
        wait_until(lambda: "refused" in _trouble(neighbours), 10, "the death is noticed")
        wait_until(lambda: _age(neighbours) > 1, 10, "HAProxy was asked several times")
        assert len(neighbours.nodes) == 2
    assert [line["event"] for line in lines].count("neighbour.unavailable") == 1
    wait_until(lambda: not _trouble(neighbours), 10, "HAProxy answers again")


def _trouble(neighbours: Neighbours) -> str:
    return neighbours.haproxy.trouble if neighbours.haproxy else ""


def _age(neighbours: Neighbours) -> float:
    return (neighbours.haproxy.asked_age if neighbours.haproxy else None) or 0.0


def test_a_guess_that_nobody_answers_is_neither_shown_nor_logged(asking: Callable[..., Neighbours]) -> None:
    with capture_logs() as lines:
        neighbours = asking(mqtt={"host": "127.30.2.250", "port": 1884})
        asked = neighbours._haproxy
        assert asked is not None
        wait_until(lambda: asked.last.trouble, 10, "the guess failed")
    assert neighbours.haproxy is None
    assert not lines


def test_no_request_goes_to_a_broker_without_a_balancer(asking: Callable[..., Neighbours]) -> None:
    assert asking(mqtt={"host": "127.0.0.1", "port": 8883})._haproxy is None


# -- EMQX's API, and servers that misbehave --------------------------------------------------------


@pytest.fixture
def api() -> Iterator[EmqxApi]:
    server = EmqxApi({})
    with server.serving():
        yield server


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    return file


def _emqx_trouble(neighbours: Neighbours) -> str:
    assert neighbours.emqx is not None
    return neighbours.emqx.trouble


@pytest.mark.parametrize(("version", "shape"), [("v4", FOUR), ("v5", FIVE)])
def test_both_versions_of_emqx_tell_what_waits(
    asking: Callable[..., Neighbours], api: EmqxApi, key_file: Path, version: str, shape: object
) -> None:
    api.script[f"/api/{version}/clients/a%2Fb"] = 200, shape
    neighbours = asking(mqtt={"client_id": "a/b"}, emqx={"api": api.url, "key_file": key_file})
    queue = wait_until(lambda: neighbours.queue, 10, "EMQX has answered")
    assert (queue.length, queue.limit, queue.dropped, queue.window_limit) == (250, 1000, 7, 33)
    seen = len(api.asked)
    wait_until(lambda: len(api.asked) >= seen + 3, 10, "EMQX was asked again")
    assert f"/api/{'v5' if version == 'v4' else 'v4'}/clients/a%2Fb" not in api.asked[seen + 1 :]


def test_a_wrong_key_is_named_without_its_secret_and_a_new_file_needs_no_restart(
    asking: Callable[..., Neighbours], api: EmqxApi, key_file: Path
) -> None:
    api.script["/api/v5/clients/b"] = 200, FIVE
    key_file.write_text("other:geheim-0815")
    with capture_logs() as lines:
        neighbours = asking(mqtt={"client_id": "b"}, emqx={"api": api.url, "key_file": key_file})
        line = wait_until(lambda: next(iter(lines), None), 10, "the refusal is logged")
        wait_until(lambda: len(api.asked) > 6, 10, "EMQX was asked several times")
    assert line["reason"] == "EMQX refuses the API key other: HTTP status 401"
    assert "geheim" not in str(lines)
    assert len(lines) == 1
    key_file.write_text(KEY)
    wait_until(lambda: neighbours.queue, 10, "the new key is used")


@pytest.mark.parametrize(
    ("path", "status", "shape"),
    [
        ("/api/v5/clients/b", 404, {"code": "CLIENTID_NOT_FOUND", "message": "Client ID not found"}),
        ("/api/v4/clients/b", 200, {"code": 0, "data": []}),
    ],
)
def test_a_session_that_ends_has_no_queue_any_more(
    asking: Callable[..., Neighbours], api: EmqxApi, key_file: Path, path: str, status: int, shape: object
) -> None:
    api.script[path] = 200, FIVE
    neighbours = asking(mqtt={"client_id": "b"}, emqx={"api": api.url, "key_file": key_file})
    wait_until(lambda: neighbours.queue, 10, "EMQX has answered")
    api.script[path] = status, shape
    wait_until(lambda: neighbours.queue is None, 10, "the queue is gone")
    assert _emqx_trouble(neighbours) == "EMQX has no session of the client id b"
    api.script[path] = 200, FIVE | {"mqueue_dropped": 2}
    queue = wait_until(lambda: neighbours.queue, 10, "there is a session again")
    assert queue.dropped == 9  # 7 of the old session


def test_an_answer_that_is_too_old_is_not_shown_as_what_is_so_now(
    asking: Callable[..., Neighbours], api: EmqxApi, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.script["/api/v5/clients/b"] = 200, FIVE
    neighbours = asking(mqtt={"client_id": "b"}, emqx={"api": api.url, "key_file": key_file})
    wait_until(lambda: neighbours.queue, 10, "EMQX has answered")
    api.script["/api/v5/clients/b"] = 500, b""
    api.script["/api/v4/clients/b"] = 500, b""
    wait_until(lambda: _emqx_trouble(neighbours), 20, "EMQX does not answer any more")
    assert neighbours.queue  # a short silence tells nothing
    monkeypatch.setattr(module, "STALE_AFTER", 0.1)
    wait_until(lambda: neighbours.queue is None, 10, "the queue is no longer shown")


def test_no_redirect_is_followed(asking: Callable[..., Neighbours], api: EmqxApi, key_file: Path) -> None:
    api.script["/api/v5/clients/b"] = 302, b""
    api.script["/elsewhere"] = 200, FIVE
    neighbours = asking(mqtt={"client_id": "b"}, emqx={"api": api.url, "key_file": key_file})
    wait_until(lambda: _emqx_trouble(neighbours), 10, "the redirect is trouble")
    assert neighbours.queue is None
    assert "/elsewhere" not in api.asked


def test_an_endless_answer_is_cut(
    asking: Callable[..., Neighbours], api: EmqxApi, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "MOST_BYTES", 1000)
    api.script["/api/v5/clients/b"] = 200, b"x" * 5000
    neighbours = asking(mqtt={"client_id": "b"}, emqx={"api": api.url, "key_file": key_file})
    wait_until(lambda: "longer than 1000 bytes" in _emqx_trouble(neighbours), 10, "the answer is cut")


def test_a_server_that_accepts_and_says_nothing_is_left(
    asking: Callable[..., Neighbours], key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        neighbours = asking(emqx={"api": url, "key_file": key_file})
        wait_until(lambda: "no whole answer" in _emqx_trouble(neighbours), 10, "the silence is noticed")


@pytest.mark.parametrize("text", ["", "alone", ":secret", "key:"])
def test_a_key_file_of_another_form_is_trouble_and_shows_nothing_of_it(
    asking: Callable[..., Neighbours], api: EmqxApi, key_file: Path, text: str
) -> None:
    key_file.write_text(text)
    neighbours = asking(emqx={"api": api.url, "key_file": key_file})
    wait_until(lambda: f"cannot use {key_file}" in _emqx_trouble(neighbours), 10, "the file is trouble")
    assert "secret:" not in _emqx_trouble(neighbours)
    assert not api.asked
