"""What each request gets."""

import base64
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.http.site import Answer, Request, Site
from bridge.settings import HttpSettings
from bridge.status.metrics import PREFIX
from bridge.status.snapshot import Snapshot
from tests.harness.snapshots import emq_down, healthy, kafka_down

Latest = Callable[[], Snapshot | None]


def ask(
    path: str,
    settings: HttpSettings | None = None,
    latest: Latest = healthy,
    method: str = "GET",
    **headers: str,
) -> Answer:
    asked = {"host": "127.0.0.1:9464", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Site(settings or HttpSettings(), latest).answer(Request(method, path, asked))


@pytest.mark.parametrize(
    "path", ["/", "/runbook", "/page.css", "/page.js", "/icon.svg", "/status.json", "/livez"]
)
def test_what_exists_is_answered(path: str) -> None:
    answer = ask(path)
    assert (answer.status, bool(answer.body)) == (200, True)


@pytest.mark.parametrize(
    "path", ["/nothing", "//", "/page/index.html", "/../bridge.toml", "/%2e%2e/", "*", ""]
)
def test_what_does_not_exist_is_not_found(path: str) -> None:
    assert ask(path).status == 404


def test_a_query_does_not_matter() -> None:
    assert ask("/livez?verbose=1").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get"])
def test_only_get_and_head_are_allowed(method: str) -> None:
    answer = ask("/", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:9464", "192.168.1.7:80", "[::1]:9464", "[::1]", ""),
        *("localhost", "LOCALHOST:9464", "a.localhost", "localhost.:1"),
    ],
)
def test_this_machine_may_be_called_by_address_and_localhost(host: str) -> None:
    assert ask("/", host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:9464", "@"),
        *("[::1].evil.example", "localhost:80:evil.example", "127.0.0.1:9464@evil.example", ":evil.example"),
    ],
)
def test_a_foreign_name_that_points_here_reads_nothing(host: str) -> None:
    answer = ask("/status.json", host=host)
    assert answer.status == 403
    assert b"http.hosts" in answer.body


def test_a_name_of_the_settings_and_the_machines_own_name_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Pi7.home")
    settings = HttpSettings(hosts=["Bridge.example"])
    for name in ("bridge.example:9464", "pi7", "pi7.home", "pi7.local", "PI7.LOCAL:9464"):
        assert ask("/", settings, host=name).status == 200
    assert ask("/", settings, host="other.example").status == 403


def test_a_browser_that_has_the_file_gets_it_once() -> None:
    first = ask("/page.js")
    again = ask("/page.js", if_none_match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def locked(tmp_path: Path) -> HttpSettings:
    file = tmp_path / "password"
    file.write_text("s3cret:ü\n")
    return HttpSettings(username="ann", password_file=file)


def test_the_right_password_opens_everything(locked: HttpSettings) -> None:
    for path in ("/", "/status.json", "/livez"):
        assert ask(path, locked, authorization=_basic("ann", "s3cret:ü")).status == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Bearer x",
        _basic("ann", ""),
        _basic("bob", "s3cret:ü"),
        _basic("ann", "S3cret:ü"),
    ],
)
def test_any_other_password_opens_nothing(locked: HttpSettings, header: str) -> None:
    answer = ask("/livez", locked, authorization=header)
    assert answer.status == 401
    assert answer.headers["Www-Authenticate"].startswith("Basic realm=")


def test_a_new_password_works_at_once_and_a_lost_file_lets_nobody_in(locked: HttpSettings) -> None:
    site = Site(locked, healthy)
    assert locked.password_file is not None
    locked.password_file.write_text("new")

    def status(password: str) -> int:
        headers = {"host": "localhost", "authorization": _basic("ann", password)}
        return site.answer(Request("GET", "/livez", headers)).status

    assert (status("s3cret:ü"), status("new")) == (401, 200)
    locked.password_file.unlink()
    assert status("new") == 503
    assert str(locked.password_file).encode() not in ask("/livez", locked).body


def test_the_document_is_made_once_for_each_snapshot_and_tells_its_age() -> None:
    snapshot = dataclasses.replace(healthy(), made=time.monotonic() - 3.2)
    site = Site(HttpSettings(), lambda: snapshot)
    request = Request("GET", "/status.json", {"host": "localhost"})
    first, second = site.answer(request), site.answer(request)
    assert first.body is second.body
    assert first.headers == {"Age": "3", "Cache-Control": "no-store"}
    snapshot = kafka_down()
    assert json.loads(site.answer(request).body)["snapshot"]["kafka"]["state"] == "away"


def test_a_bridge_that_starts_says_so() -> None:
    answer = ask("/status.json", latest=lambda: None)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert ask("/livez", latest=lambda: None).status == 200
    assert ask("/readyz", latest=lambda: None).body == b"the bridge starts\n"


def test_a_loop_that_has_not_turned_for_ten_seconds_is_not_live() -> None:
    turned, hangs = (dataclasses.replace(healthy(), made=time.monotonic() - age) for age in (9.0, 11.0))
    assert ask("/livez", latest=lambda: turned).status == 200
    answer = ask("/livez", latest=lambda: hangs)
    assert (answer.status, answer.body) == (503, b"the bridge's loop has not turned for 11 s\n")
    assert ask("/readyz", latest=lambda: hangs).status == 503


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (emq_down, "MQTT is not live: backing off for 128 s, 172.30.1.10:1884 (172.30.1.10 closed"),
        (kafka_down, "Kafka is not live: away for 302 s, 172.30.1.31:9092,172.30.1.32:9092,172.30.1.33:9092"),
    ],
)
def test_ready_tells_which_side_is_not(state: Callable[[], Snapshot], words: str) -> None:
    answer = ask("/readyz", latest=state)
    assert answer.status == 503
    assert answer.body.decode().startswith(words)


def test_a_bridge_that_is_live_on_both_sides_is_ready() -> None:
    assert (ask("/readyz").status, ask("/readyz").body) == (200, b"ready\n")


def test_the_diagnosis_names_a_loop_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = healthy()
    site = Site(HttpSettings(), lambda: snapshot)
    request = Request("GET", "/status.json", {"host": "127.0.0.1"})

    def found() -> list[str]:
        return [each["id"] for each in json.loads(site.answer(request).body)["diagnosis"]["findings"]]

    assert found() == []
    monkeypatch.setattr(time, "monotonic", lambda: snapshot.made + 11)
    assert found() == ["bridge-stuck"]


def test_metrics_tell_how_long_the_loop_has_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = healthy()
    site = Site(HttpSettings(), lambda: snapshot)
    request = Request("GET", "/metrics", {"host": "127.0.0.1"})

    def shown() -> float:
        text = site.answer(request).body.decode()
        start = f"{PREFIX}loop_last_turn_age_seconds "
        [line] = [line for line in text.splitlines() if line.startswith(start)]
        return float(line.split()[1])

    assert shown() < 5
    monkeypatch.setattr(time, "monotonic", lambda: snapshot.made + 30)
    assert shown() == 30
