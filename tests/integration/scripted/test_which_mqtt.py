"""The bridge tries MQTT 5 first, and 3.1.1 only if the broker speaks nothing newer."""

from collections.abc import Callable

import pytest

from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.integration.scripted.conftest import NewBridge

UNSUPPORTED_PROTOCOL_VERSION = 0x84


def speaks_only_3_1_1(answer: Callable[[Connection], None]) -> Callable[[Connection], None]:
    """A script that answers MQTT 5 with `answer`, and accepts 3.1.1."""

    def script(connection: Connection) -> None:
        if connection.version == 5:
            answer(connection)
        else:
            connection.connack()

    return script


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: connection.connack(reason=UNSUPPORTED_PROTOCOL_VERSION),
        lambda connection: connection.send(bytes.fromhex("20020001")),
        lambda connection: connection.reset(),
    ],
    ids=["CONNACK 0x84", "CONNACK 1 as of 3.1.1", "just closes"],
)
def test_a_broker_without_mqtt_5_is_spoken_to_in_3_1_1(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str, answer: Callable[[Connection], None]
) -> None:
    """EMQ 2.x of the founding document answers; RabbitMQ 3.10 just closes."""
    bridge = new_bridge({"t": topic})
    with broker.always(speaks_only_3_1_1(answer)):
        bridge.start()
        live = bridge.wait_live()
        assert live["protocol"] == "3.1.1"
        assert bridge.entries("mqtt.protocol_fallback")
        assert broker.hellos[-1].version == 4
        assert not broker.hellos[-1].clean_start


def test_a_broker_that_was_away_is_not_taken_for_an_old_one(
    broker: ScriptedBroker, new_bridge: NewBridge, topic: str
) -> None:
    """HAProxy also closes when no EMQ is up; with 3.1.1 messages would lose their MQTT 5 properties."""
    bridge = new_bridge({"t": topic})
    with broker.always(lambda connection: connection.reset()):
        bridge.start()
        broker.wait_connects(5)
    with broker.always(lambda connection: connection.connack()):
        assert bridge.wait_live()["protocol"] == "5"


def test_mqtt_5_alone_can_be_asked_for(broker: ScriptedBroker, new_bridge: NewBridge, topic: str) -> None:
    bridge = new_bridge({"t": topic}, {"protocol": "5"})
    with broker.always(lambda connection: connection.connack(reason=UNSUPPORTED_PROTOCOL_VERSION)):
        bridge.start()
        assert "mqtt.protocol" in bridge.wait_for("mqtt.refused")["way_out"]
    assert {hello.version for hello in broker.hellos} == {5}
