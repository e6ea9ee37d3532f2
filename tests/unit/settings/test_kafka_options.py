"""[kafka.options]: refuses options that break the guarantee, with the reason; passes on all others."""

import re

import pytest
from pydantic import SecretStr, ValidationError

from bridge.settings import KafkaSettings
from bridge.settings.kafka_options import CONSUMER_ONLY, REFUSALS, flat, why_refused

WITH_USER = {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "bridge"}
WITH_TOKENS = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
}


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
        ("transactional.id", "x", "kafka.transactional_id is the id"),
        ("test.mock.num.brokers", 3, "in its own memory"),
        ("bootstrap.servers", "k", "set kafka.bootstrap_servers"),
        ("statistics.interval.ms", 1000, "needs the brokers' round trips"),
        ("group.id", "g", "it is for consumers"),
        ("fetch.min.bytes", 1, "it is for consumers"),
        ("error_cb", "print", "the bridge sets it itself"),
        ("sasl.jaas.config", "x", "set sasl.mechanism, sasl.username and kafka.password_file instead"),
        ("ssl.truststore.location", "/x.jks", "name a PEM file of the authorities in ssl.ca.location"),
        ("ssl.ca.location", "~nobody-here/ca.pem", "write /PATH/ca.pem"),
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
        ("security.protocol", "SSL"),
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
    around = WITH_USER if name == "sasl.password" else WITH_TOKENS
    options = KafkaSettings.model_validate({"bootstrap_servers": "k", "options": around | {name: "geheim"}})

    assert isinstance(options.options[name], SecretStr)
    assert "geheim" not in repr(options)
    assert options.client_options() == around | {name: "geheim"}


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
    settings = KafkaSettings.model_validate(
        {"bootstrap_servers": "k", "options": {"security.protocol": "SSL", **option}}
    )
    assert bool([warning for warning in settings.warnings() if "pose as a broker" in warning]) == warns


def said(**options: object) -> list[str]:
    """What is wrong with these options, `_` for `.`; each with its name."""
    given = {name.replace("_", "."): value for name, value in options.items()}
    try:
        KafkaSettings.model_validate({"bootstrap_servers": "k", "options": given})
    except ValidationError as error:
        return [
            f"{key[-1]}: {text}"
            for details in error.errors()
            for key, text in details["ctx"]["error"].problems
        ]
    return []


@pytest.mark.parametrize(
    ("options", "name", "line"),
    [
        ({"ssl_ca_location": "ca"}, "ssl.ca.location", 'add security.protocol = "SSL"'),
        ({"ssl_ca_location": "ca", "security_protocol": "plaintext"}, "ssl.ca.location", '= "SSL"'),
        (
            {"ssl_ca_location": "ca", "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN",
             "sasl_username": "u"},
            "ssl.ca.location", 'add security.protocol = "SASL_SSL"',
        ),
        ({"enable_ssl_certificate_verification": False}, "enable.ssl.certificate.verification", '= "SSL"'),
        ({"sasl_username": "u"}, "sasl.username", 'add security.protocol = "SASL_SSL", or "SASL_PLAINTEXT"'),
        ({"sasl_user": "u"}, "sasl.user", "SASL_SSL"),
        ({"sasl_username": "u", "security_protocol": "SSL"}, "sasl.username", '= "SASL_SSL"'),
        ({"sasl_mechanism": "PLAIN"}, "sasl.mechanism", "security.protocol"),
        ({"security_protocol": "SASL_SSL", "sasl_username": "u"}, "security.protocol", "SCRAM-SHA-512"),
        ({"security_protocol": "sasl_ssl", "sasl_mechanism": "scram-sha-512", "sasl_username": "u"},
         "sasl.mechanism", 'did you mean "SCRAM-SHA-512"?'),
        ({"security_protocol": "SASL_SSL", "sasl_mechanisms": "GSSAPI"}, "sasl.mechanisms", "must be PLAIN"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "sasl.mechanism", "sasl.username"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "sasl.mechanism", '"oidc"'),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER",
             "sasl_oauthbearer_method": "oidc", "sasl_username": "u"},
            "sasl.username", "does nothing",
        ),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u",
             "sasl_oauthbearer_scope": "x"},
            "sasl.oauthbearer.scope", "does nothing",
        ),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u",
             "sasl_kerberos_keytab": "x"},
            "sasl.kerberos.keytab", "does nothing",
        ),
    ],
)  # fmt: skip
def test_what_would_not_be_used_is_refused_with_the_line_to_add(
    options: dict[str, object], name: str, line: str
) -> None:
    (problem,) = said(**options)
    assert problem.startswith(f"{name}: ")
    assert line in problem


@pytest.mark.parametrize(
    "options", [WITH_USER, WITH_TOKENS, {"security.protocol": "ssl", "ssl.ca.location": "x"}]
)
def test_tls_and_sasl_that_are_used_are_taken(options: dict[str, object]) -> None:
    assert KafkaSettings.model_validate({"bootstrap_servers": "k", "options": options}).options


@pytest.mark.parametrize("broker", ["k:0", "k:65536", "k:99999", "[::1]:99999", "k:9092,l:0"])
def test_a_port_that_there_is_not_is_refused(broker: str) -> None:
    """librdkafka connects to 34463 where 99999 is written."""
    with pytest.raises(ValidationError, match="is not one of 1 to 65535"):
        KafkaSettings(bootstrap_servers=broker)


@pytest.mark.parametrize(
    ("broker", "whole"), [("k", "k:9092"), ("[::1]", "[::1]:9092"), ("k,l:1", "k:9092,l:1")]
)
def test_a_port_that_is_left_out_is_kafkas_own(broker: str, whole: str) -> None:
    """librdkafka adds it too, but not kafka-topics.sh, whose command the bridge tells."""
    assert KafkaSettings(bootstrap_servers=broker).bootstrap_servers == whole


@pytest.mark.parametrize("broker", ["k:65535", "[::1]:9092", "[fe80::1%lo]:9092", "[fe80::1%eth0.1]:1"])
def test_an_address_that_librdkafka_takes_is_taken(broker: str) -> None:
    assert KafkaSettings(bootstrap_servers=broker).bootstrap_servers == broker
