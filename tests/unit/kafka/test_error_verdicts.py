"""The verdict for each Kafka error; the bridge retries after an unknown error."""

import pytest
from confluent_kafka import KafkaError

from bridge.delivery.results import Verdict
from bridge.kafka import error_verdicts


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, Verdict.TOO_LARGE),
        (KafkaError.RECORD_LIST_TOO_LARGE, Verdict.TOO_LARGE),
        (KafkaError.INVALID_TIMESTAMP, Verdict.BAD_TIMESTAMP),
        (KafkaError.INVALID_RECORD, Verdict.INVALID),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, Verdict.NOT_NOW),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Verdict.NOT_NOW),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, Verdict.NOT_NOW),
        (KafkaError.NOT_ENOUGH_REPLICAS, Verdict.NOT_NOW),
        (KafkaError._MSG_TIMED_OUT, Verdict.NOT_NOW),
        (KafkaError._TRANSPORT, Verdict.NOT_NOW),
        (KafkaError._UNKNOWN_TOPIC, Verdict.NOT_NOW),
        (KafkaError._UNKNOWN_PARTITION, Verdict.NOT_NOW),
        (KafkaError._QUEUE_FULL, Verdict.NOT_NOW),
        (KafkaError._FATAL, Verdict.PRODUCER_LOST),
        (KafkaError._FENCED, Verdict.PRODUCER_LOST),
        (KafkaError._PURGE_QUEUE, Verdict.PRODUCER_LOST),
        (KafkaError._PURGE_INFLIGHT, Verdict.PRODUCER_LOST),
    ],
)
def test_each_error_has_its_verdict(code: int, verdict: Verdict) -> None:
    assert error_verdicts.verdict(code) is verdict


def test_what_is_not_in_the_table_is_tried_again() -> None:
    for code in range(-250, 250):
        verdict = error_verdicts.verdict(code)
        if code not in (10, 18, 32, 87, -150, -144, -151, -152):
            assert verdict is Verdict.NOT_NOW, code


def test_the_codes_with_names_are_librdkafkas() -> None:
    assert error_verdicts.FATAL == KafkaError._FATAL
    assert error_verdicts.AUTHENTICATION == KafkaError._AUTHENTICATION
    assert error_verdicts.TLS == KafkaError._SSL
    assert error_verdicts.ALL_BROKERS_DOWN == KafkaError._ALL_BROKERS_DOWN


def test_a_missing_permission_comes_with_the_command_that_gives_it() -> None:
    reason = error_verdicts.reason(KafkaError.TOPIC_AUTHORIZATION_FAILED, "denied", "iot.temp")
    assert "kafka-acls.sh" in reason
    assert "--topic iot.temp" in reason


def test_what_is_not_in_the_table_is_told_in_librdkafkas_words() -> None:
    assert error_verdicts.reason(99, "Broker: Something new", "t") == "Something new (error 99)"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (
            "sasl_ssl://k1:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after"
            " 0ms in state CONNECT, 13 identical error(s) suppressed)",
            "k1:9092: Connection refused",
        ),
        ("[::1]:9092/2: Connect to ipv6#[::1]:9092 failed: Connection refused (after 1ms in state CONNECT)",
         "[::1]:9092: Connection refused"),
        ("k1:9092/1: Failed to resolve 'k1:9092': Name or service not known (after 7ms in state CONNECT)",
         "k1:9092 does not resolve: Name or service not known"),
        ("k:9092/1: Disconnected (after 2ms in state UP)", "k:9092: Disconnected"),
        ("Failed to get metadata: Local: Broker transport failure",
         "Failed to get metadata: Broker transport failure"),
        ("Local: Timed out", "Timed out"),
        ("3/3 brokers are down", "3/3 brokers are down"),
        ("0/4 brokers are down", "no broker has a connection"),
    ],
)  # fmt: skip
def test_librdkafkas_notation_is_left_out(text: str, plain: str) -> None:
    assert error_verdicts.plain(text) == plain


def test_a_broker_that_dies_in_the_sasl_handshake_has_refused_nobody() -> None:
    died = (
        "sasl_ssl://k:9094/1: SASL OAUTHBEARER mechanism handshake failed: Local: Broker transport failure:"
        " broker's supported mechanisms: (n/a) (after 5ms in state AUTH_HANDSHAKE)"
    )
    assert error_verdicts.kind(error_verdicts.AUTHENTICATION, died) == error_verdicts.TRANSPORT
    refused = (
        "sasl_ssl://k:9094/1: SASL OAUTHBEARER mechanism handshake failed: Broker: Unsupported SASL mechanism"
    )
    assert error_verdicts.kind(error_verdicts.AUTHENTICATION, refused) == error_verdicts.AUTHENTICATION


def test_groups_of_codes_are_librdkafkas() -> None:
    assert {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC} == set(error_verdicts.NO_TOPIC)
    denied = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
    assert denied == set(error_verdicts.DENIED)
