"""What librdkafka says to options, before a service is started with them."""

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import ConfigurationError
from bridge.kafka.option_check import wrong_options
from bridge.kafka.options import BATCH_SIZE, client_options, producer_options
from bridge.settings import KafkaSettings
from tests.unit.settings.configurations import WORKS

SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "PLAIN", "sasl.username": "bridge"}


def wrong(options: dict[str, object], dead_letters: bool = False) -> dict[str, str]:
    settings = KafkaSettings.model_validate({"bootstrap_servers": "k", "options": options})
    return dict(wrong_options(settings, dead_letters))


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("batch.size", "64KB", "must be a whole number"),  # librdkafka would take it for 64
        ("batch.size", 64.5, "must be a whole number"),
        ("batch.size", True, "Invalid value"),
        ("batch.size", "", "empty"),
        ("socket.timeout.ms", "5s", "must be a whole number"),
        ("linger.ms", "5x", "must be a whole number"),
        ("linger.ms", "five", 'property "linger.ms"'),
        ("linger.mss", 3, "No such configuration property"),
        ("max.request.size", 3, "No such configuration property"),
        ("compression.type", "brotli", 'property "compression.type"'),
        ("request.timeout.ms", 0, "range"),
        ("security.protocol", "TLS", "Invalid value"),
        ("plugin.library.paths", "/nowhere", "cannot open"),
    ],
)
def test_a_wrong_option_is_named_as_it_was_written(option: str, value: object, says: str) -> None:
    found = wrong({option: value, "client.rack": "r", "socket.nagle.disable": True})
    assert list(found) == [option]
    assert says in found[option]
    for other in ("queue.buffering.max.ms", "compression.codec"):  # librdkafka's other names for them
        assert other not in found[option]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"linger.ms": 0.5},
        {"linger.ms": "0.5"},
        {"batch.size": "65536"},
        {"client.id": "7up"},
        {"broker.address.ttl": "0x10"},
        {"debug": "all"},
        {"security.protocol": "SSL", "ssl.ca.location": "/not/there/yet", "ssl.key.password": "x"},
        SASL,
    ],
)
def test_what_a_service_can_start_with_is_taken(options: dict[str, object]) -> None:
    assert wrong(options) == {}


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert wrong({"linger.mss": 3, "batch.size": "64KB", "acks": "all", "compression.type": "x"}).keys() == {
        "linger.mss",
        "batch.size",
        "compression.type",
    }


def test_the_producer_of_dead_letters_has_rules_of_its_own() -> None:
    assert wrong({"linger.ms": 900_000}) == {}
    assert wrong({"linger.ms": 900_000}, dead_letters=True).keys() == {"linger.ms"}


def test_a_batch_size_that_is_no_number_is_left_to_librdkafka() -> None:
    settings = KafkaSettings(bootstrap_servers="k", options={"batch.size": "64KB"})
    assert producer_options(settings, BATCH_SIZE)["batch.size"] == "64KB"


def test_a_user_without_a_password_is_said_in_the_names_of_the_settings() -> None:
    with pytest.raises(ConfigurationError, match=r"kafka\.password_file"):
        client_options(KafkaSettings.model_validate({"bootstrap_servers": "k", "options": SASL}))


@pytest.mark.parametrize("command", [("config",), ("check",), (), ("dead-letters", "replay")])
def test_each_command_refuses_it_in_one_line_and_with_2(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "bridge.toml"
    file.write_text(WORKS + '[kafka.options]\n"batch.size" = "64KB"\n')
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *command, "--config", file],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f'bridge: kafka.options.batch.size = "64KB" ({file}:10): must be a whole number, without a unit\n'
    )
