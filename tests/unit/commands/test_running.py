"""Where `bridge top` and `bridge check` ask the service, and as whom."""

from pathlib import Path
from typing import Any

import pytest

from bridge.commands.running import NoAnswer, read, running
from bridge.settings import Settings
from bridge.status.diagnosis import diagnose
from bridge.status.document import document
from tests.harness.snapshots import healthy


def settings(**http: Any) -> Settings:
    return Settings.model_validate(
        {
            "mqtt": {"host": "127.0.0.1"},
            "kafka": {"bootstrap_servers": "127.0.0.1:1"},
            "routes": [{"name": "a", "filter": "a/#", "topic": "a"}],
            "http": http,
        }
    )


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:9464", "http://127.0.0.1:9464/status.json"),
        ("0.0.0.0:80", "http://127.0.0.1:80/status.json"),
        ("[::]:80", "http://[::1]:80/status.json"),
        ("172.30.1.20:9465", "http://172.30.1.20:9465/status.json"),
    ],
)
def test_the_service_is_asked_where_it_listens(listen: str, url: str) -> None:
    asked = running(settings(listen=listen))
    assert (asked.url, asked.login, asked.is_own) == (url, None, True)


def test_a_bridge_that_does_not_answer_is_said_with_the_way_out_of_its_machine() -> None:
    own = running(settings(listen="127.0.0.1:9"))
    with pytest.raises(
        NoAnswer, match=r"Look with `systemctl status .*: name its own settings with --config$"
    ):
        own.ask()
    with pytest.raises(NoAnswer, match=r"Look on its machine with .* an address that this machine reaches"):
        running(settings(), "http://127.0.0.1:9").ask()


def test_a_page_that_is_turned_off_is_said() -> None:
    with pytest.raises(NoAnswer, match="the page is turned off"):
        running(settings(listen=""))


def test_the_services_own_user_and_password_are_used(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("open sesame\n")
    asked = running(settings(username="ali", password_file=file))
    assert asked.login == ("ali", "open sesame")


def test_a_password_that_nobody_may_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoAnswer, match=r"cannot read .*/missing: no such file"):
        running(settings(username="ali", password_file=tmp_path / "missing"))


def test_a_password_in_an_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(NoAnswer, match="no password") as refused:
        running(settings(), "http://ann:sesame@192.168.1.7:9464")
    assert "sesame" not in str(refused.value)


def test_the_answer_of_another_bridge_on_this_machine_is_not_taken_for_our_own() -> None:
    theirs = document(healthy(), diagnose(healthy()))
    ours = settings()
    assert ours.mqtt.client_id == healthy().mqtt.client_id
    assert read(theirs, running(ours)).diagnosis.level == "good"
    second = ours.model_copy(update={"mqtt": ours.mqtt.model_copy(update={"client_id": "second"})})
    with pytest.raises(
        NoAnswer, match=r'another one: its client id is "mqtt-kafka-bridge", .*"second".*--url'
    ):
        read(theirs, running(second))
    assert (
        read(theirs, running(second, "http://127.0.0.1:9464")).diagnosis.level == "good"
    )  # asked for by name
