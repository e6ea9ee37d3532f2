"""Which MQTT version the bridge uses, by how the broker answers each attempt."""

import pytest

from bridge.mqtt.protocol_version import ProtocolVersion


@pytest.mark.parametrize(("setting", "mqtt5"), [("auto", True), ("5", True), ("3.1.1", False)])
def test_the_first_attempt(setting: str, mqtt5: bool) -> None:
    assert ProtocolVersion(setting).mqtt5 is mqtt5  # type: ignore[arg-type]


def test_a_broker_that_says_it_knows_no_mqtt_5_is_believed() -> None:
    protocol = ProtocolVersion("auto")
    assert protocol.version_refused()
    assert not protocol.mqtt5
    assert protocol.accepted()
    assert protocol.fell_back


def test_a_broker_that_just_closes_has_to_prove_it() -> None:
    protocol = ProtocolVersion("auto")
    protocol.closed_before_connack()
    assert not protocol.mqtt5
    assert not protocol.accepted()  # 3.1.1 works, but the balancer may have closed the attempt with MQTT 5
    assert protocol.mqtt5
    protocol.closed_before_connack()
    assert not protocol.mqtt5
    assert protocol.accepted()


def closes_on_mqtt_5() -> ProtocolVersion:
    protocol = ProtocolVersion("auto")
    protocol.closed_before_connack()
    protocol.accepted()
    protocol.closed_before_connack()
    assert protocol.fell_back
    return protocol


def test_after_a_long_connection_it_has_to_prove_it_again() -> None:
    """An EMQ that was just starting may have closed the connections."""
    protocol = closes_on_mqtt_5()
    protocol.was_live_for(3599.0)
    assert protocol.fell_back
    protocol.was_live_for(3600.0)
    assert protocol.mqtt5
    assert protocol.accepted()
    assert protocol.mqtt5


def test_a_broker_that_said_so_is_not_asked_again() -> None:
    protocol = ProtocolVersion("auto")
    protocol.version_refused()
    protocol.was_live_for(1e6)
    assert not protocol.mqtt5


def test_a_balancer_that_closed_is_no_proof() -> None:
    protocol = ProtocolVersion("auto")
    protocol.closed_before_connack()
    assert not protocol.accepted()
    assert protocol.mqtt5
    assert protocol.accepted()
    assert protocol.mqtt5
    assert not protocol.fell_back


def test_while_nobody_answers_both_are_tried_in_turn() -> None:
    protocol = ProtocolVersion("auto")
    tried = []
    for _ in range(4):
        tried.append(protocol.mqtt5)
        protocol.closed_before_connack()
    assert tried == [True, False, True, False]


def test_who_has_spoken_mqtt_5_is_never_asked_in_3_1_1() -> None:
    protocol = ProtocolVersion("auto")
    assert protocol.accepted()
    for _ in range(3):
        protocol.closed_before_connack()
        assert protocol.mqtt5


@pytest.mark.parametrize("setting", ["5", "3.1.1"])
def test_a_version_that_was_set_stays(setting: str) -> None:
    protocol = ProtocolVersion(setting)  # type: ignore[arg-type]
    before = protocol.mqtt5
    assert not protocol.version_refused()
    protocol.closed_before_connack()
    assert protocol.accepted()
    assert protocol.mqtt5 is before
