"""TLS to the broker: the tap reads and writes as it does without TLS."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.scripted import ScriptedBroker
from tests.harness.tls import Authority, TlsDoor
from tests.integration.scripted.conftest import NewBridge, Values


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def new_door(broker: ScriptedBroker, authority: Authority, tmp_path: Path) -> Any:
    """Makes a running TLS door that shows a certificate for "emq"."""
    made: list[TlsDoor] = []

    def create(**options: Any) -> TlsDoor:
        door = TlsDoor((broker.address, broker.port), authority.sign("emq"), tmp_path, **options)
        made.append(door)
        door.start()
        return door

    yield create
    for door in made:
        door.terminate()


def settings(door: TlsDoor, authority: Authority, **tls: Any) -> dict[str, Any]:
    return {
        "host": door.address,
        "port": door.port,
        "tls": {"enabled": True, "ca_file": str(authority.certificate), "server_name": "emq", **tls},
    }


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_messages_through_tls(
    protocol: str,
    broker: ScriptedBroker,
    new_door: Callable[..., TlsDoor],
    authority: Authority,
    new_bridge: NewBridge,
    topic: str,
    values: Values,
) -> None:
    """A burst of small and of 70 kB messages (more than one TLS record), PUBREL, PUBCOMP, a clean stop."""
    bridge = new_bridge({"t": topic}, {"protocol": protocol, **settings(new_door(), authority)})
    bridge.start()
    connection = broker.next_connection()
    connection.connack()
    connection.expect_subscribe()
    bridge.wait_live()
    payloads = [b"%d" % number if number % 50 else b"%d " % number * 12_000 for number in range(1, 3001)]
    with connection.one_segment():
        for identifier, payload in enumerate(payloads, 1):
            connection.publish(b"t", payload, qos=1, identifier=identifier)
    connection.expect_pubacks(range(1, 3001), deadline=30)
    connection.publish(b"t", b"last", qos=2, identifier=3001)
    connection.expect_pubrec(3001)
    connection.pubrel(3001)
    connection.expect_pubcomp(3001)
    assert bridge.terminate() == 0

    connection.expect_disconnect(0)
    assert values(topic) == [*payloads, b"last"]


def test_a_client_certificate(
    broker: ScriptedBroker,
    new_door: Callable[..., TlsDoor],
    authority: Authority,
    new_bridge: NewBridge,
    topic: str,
) -> None:
    own = authority.sign("the-bridge")
    door = new_door(clients_of=authority)
    bridge = new_bridge(
        {"t": topic}, settings(door, authority, cert_file=str(own.certificate), key_file=str(own.key))
    )
    bridge.start()
    with broker.connection() as connection:
        connection.connack()
        bridge.wait_live()
