"""Flags win over environment, file, systemd's values and defaults; each value has its origin."""

import tomllib
from pathlib import Path

import pytest

from bridge.settings import Settings
from bridge.settings import load as load_module
from bridge.settings.section import Key
from bridge.settings.show import as_toml, effective
from tests.harness.steps import steps
from tests.unit.settings.configurations import MQTT, ROUTE, WORKS, Machine, with_setting


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def shown(machine: Machine, *arguments: str) -> dict[str, tuple[str | None, str]]:
    """Value and origin of every setting, by dotted key, as `bridge config` shows them."""
    rows = effective(machine.read(*arguments))
    return {".".join(map(str, key)): (text, origin) for key, text, origin in rows}


def test_a_flag_outranks_the_environment_which_outranks_the_file(machine: Machine) -> None:
    machine.write(with_setting("mqtt", 'keepalive = "61s"'))
    assert shown(machine)["mqtt.keepalive"] == ('"61s"', f"{machine.file}:3")

    machine.set({"BRIDGE_MQTT__KEEPALIVE": "62s"})
    assert shown(machine)["mqtt.keepalive"] == ('"62s"', "BRIDGE_MQTT__KEEPALIVE")

    assert shown(machine, "--mqtt.keepalive", "63s")["mqtt.keepalive"] == ('"63s"', "--mqtt.keepalive")


def test_what_nobody_sets_is_a_default(machine: Machine) -> None:
    machine.write(WORKS)

    assert shown(machine)["mqtt.connack_timeout"] == ('"75s"', "default")
    assert shown(machine)["mqtt.username"] == (None, "not set")


def test_the_default_file_may_be_missing_where_everything_comes_from_elsewhere(machine: Machine) -> None:
    machine.set({"BRIDGE_ROUTES": '[{"name": "all", "filter": "#", "topic": "mqtt"}]'})

    settings = machine.read("--mqtt.host", "emq", "--kafka.bootstrap_servers", "kafka1:9092").settings

    assert settings.routes[0].topic == "mqtt"


def test_another_file_can_be_named(machine: Machine) -> None:
    machine.write("this is no TOML, and not read")
    other = machine.write(WORKS, "other.toml")

    assert machine.read("--config", str(other)).settings.mqtt.host == "emq"


def test_variables_may_be_written_in_any_case(machine: Machine) -> None:
    machine.write(WORKS)
    machine.set({"bridge_log__LEVEL": "debug"})

    assert shown(machine)["log.level"] == ('"debug"', "bridge_log__LEVEL")


def test_a_list_replaces_the_list_below_it_as_a_whole(machine: Machine) -> None:
    machine.write(WORKS.replace(ROUTE, f'{ROUTE}key = "k"\n{ROUTE.replace("all", "more")}'))
    machine.set({"BRIDGE_ROUTES": '[{"name": "mine", "filter": "a", "topic": "t"}]'})

    values = shown(machine)

    assert values["routes.0.name"] == ('"mine"', "BRIDGE_ROUTES")
    assert values["routes.0.key"] == (None, "not set")
    assert "routes.1.name" not in values


def test_librdkafka_options_are_joined_over_all_sources(machine: Machine) -> None:
    machine.write(with_setting("kafka.options", 'linger.ms = 5\n"compression.type" = "zstd"'))
    machine.set({"BRIDGE_KAFKA__OPTIONS": '{"linger.ms": 10, "debug": "msg"}'})

    values = shown(machine, "--kafka.options", "debug=broker", "--kafka.options", "client.rack=u")

    assert values["kafka.options.linger.ms"] == ("10", "BRIDGE_KAFKA__OPTIONS")
    assert values["kafka.options.compression.type"] == ('"zstd"', f"{machine.file}:11")
    assert values["kafka.options.debug"] == ('"broker"', "--kafka.options")
    assert values["kafka.options.client.rack"] == ('"u"', "--kafka.options")


@pytest.mark.parametrize("value", ["broker,topic", 'a "quoted" word', "a=b", "", "{", "["])
def test_the_value_of_an_option_may_hold_anything(machine: Machine, value: str) -> None:
    machine.write(WORKS)

    assert machine.read("--kafka.options", f"debug={value}").settings.kafka.options == {"debug": value}


def test_routes_can_be_a_flag(machine: Machine) -> None:
    machine.write(WORKS)

    settings = machine.read("--routes", '[{"name": "a", "filter": "a/#", "topic": "t"}]').settings

    assert [route.filter for route in settings.routes] == ["a/#"]


