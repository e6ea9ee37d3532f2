"""What librdkafka says to options, before a service is started with them."""

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import BridgeError, ConfigurationError
from bridge.kafka.option_check import WORDS, _is_known, _refusal, wrong_options
from bridge.kafka.options import BATCH_SIZE, client_options, producer_options
from bridge.kafka.producer import Producer
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
        ("plugin.library.paths", "no-such-plugin", "cannot open"),
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
        {"security.protocol": "SSL", "ssl.certificate.location": "/not/yet", "ssl.key.location": "/not/yet"},
        {"security.protocol": "SSL", "ssl.keystore.location": "/not/there/yet", "ssl.keystore.password": "x"},
        {"security.protocol": "SSL", "ssl.crl.location": "/not/there/yet"},
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


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ssl.ca.pem", "xx", "not in PEM format"),
        ("ssl.keystore.location", "/x.p12", "`ssl.keystore.password` is mandatory"),
        ("ssl.certificate.pem", "xx", "reading certificate"),
        ("ssl.cipher.suites", "xx", "no cipher match"),
    ],
)
def test_a_set_of_options_that_the_service_would_refuse_is_refused(name: str, value: str, says: str) -> None:
    options = {"security.protocol": "SSL", name: value}
    assert says in wrong(options)[name]
    settings = KafkaSettings.model_validate({"bootstrap_servers": "127.0.0.1:1", "options": options})
    with pytest.raises(ConfigurationError):
        Producer(producer_options(settings, BATCH_SIZE), wake=lambda: None, on_error=lambda *_: None)


@pytest.mark.parametrize(
    "options",
    [
        {"ssl.keystore.location": "/not/there/yet", "ssl.keystore.password": "x"},
        {"ssl.crl.location": "/not/there/yet"},
        {"ssl.ca.location": "/not/there/yet"},
        {"ssl.certificate.location": "/not/there/yet"},
        {"ssl.key.location": "/not/there/yet"},
    ],
)
def test_a_file_that_is_not_there_yet_is_no_wrong_setting(options: dict[str, str]) -> None:
    """The service starts without it and waits: only a ConfigurationError ends it with 2."""
    settings = KafkaSettings.model_validate(
        {"bootstrap_servers": "127.0.0.1:1", "options": {"security.protocol": "SSL", **options}}
    )
    with pytest.raises(BridgeError, match="put the right file where") as caught:
        Producer(producer_options(settings, BATCH_SIZE), wake=lambda: None, on_error=lambda *_: None)
    assert not isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("linger.mss", "linger.ms"), ("ssl.ca.locatoin", "ssl.ca.location"), ("clientid", "client.id")],
)
def test_a_name_that_differs_by_one_character_is_guessed(written: str, meant: str) -> None:
    (said,) = wrong({"security.protocol": "SSL", written: "3"}).values()
    assert said.endswith(f"; did you mean {meant}?")
    assert _is_known(meant)


def test_a_name_like_no_other_gets_no_guess() -> None:
    assert "did you mean" not in wrong({"max.request.size": 3})["max.request.size"]


@pytest.mark.parametrize("name", WORDS)
def test_the_words_that_a_setting_allows_are_told_and_librdkafka_takes_each(name: str) -> None:
    for word in WORDS[name]:
        assert "Invalid value" not in _refusal({name: word}, {}), word
    assert "Invalid value" in _refusal({name: "x"}, {})


def test_a_wrong_word_is_answered_with_the_right_ones() -> None:
    assert wrong({"compression.type": "brotli"})["compression.type"].endswith(
        '; must be "none", "gzip", "snappy", "lz4" or "zstd"'
    )
    assert (
        '"PLAINTEXT", "SSL", "SASL_PLAINTEXT" or "SASL_SSL"'
        in wrong({"security.protocol": "TLS"})["security.protocol"]
    )
