"""A refusal names a way out, and what it names is accepted when somebody writes exactly that."""

import json
import re
from pathlib import Path

import pytest

from bridge.errors import BridgeError, ConfigurationError
from bridge.routing.router import Router
from bridge.settings import EmqxSettings, RouteSettings
from bridge.settings.passwords import read_emqx_key
from tests.unit.settings.configurations import WORKS, Machine, with_setting


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def only(problems: object) -> str:
    (said,) = problems  # type: ignore[misc]
    return str(said)


@pytest.mark.parametrize("written", ["{mqtt.topic}", "{topic-}", "{ dev-eui }", "{data.dev_eui}", "{site#}"])
def test_a_name_in_a_template_is_corrected_to_one_that_is_known(written: str) -> None:
    def route(key: str) -> RouteSettings:
        return RouteSettings(name="r", filter="a/{site}/{dev_eui}", topic="t", key=key)

    with pytest.raises(ConfigurationError) as caught:
        Router([route(written)])
    (better,) = re.findall(r"; write (\{\w+\})$", str(caught.value))
    Router([route(better)])


def test_a_name_that_resembles_none_gets_the_list() -> None:
    with pytest.raises(ConfigurationError, match=r"known: \{site\}, \{topic\}$"):
        Router([RouteSettings(name="r", filter="a/{site}", topic="t", key="{x.y}")])


def test_haproxys_statistics_can_be_switched_off(machine: Machine) -> None:
    machine.write(with_setting("haproxy", 'stats = "off"'))
    words = re.findall(r'"(\w*)"', only(machine.problems()).partition("must be")[2])
    assert words == ["auto", ""]
    for word in words:
        machine.write(with_setting("haproxy", f'stats = "{word}"'))
        assert machine.read().settings.haproxy.stats == word


def test_options_in_the_environment(machine: Machine) -> None:
    machine.write(WORKS)
    machine.set({"BRIDGE_KAFKA__OPTIONS": "linger.ms=3"})
    example = only(machine.problems()).partition("such as ")[2]
    machine.set({"BRIDGE_KAFKA__OPTIONS": example})
    assert machine.read().settings.kafka.options == json.loads(example)


@pytest.mark.parametrize(
    "variable", ["MQTT__TLS", "MQTT__TCP", "SPOOL", "LOG", "HAPROXY", "DEAD_LETTERS", "ROUTES"]
)
def test_tables_in_the_environment(machine: Machine, variable: str) -> None:
    machine.write(WORKS)
    machine.set({f"BRIDGE_{variable}": "on"})
    example = only(machine.problems()).partition("such as ")[2]
    machine.set({f"BRIDGE_{variable}": example})
    assert machine.read().settings


def test_the_home_directory_of_a_path(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    machine.write(with_setting("spool", 'directory = "~/x"'))
    whole = only(machine.problems()).partition("; write ")[2]
    assert whole == "/home/anna/x"
    machine.write(with_setting("spool", f'directory = "{whole}"'))
    assert machine.read().settings.spool_directory == Path(whole)


def test_every_setting_that_is_a_path_refuses_a_home_directory(machine: Machine) -> None:
    for table, name in [
        ("mqtt", "password_file"), ("mqtt.tls", "ca_file"), ("mqtt.tls", "cert_file"), ("mqtt.tls", "key_file"),
        ("kafka", "password_file"), ("haproxy", "password_file"), ("emqx", "key_file"), ("", "state_directory"),
    ]:  # fmt: skip
        machine.write(with_setting(table, f'{name} = "~/x"'))
        assert any("which a shell replaces" in said for said in machine.problems()), name


def test_a_key_file_of_two_lines_says_what_must_be_in_it(tmp_path: Path) -> None:
    file = tmp_path / "key"
    settings = EmqxSettings(api="http://emq:18083", key_file=file)
    for content in ("", "key\nsecret\n", "key", "k\0:s"):
        file.write_text(content)
        with pytest.raises(BridgeError, match="must hold the API key, a colon and the secret key"):
            read_emqx_key(settings)
    file.write_text("key:secret\n")
    assert read_emqx_key(settings) == ("key", "secret")