def test_systemd_provides_the_state_directory_and_passwords(machine: Machine, tmp_path: Path) -> None:
    machine.write(with_setting("mqtt", 'username = "bridge"'))
    machine.write("secret\n", "mqtt-password")
    machine.set({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "CREDENTIALS_DIRECTORY": str(tmp_path)})

    values = shown(machine)

    assert values["state_directory"] == ('"/var/lib/a"', "$STATE_DIRECTORY")
    assert values["mqtt.password_file"] == (f'"{tmp_path}/mqtt-password"', "$CREDENTIALS_DIRECTORY")
    assert values["kafka.password_file"] == (None, "not set")


def test_dry_run_needs_no_kafka(machine: Machine) -> None:
    machine.write(MQTT + ROUTE)

    assert machine.read("--dry-run").settings.kafka.bootstrap_servers == "unused:9092"


def test_kafka_servers_may_be_a_list(machine: Machine) -> None:
    machine.write(with_setting("kafka", 'bootstrap_servers = ["a:9092", "[::1]:9092", "c"]'))

    assert machine.read().settings.kafka.bootstrap_servers == "a:9092,[::1]:9092,c:9092"


@pytest.mark.parametrize("host", ["emq", "127.0.0.1", "::1", "fe80::1%eth0"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    settings = Settings.model_validate(
        {
            "mqtt": {"host": host},
            "kafka": {"bootstrap_servers": "k"},
            "routes": [{"name": "a", "filter": "#", "topic": "t"}],
        }
    )

    assert settings.mqtt.host == host


def test_the_lines_of_many_routes_are_found_in_time_that_grows_with_the_routes() -> None:
    def lines(number: int) -> dict[Key, int]:
        return load_module._lines("[[routes]]\nname = 'r'\n" * number)

    assert lines(300)["routes", 299, "name"] == 600
    assert steps(lambda: lines(2000)) < 12 * steps(lambda: lines(200))


def test_lines_are_found_however_the_file_is_written(machine: Machine) -> None:
    machine.write(
        "# a comment = 1\n"
        "mqtt.host = 'emq'\n"
        'mqtt.tls = { enabled = true, ca_file = "/ca" }\n'
        '["kafka"] # with a comment\n'
        '"bootstrap_servers" = [\n  "a:9092",\n]\n'
        "[[routes]]\nname = 'a'\nfilter = '#'\ntopic = 't'\n"
        "[[ routes ]]\nname = 'b'\nfilter = 'x'\ntopic = 't'\n"
    )

    lines = {key: origin.rpartition(":")[2] for key, (_, origin) in shown(machine).items()}

    assert lines["mqtt.host"] == "2"
    assert lines["mqtt.tls.ca_file"] == "3"
    assert lines["kafka.bootstrap_servers"] == "5"
    assert lines["routes.0.name"] == "9"
    assert lines["routes.1.topic"] == "15"


def test_what_bridge_config_prints_can_be_read_again(machine: Machine) -> None:
    machine.write(
        with_setting("kafka.options", "linger.ms = 5\ncheck = true").replace("check", "enable.idempotence")
        + ROUTE.replace("all", "two")
        + 'key = "a\\"b\\\\\\n\\u0007"\n'
    )
    before = machine.read()
    printed = as_toml(before)

    again = machine.read("--config", str(machine.write(printed, "again.toml")))

    assert tomllib.loads(printed)["mqtt"]["keepalive"] == "60s"
    assert again.settings == before.settings


def test_warnings_tell_the_price_of_what_is_allowed(machine: Machine) -> None:
    machine.write(WORKS)
    assert list(machine.read().settings.warnings()) == []

    settings = machine.read("--mqtt.connack_timeout", "60s", "--mqtt.session_expiry", "10min").settings

    assert [warning.partition(":")[0] for warning in settings.warnings()] == [
        "mqtt.connack_timeout = 60s",
        "mqtt.session_expiry = 600s",
    ]


def test_what_mqtt_3_1_1_has_no_place_for_is_said(machine: Machine) -> None:
    machine.write(WORKS)
    set_here = ("--mqtt.session_expiry", "10min", "--mqtt.max_packet_size", "1MB")

    old = machine.read("--mqtt.protocol", "3.1.1", *set_here).settings

    assert [warning.partition(":")[0] for warning in old.warnings()] == [
        'mqtt.session_expiry does nothing with mqtt.protocol = "3.1.1"',
        'mqtt.max_packet_size does nothing with mqtt.protocol = "3.1.1"',
    ]
    assert not list(machine.read("--mqtt.protocol", "3.1.1").settings.warnings()), "nobody has set them"
    for protocol in ("5", "auto"):
        new = machine.read("--mqtt.protocol", protocol, *set_here).settings
        assert not [warning for warning in new.warnings() if "does nothing" in warning]
