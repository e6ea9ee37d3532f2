"""The oracle: what publishers saw acknowledged, against what came out of Kafka. Pure.

Lost: acknowledged, and not in Kafka. Doubled: in Kafka more than once. Out of order: among the messages of
one publisher on one topic at one QoS, first seen after one that was published later. Ids that were
unacknowledged when their device lost its connection may be in Kafka or not; and QoS 0 promises nothing.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from tests.harness.device import Tally

_ID = re.compile(rb"([\w.]+)-(\d+)(?= |$)")


class Record(NamedTuple):
    """What one Kafka record says. `partition` is unique over all topics: "<topic>/<number>"."""

    id: str
    partition: str
    offset: int
    mqtt_topic: str = ""
    qos: int = 1


def id_of(value: bytes) -> str | None:
    """The id that leads a payload of Devices; None in anything else."""
    found = _ID.match(value)
    return None if found is None else found[0].decode()


@dataclass(frozen=True)
class Verdict:
    """`doubled` holds the copies beyond the first; `inversions` pairs (came late, had come already)."""

    delivered: int
    lost: frozenset[str]
    doubled: dict[str, int]
    inversions: tuple[tuple[str, str], ...]
    unknown_delivered: int
    strangers: frozenset[str]

    @property
    def copies(self) -> int:
        return sum(self.doubled.values())

    def __str__(self) -> str:
        parts = [f"delivered {self.delivered}", f"lost {len(self.lost)}", f"doubled {self.copies}"]
        parts += [f"out of order {len(self.inversions)}", f"unknown but delivered {self.unknown_delivered}"]
        for name, ids in (("lost", self.lost), ("doubled", self.doubled), ("strange", self.strangers)):
            if ids:
                parts.append(f"{name}: {' '.join(sorted(ids, key=_by_number)[:10])}")
        if self.inversions:
            parts.append("inverted: " + " ".join("<".join(pair) for pair in self.inversions[:10]))
        return ", ".join(parts)


def _by_number(name: str) -> tuple[str, int]:
    publisher, _, number = name.rpartition("-")
    return publisher, int(number) if number.isdecimal() else 0


class Evidence:
    """Everything seen in Kafka, judged as it comes. Records of one partition come in order of offset."""

    def __init__(self) -> None:
        self._copies: dict[str, int] = {}
        self._latest: dict[tuple[str, str, int, str], int] = {}
        self._inversions: list[tuple[str, str]] = []
        self._at: dict[str, int] = {}

    def add(self, record: Record) -> None:
        if record.offset <= self._at.get(record.partition, -1):
            raise ValueError(f"{record} was read already")
        self._at[record.partition] = record.offset
        self._copies[record.id] = self._copies.get(record.id, 0) + 1
        if self._copies[record.id] > 1:
            return  # by first occurrence: a copy that comes late is doubled, not out of order
        publisher, number = _by_number(record.id)
        stream = publisher, record.mqtt_topic, record.qos, record.partition
        latest = self._latest.get(stream, -1)
        if number < latest:
            self._inversions.append((record.id, f"{publisher}-{latest}"))
        else:
            self._latest[stream] = number

    @property
    def delivered(self) -> int:
        """How many different ids."""
        return len(self._copies)

    @property
    def copies(self) -> int:
        """How many records beyond the first of their id."""
        return sum(self._copies.values()) - len(self._copies)

    def missing(self, ids: set[str]) -> set[str]:
        return ids - self._copies.keys()

    def verdict(self, tally: Tally) -> Verdict:
        sent = tally.acked | tally.unknown | tally.unmatched | tally.refused | tally.sent0
        return Verdict(
            delivered=self.delivered,
            lost=frozenset(self.missing(tally.acked)),
            doubled={name: count - 1 for name, count in self._copies.items() if count > 1},
            inversions=tuple(self._inversions),
            unknown_delivered=len(tally.unknown & self._copies.keys()),
            strangers=frozenset(self._copies.keys() - sent),
        )
