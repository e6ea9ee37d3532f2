"""The tally of simulated devices, for each behaviour of a broker."""

from collections.abc import Callable, Iterator

import pytest

from tests.harness.conditions import wait_until
from tests.harness.devices import Devices
from tests.harness.packets import Ack, Kind, Packet, Publish
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    with ScriptedBroker() as broker:
        yield broker


def answering(answer: Callable[[Connection, Packet], None]) -> Callable[[Connection], None]:
    """A script that accepts a connection, and handles each packet with `answer`."""

    def script(connection: Connection) -> None:
        connection.connack()
        connection.on_packet = lambda packet: answer(connection, packet)

    return script


def acknowledge(reason: int) -> Callable[[Connection, Packet], None]:
    def answer(connection: Connection, packet: Packet) -> None:
        match packet:
            case Publish(qos=1):
                connection.send(Ack(Kind.PUBACK, packet.identifier, reason).encode(connection.version))
            case Publish(qos=2):
                connection.send(Ack(Kind.PUBREC, packet.identifier, reason).encode(connection.version))
            case Ack(kind=Kind.PUBREL):
                connection.send(Ack(Kind.PUBCOMP, packet.identifier).encode(connection.version))

    return answer


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_is_acknowledged_is_known(broker: ScriptedBroker, qos: int, version: int) -> None:
    with broker.always(answering(acknowledge(0))):
        devices = Devices(broker.address, broker.port, count=3, rate=300, qos=qos, version=version)
        with devices:
            devices.wait_sent(30)

    known = devices.tally.acked if qos else devices.tally.sent0
    assert len(known) == devices.tally.sent >= 30
    assert {"d01-1", "d02-1", "d03-1"} <= known
    assert {hello.client_id for hello in broker.hellos} == {"device-d01", "device-d02", "device-d03"}


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize(("reason", "outcome"), [(0x10, "unmatched"), (0x97, "refused")])
def test_a_reason_is_not_a_promise(broker: ScriptedBroker, qos: int, reason: int, outcome: str) -> None:
    with broker.always(answering(acknowledge(reason))):
        with Devices(broker.address, broker.port, count=1, rate=300, qos=qos, version=5) as devices:
            devices.wait_sent(5)
        assert len(getattr(devices.tally, outcome)) == devices.tally.sent


def test_what_was_unacknowledged_when_the_connection_ended_is_abandoned(broker: ScriptedBroker) -> None:
    def answer(connection: Connection, packet: Packet) -> None:
        if isinstance(packet, Publish) and packet.payload.startswith(b"d01-5 "):
            connection.reset()
        elif len(broker.connects) > 1:
            acknowledge(0)(connection, packet)

    with broker.always(answering(answer)):
        with Devices(broker.address, broker.port, count=1, rate=300) as devices:
            wait_until(lambda: len(devices.tally.acked) > 5, 10, "it has connected again")
        tally = devices.tally
        assert tally.connects == 2
        assert tally.unknown >= {"d01-1", "d01-2", "d01-3", "d01-4", "d01-5"}
        assert tally.acked == {f"d01-{number}" for number in range(1, tally.sent + 1)} - tally.unknown


def test_a_device_keeps_to_its_window(broker: ScriptedBroker) -> None:
    with broker.always(answering(lambda connection, packet: None)):
        devices = Devices(broker.address, broker.port, count=1, rate=500).start()
        wait_until(lambda: devices.tally.skipped > 10, 5, "the window is full")
        assert devices.outstanding == 20
        devices.stop(deadline=0)
        assert len(devices.tally.unknown) == 20


def test_a_thread_that_ends_before_it_is_woken_is_no_error(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broker.always(answering(acknowledge(0))):
        devices = Devices(broker.address, broker.port, count=1).start()
        clear = devices._running.clear

        def clear_and_be_late() -> None:
            clear()
            devices._thread.join()

        monkeypatch.setattr(devices._running, "clear", clear_and_be_late)
        devices.stop()
