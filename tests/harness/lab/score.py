"""The score: how many messages are published, delivered, in flight, on disk, lost and duplicated."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.harness.device import Device
from tests.harness.devices import Devices
from tests.harness.verifier import Verifier

# RabbitMQ delivers requeued messages after later ones, so wait before counting one as lost. Seconds.
_PATIENCE = 10.0

# How far beyond the last missing message to look for one that was delivered: a device that lost its
# connection gives up at most its window of messages, and no message will ever have their numbers.
_AHEAD = Device.WINDOW + 2


@dataclass(frozen=True)
class Score:
    """published = delivered + in flight + on disk + lost.

    Published messages are those that EMQ acknowledged to a device (at QoS 0: that were sent). While the lab
    runs, a message is lost if a later message of the same device was delivered and it did not follow within
    `_PATIENCE`. On disk are the messages that the bridge has acknowledged and keeps until Kafka takes them.

    `is_shared`: another client has used the session of the lab's bridge. EMQ may have given the messages that
    are missing to that client, so none of them is called lost, and its filters make EMQ send messages twice.
    """

    published: int
    delivered: int
    in_flight: int
    on_disk: int
    lost: int
    duplicated: int
    is_shared: bool = False

    def __str__(self) -> str:
        return (
            f"published {self.published:>5}, delivered {self.delivered:>5}, in flight {self.in_flight:>3}, "
            f"on disk {self.on_disk}, {missed(self.lost, self.is_shared)}, duplicated {self.duplicated}"
        )


def missed(count: int, is_shared: bool) -> str:
    """The count of missing messages, in words."""
    return f"taken by another client {count}" if is_shared else f"lost {count}"


class Scoreboard:
    """Compares the devices' tally with what a consumer of Kafka has seen. `on_disk` returns how many messages
    wait on the bridge's disk, `is_shared` whether another client has used the bridge's session.
    """

    def __init__(
        self,
        devices: Devices,
        verifier: Verifier,
        qos: int,
        on_disk: Callable[[], int],
        is_shared: Callable[[], bool] = lambda: False,
    ) -> None:
        self._devices, self._verifier, self._qos, self._on_disk = devices, verifier, qos, on_disk
        self._is_shared = is_shared
        self._overtaken_at: dict[str, float] = {}  # id -> when it was first seen overtaken

    def promised(self) -> set[str]:
        """The ids that must arrive in Kafka."""
        tally = self._devices.tally
        return tally.acked.copy() if self._qos else tally.sent0.copy()

    def missing(self, ids: set[str]) -> set[str]:
        return self._verifier.missing(ids)

    def take(self) -> Score:
        on_disk = self._on_disk()
        promised = self.promised()
        missing = self.missing(promised)
        now = time.monotonic()
        self._overtaken_at = {
            name: self._overtaken_at.get(name, now) for name in overtaken(promised, missing)
        }
        lost = sum(now - at > _PATIENCE for at in self._overtaken_at.values())
        # The disk may hold other messages too, and its number may be a moment old.
        on_disk = min(on_disk, len(missing) - lost)
        return Score(
            published=len(promised),
            delivered=len(promised) - len(missing),
            in_flight=len(missing) - lost - on_disk,
            on_disk=on_disk,
            lost=lost,
            duplicated=self._verifier.doubled,
            is_shared=self._is_shared(),
        )


def overtaken(promised: set[str], missing: set[str]) -> set[str]:
    """The `missing` ids "<device>-<number>" of whose device a later message was delivered."""
    gaps: dict[str, list[int]] = {}
    for name in missing:
        device, _, number = name.rpartition("-")
        gaps.setdefault(device, []).append(int(number))
    return {
        f"{device}-{number}"
        for device, numbers in gaps.items()
        for number in _before_the_last(device, sorted(numbers, reverse=True), promised)
    }


def _before_the_last(device: str, missing: list[int], promised: set[str]) -> list[int]:
    """The `missing` numbers below the last delivered one, highest first."""
    later = missing[0] + _AHEAD
    for place, number in enumerate(missing):
        if any(f"{device}-{between}" in promised for between in range(number + 1, later)):
            return missing[place:]
        later = number
    return []
