"""Devices of every kind at once: QoS 0, 1, 2, MQTT 3.1.1 and 5, several topics, through HAProxy's :1883."""

import contextlib
from collections.abc import Collection
from typing import Any, Self

from tests.harness.conditions import wait_until
from tests.harness.device import Tally
from tests.harness.devices import Devices
from tests.harness.haproxy import DEVICES

# The MQTT topics are house/<kind>/<device>, and each kind has a Kafka topic of its own, so a lane of its own.
KINDS = ("door", "power", "temp")

# QoS, MQTT version (4 is 3.1.1), kind: two sorts of device for each kind, each QoS in two kinds.
_SORTS = ((0, 4, "temp"), (0, 5, "power"), (1, 4, "power"), (1, 5, "door"), (2, 4, "door"), (2, 5, "temp"))
_COUNT = 4  # devices of each sort


def count_at(ids: Collection[str], qos: int) -> int:
    """How many of these ids are of messages at this QoS."""
    return sum(name.startswith(f"q{qos}v") for name in ids)


class Load:
    """24 devices that share `rate` messages a second. A context manager: they publish inside it."""

    def __init__(self, host: str, rate: float, size: int = 60) -> None:
        self._sorts = [
            Devices(
                host,
                DEVICES,
                count=_COUNT,
                rate=rate / len(_SORTS),
                qos=qos,
                version=version,
                topic=f"house/{kind}/{{device}}",
                prefix=f"q{qos}v{version}d",
                size=size,
            )
            for qos, version, kind in _SORTS
        ]
        self._stop = contextlib.ExitStack()

    @property
    def rate(self) -> float:
        """Messages a second, two thirds of them at QoS 1 and 2. May be changed at any time."""
        return sum(devices.rate for devices in self._sorts)

    @rate.setter
    def rate(self, rate: float) -> None:
        for devices in self._sorts:
            devices.rate = rate / len(_SORTS)

    def _promised(self, kinds: Collection[str] = KINDS) -> list[Devices]:
        """The devices of QoS 1 and 2."""
        sorts = zip(self._sorts, _SORTS, strict=True)
        return [devices for devices, (qos, _, kind) in sorts if qos and kind in kinds]

    @property
    def sent(self) -> int:
        """How many messages were sent at QoS 1 and 2 up to now."""
        return sum(devices.sent for devices in self._promised())

    def acked(self, kinds: Collection[str]) -> list[set[str]]:
        """The ids acknowledged up to now, for each sort of device of QoS 1 and 2 of these kinds."""
        return [devices.tally.acked.copy() for devices in self._promised(kinds)]

    def tally(self) -> Tally:
        """The tally of all devices, once they have stopped."""
        return Tally.of_all(devices.tally for devices in self._sorts)

    def wait_sent(self, number: int, deadline: float = 60.0) -> None:
        """Wait until `number` more messages are sent at QoS 1 and 2. Raises NotInTime."""
        target = self.sent + number
        wait_until(lambda: self.sent >= target, deadline, lambda: f"{target} sent, {self.sent} are")

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as started:
            for devices in self._sorts:
                started.enter_context(devices)
            self._stop = started.pop_all()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stop.__exit__(*exc)
