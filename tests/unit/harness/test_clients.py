"""clients.py: its messages if a client cannot be built, and the builds that it keeps."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.harness import clients


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(clients, "_not_here", {})


def download(tmp_path: Path, program: str) -> None:
    clients._download("fetch", [sys.executable, "-c", program], cwd=tmp_path, env={})


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (clients.mosquitto_pub, "no mosquitto_pub: apt-get install mosquitto-clients"),
        (clients.mqtt_js, "no node: apt-get install nodejs npm"),
        (clients.paho_go_311, "no go: apt-get install golang"),
        (clients.paho_go_5, "no go: apt-get install golang"),
        (clients.paho_c, "no cc: apt-get install gcc libc6-dev libpaho-mqtt-dev"),
    ],
)
def test_a_machine_without_the_tools_is_told_what_to_install(
    client: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(clients.NotHere, match=f"^{said}$"):
        client()  # type: ignore[operator]


def test_a_node_that_is_too_old_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("node", "npm"):
        (tmp_path / name).write_text("#!/bin/sh\necho v16.20.2\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(clients.NotHere, match=r"Node\.js 18 or newer is needed, node is v16\.20\.2"):
        clients.mqtt_js()


def test_no_network_is_no_defect(tmp_path: Path) -> None:
    with pytest.raises(clients.NotHere, match=r"fetch failed, see .*fetch\.log: it needs the network"):
        download(tmp_path, "raise SystemExit('getaddrinfo ENOTFOUND')")


def test_a_network_that_never_answers_is_waited_for_in_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_DOWNLOAD", 0.2)
    with pytest.raises(clients.NotHere, match=r"fetch took more than 0\.2 s"):
        download(tmp_path, "import signal; signal.pause()")


@pytest.mark.parametrize("output", ["npm error code EINTEGRITY", "verifying x@v1.0.0: checksum mismatch"])
def test_what_is_not_what_was_pinned_is_a_defect(tmp_path: Path, output: str) -> None:
    with pytest.raises(RuntimeError, match=output):
        download(tmp_path, f"raise SystemExit({output!r})")


def test_what_was_made_is_kept_until_its_sources_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_SOURCES", tmp_path)
    source = tmp_path / "client" / "source"
    source.parent.mkdir()
    source.write_text("one")

    def make(sources: Path, into: Path) -> None:
        made.append((sources / "source").read_text())
        (into / "program").touch()

    made: list[str] = []
    first = clients._kept("client", make)
    assert clients._kept("client", make) == first
    assert (first / "program").exists()
    source.write_text("two")
    assert clients._kept("client", make) != first
    assert made == ["one", "two"]


def test_what_could_not_be_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_SOURCES", tmp_path)
    (tmp_path / "client").mkdir()

    def make(_source: Path, into: Path) -> None:
        (into / "half").touch()
        raise RuntimeError("does not compile")

    with pytest.raises(RuntimeError, match="does not compile"):
        clients._kept("client", make)
    assert not list((tmp_path / "cache").rglob("half"))


def test_what_cannot_be_had_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "_SOURCES", tmp_path)
    (tmp_path / "client").mkdir()
    asked: list[Path] = []

    def make(source: Path, _into: Path) -> None:
        asked.append(source)
        raise clients.NotHere("no network")

    for _ in range(2):
        with pytest.raises(clients.NotHere, match="no network"):
            clients._kept("client", make)
    assert len(asked) == 1
