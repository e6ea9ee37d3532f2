"""Delivery exactly-once: the power is cut at any moment, and what the broker resends is recognised.

A run is recorded without Kafka, so all messages stay on disk. For a cut at some of its syncs, a bridge starts
with what the disk then holds, and the broker resends what was not acknowledged, as far as it has heard.
"""

import random
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.harness.conditions import wait_until
from tests.harness.packets import Ack, Frames, Kind
from tests.harness.powercut import PowerCuts, events, is_complete, recording
from tests.harness.scripted import ScriptedBroker
from tests.harness.scripted_connection import Connection
from tests.integration.disk.conftest import Feed, NewBridge, connected, on_disk

WINDOW = 100
# From then on the bridge knows that the broker counts upward.
_WARM_UP = 2 * WINDOW
_SIZE = 100  # bytes
_EVERY = 12  # syncs, which begin and return


class Burst(NamedTuple):
    """Messages that the broker sends at once. The next ones come after their handshakes."""

    numbers: range
    qos: int

    def release(self, connection: Connection) -> None:
        if self.qos == 2:
            before = completed(connection)
            for number in self.numbers:
                connection.pubrel(number)
            wait_until(
                lambda: completed(connection) == before + len(self.numbers), 10.0, "all PUBCOMPs have come"
            )


def completed(connection: Connection) -> int:
    return sum(isinstance(each, Ack) and each.kind is Kind.PUBCOMP for each in connection.received[:])


def acknowledged(connection: Connection) -> set[int]:
    kinds = (Kind.PUBACK, Kind.PUBREC)
    return {
        each.identifier for each in connection.received[:] if isinstance(each, Ack) and each.kind in kinds
    }


def resend(connection: Connection, numbers: range, qos: int) -> None:
    """As the Feed has sent them: the Packet Identifiers equal the numbers."""
    for number in numbers:
        payload = (b"%d " % number).ljust(_SIZE, b".")
        connection.publish(b"t", payload, qos=qos, identifier=number, dup=True)
    wait_until(lambda: set(numbers) <= acknowledged(connection), 20.0, "all are acknowledged")


def test_each_message_is_on_disk_once(
    broker: ScriptedBroker, new_bridge: NewBridge, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("--seed") or random.randrange(1, 1_000_000)
    sys.stdout.write(f"--seed {seed}\n")
    chance = random.Random(seed)
    spool, trace = tmp_path / "spool", tmp_path / "trace"
    settings: dict[str, Any] = {
        "mqtt": {"receive_maximum": WINDOW},
        "kafka": {"delivery": "exactly-once"},
        "state_directory": tmp_path,
    }
    bridge = new_bridge(spool, program=[*recording(trace), sys.executable, "-m", "bridge"], **settings)
    bridge.start()
    connection = connected(broker, bridge)
    feed, bursts = Feed(connection), []
    for _ in range(40):
        qos = chance.choice((1, 2))
        bursts.append(Burst(feed.send(chance.randint(1, 60), qos=qos, size=_SIZE), qos))
        feed.wait_acked(bursts[-1].numbers)
        bursts[-1].release(connection)
    assert bridge.terminate() == 0
    wait_until(lambda: is_complete(trace), 30.0, "the recording is complete")

    cuts, frames, acks, syncs, recognised = PowerCuts(spool), Frames(version=5), 0, 0, 0
    for event in events(trace):
        cuts.see(event)
        if event.call == "sendto" and f":{broker.port}]" in event.path and not event.returned:
            sent = [each.kind for each in frames.feed(event.data) if isinstance(each, Ack)]
            acks += sent.count(Kind.PUBACK) + sent.count(Kind.PUBREC)
        if event.call != "fdatasync" or acks < _WARM_UP:
            continue
        syncs += 1
        if syncs % _EVERY != seed % _EVERY:
            continue
        place = tmp_path / f"cut-{syncs}"
        cuts.write_files(place, chance.choice((None, chance)))
        there = on_disk(place)
        assert there == list(range(1, len(there) + 1))
        assert acks <= len(there), "an acknowledgement left before its message was synced"
        burst = next(each for each in bursts if len(there) in each.numbers)
        first, last = burst.numbers[0], burst.numbers[-1]
        # The broker sends PUBREL once it has heard all of a burst, and what it released never comes again.
        heard = last if acks == last and burst.qos == 2 else chance.randint(first - 1, max(first - 1, acks))

        after = new_bridge(place, **settings)
        after.start()
        resumed = broker.next_connection()
        resumed.connack(session_present=True)
        after.wait_live()
        resend(resumed, range(heard + 1, last + 1), burst.qos)
        assert after.terminate() == 0
        assert on_disk(place) == list(range(1, last + 1))
        recognised += len(there) - heard
    assert recognised, "no message was there before it was resent"
