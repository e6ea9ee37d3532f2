"""Passwords: where the bridge reads them, the errors if it can't, and that no output shows them."""

import os
import traceback
from pathlib import Path

import pytest

from bridge.errors import BridgeError, ConfigurationError
from bridge.settings import KafkaSettings, MqttSettings, read_kafka_password, read_mqtt_password
from bridge.settings.show import as_toml
from tests.unit.settings.configurations import WORKS, Machine, with_setting

SECRET = "geheim-4711"
SASL = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u"}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def mqtt(**settings: object) -> MqttSettings:
    return MqttSettings.model_validate({"host": "emq", "username": "bridge", **settings})


def kafka(**settings: object) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap_servers": "k", **settings})


# -- where passwords come from ------------------------------------------------------------------------------


def test_a_password_is_read_from_its_file_at_every_call(tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = mqtt(password_file=file)

    file.write_text("first\n")
    assert read_mqtt_password(settings) == "first"

    file.write_text("second\r\n")
    assert read_mqtt_password(settings) == "second"


def test_a_password_keeps_its_blanks(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" a b \n")

    assert read_mqtt_password(mqtt(password_file=file)) == " a b "


@pytest.mark.parametrize("written", [b"s\n\n", b"s\r\n\r\n", b"\xef\xbb\xbfs\n", b"\xef\xbb\xbfs"])
def test_a_password_is_without_what_an_editor_adds(written: bytes, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(written)

    assert read_mqtt_password(mqtt(password_file=file)) == "s"


def test_a_password_can_stand_in_the_settings() -> None:
    assert read_mqtt_password(mqtt(password=SECRET)) == SECRET


def test_no_password_is_none() -> None:
    assert read_mqtt_password(mqtt()) is None
    assert read_kafka_password(kafka()) is None


def test_kafka_has_a_password_file_too(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")

    assert read_kafka_password(kafka(password_file=file, options=SASL)) == SECRET


def test_systemd_s_credential_is_used_and_an_own_password_beside_it_is_refused(
    machine: Machine, tmp_path: Path
) -> None:
    machine.write(f"{SECRET}\n", "mqtt-password")
    machine.set({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    machine.write(with_setting("mqtt", 'username = "u"'))
    assert read_mqtt_password(machine.read().settings.mqtt) == SECRET

    machine.write(with_setting("mqtt", f'username = "u"\npassword = "{SECRET}"'))
    assert machine.problems() == [
        "mqtt.password = *** (bridge.toml:4): is set beside password_file; keep one of them"
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read {}: no such file or directory (create it, or correct the path in the settings)"),
        (b"", "cannot use {}: it is empty (it must hold the password alone)"),
        (b"\n", "cannot use {}: it is empty (it must hold the password alone)"),
        (
            b"s\xfc",
            "cannot read {0}: line 1 is not UTF-8: byte 0xfc, as in a file in Latin-1 or Windows-1252 (save it as"
            " UTF-8, or: iconv -f WINDOWS-1252 -t UTF-8 {0} > NEW)",
        ),
        (b"s\nt\n", "cannot use {}: it has 2 lines (it must hold the password alone, in one line)"),
        (b"s\0", "cannot use {}: it holds a null character (it must hold the password alone)"),
    ],
)
def test_a_password_file_that_is_of_no_use(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(BridgeError) as caught:
        read_mqtt_password(mqtt(password_file=file))

    assert str(caught.value) == said.format(file)


def test_a_password_file_that_may_not_be_read_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:  # tests may run as root, which may read everything
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "read_bytes", refuse)

    with pytest.raises(BridgeError, match=r"permission denied \(let the bridge's user read it: sudo chgrp"):
        read_mqtt_password(mqtt(password_file=tmp_path / "password"))


# -- no output shows passwords ----------------------------------------------------------------------------


def test_no_password_is_taken_as_a_flag(machine: Machine) -> None:
    machine.write(
        with_setting("mqtt", 'username = "u"')
        + "[kafka.options]\n"
        + "".join(f'"{name}" = "{value}"\n' for name, value in SASL.items())
    )

    said = machine.problems("--mqtt.password", SECRET, "--kafka.options", f"sasl.password={SECRET}")

    assert said == [
        "mqtt.password = *** (--mqtt.password): everybody here can read the flags; use mqtt.password_file,"
        " the file or the environment",
        "kafka.options.sasl.password = *** (--kafka.options): everybody here can read the flags;"
        " use kafka.password_file, the file or the environment",
    ]


def test_settings_hide_their_secrets(machine: Machine) -> None:
    machine.write(
        with_setting("mqtt", f'username = "u"\npassword = "{SECRET}"')
        + "[kafka.options]\n"
        + "".join(f'"{name}" = "{value}"\n' for name, value in SASL.items())
        + f'"sasl.password" = "{SECRET}"\n'
    )
    configuration = machine.read()

    assert SECRET not in repr(configuration.settings)
    assert SECRET not in str(configuration.settings)
    assert SECRET not in configuration.settings.model_dump_json()
    assert SECRET not in as_toml(configuration)
    assert as_toml(configuration).count('"***"') == 2


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("mqtt", f'pasword = "{SECRET}"'),
        ("mqtt", f'password = ["{SECRET}"]'),
        ("mqtt", f'password = "{SECRET}"'),  # without a username
        ("kafka.options", f'sasl.password = ["{SECRET}"]'),
        ("", f'password = "{SECRET}"'),
        ("", f'log = "{SECRET}"'),
    ],
)
def test_a_mistake_with_a_secret_doesn_t_show_it(machine: Machine, table: str, line: str) -> None:
    machine.write(with_setting(table, line))

    with pytest.raises(ConfigurationError) as caught:
        machine.read()

    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BRIDGE_MQTT", f'{{"password": "{SECRET}"'),
        ("BRIDGE_MQTT__PASSWORD__X", SECRET),
        ("BRIDGE_KAFKA__OPTIONS", f'{{"sasl.password": "{SECRET}"'),
        ("BRIDGE_PASSWORD", SECRET),
    ],
)
def test_a_mistake_in_the_environment_doesn_t_show_it(machine: Machine, name: str, value: str) -> None:
    machine.write(WORKS)
    machine.set({name: value})

    with pytest.raises(ConfigurationError) as caught:
        machine.read()

    assert SECRET not in "".join(traceback.format_exception(caught.value))
