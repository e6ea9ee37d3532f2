"""[kafka.options]: refuses options that break the guarantee, with the reason; passes on all others."""

import re

import pytest
from pydantic import SecretStr, ValidationError

from bridge.settings import KafkaSettings
from bridge.settings.kafka_options import CONSUMER_ONLY, REFUSALS, flat, why_refused


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("acks", 1, "all in-sync replicas must hold it by then"),
        ("acks", "0", "all in-sync replicas must hold it by then"),
        ("request.required.acks", 1, "all in-sync replicas must hold it by then"),
        ("enable.idempotence", False, "a retry inside librdkafka duplicates"),
        ("enable.idempotence", "FALSE", "a retry inside librdkafka duplicates"),
        ("message.timeout.ms", 300000, "is duplicated or reordered"),
        ("delivery.timeout.ms", "120000", "is duplicated or reordered"),
        ("retries", 3, "is duplicated or reordered"),
        ("max.in.flight", 5, "may duplicate"),
        ("max.in.flight.requests.per.connection", "many", "may duplicate"),
        ("queuing.strategy", "lifo", "reorders messages"),
        ("enable.gapless.guarantee", True, "would end each producer"),
        ("delivery.report.only.error", True, "reports only failures"),
        ("message.max.bytes", 2000000, "the topic's max.message.bytes"),
        ("transactional.id", "x", "opens no transactions"),
        ("test.mock.num.brokers", 3, "in its own memory"),
        ("bootstrap.servers", "k", "set kafka.bootstrap_servers"),
        ("statistics.interval.ms", 1000, "does not read librdkafka's statistics"),
        ("group.id", "g", "it is for consumers"),
        ("fetch.min.bytes", 1, "it is for consumers"),
        ("error_cb", "print", "the bridge sets it itself"),
    ],
)
def test_an_option_is_refused_with_its_reason(name: str, value: str | int | bool, reason: str) -> None:
    said = why_refused(name, value)

    assert said is not None
    assert reason in said
    with pytest.raises(ValidationError, match=re.escape(reason)):
        KafkaSettings.model_validate({"bootstrap_servers": "k", "options": {name: value}})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acks", "all"),
        ("acks", -1),
        ("enable.idempotence", True),
        ("enable.idempotence", "true"),
        ("message.timeout.ms", 0),
        ("max.in.flight", 1),
        ("linger.ms", 5),
        ("partitioner", "consistent_random"),
        ("compression.type", "zstd"),
        ("queue.buffering.max.messages", 1000),
        ("socket.timeout.ms", 60000),
        ("security.protocol", "SASL_SSL"),
        ("a.name.that.only.librdkafka.knows", "x"),
    ],
)
def test_an_option_goes_through_as_it_is(name: str, value: str | int | bool) -> None:
    options = KafkaSettings.model_validate({"bootstrap_servers": "k", "options": {name: value}})

    assert options.client_options() == {name: value}
    assert type(options.client_options()[name]) is type(value)


def test_no_name_is_ruled_twice() -> None:
    names = [name for refusal in REFUSALS for name in refusal.names]

    assert len(names) == len(set(names))
    assert CONSUMER_ONLY.isdisjoint(names)


def test_dots_that_toml_took_for_tables_are_joined_again() -> None:
    assert flat({"linger": {"ms": 5}, "socket": {"keepalive": {"enable": True}}, "acks": "all"}) == {
        "linger.ms": 5,
        "socket.keepalive.enable": True,
        "acks": "all",
    }


@pytest.mark.parametrize(
    "name", ["sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem",
             "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config"],
)  # fmt: skip
def test_a_secret_among_the_options_is_shown_to_librdkafka_alone(name: str) -> None:
    options = KafkaSettings.model_validate({"bootstrap_servers": "k", "options": {name: "geheim"}})

    assert isinstance(options.options[name], SecretStr)
    assert "geheim" not in repr(options)
    assert options.client_options() == {name: "geheim"}


@pytest.mark.parametrize(
    ("option", "warns"),
    [
        ({"ssl.endpoint.identification.algorithm": "none"}, True),
        ({"ssl.endpoint.identification.algorithm": "https"}, False),
        ({"enable.ssl.certificate.verification": False}, True),
        ({"enable.ssl.certificate.verification": True}, False),
        ({}, False),
    ],
)
def test_who_switches_off_the_check_of_certificates_is_warned(option: dict[str, object], warns: bool) -> None:
    settings = KafkaSettings.model_validate({"bootstrap_servers": "k", "options": option})
    assert bool([warning for warning in settings.warnings() if "pose as a broker" in warning]) == warns
