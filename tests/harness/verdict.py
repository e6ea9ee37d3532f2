"""The oracle: compares the messages that publishers saw acknowledged with the records in Kafka. Pure.

Lost: acknowledged, and not in Kafka. Doubled (duplicated): in Kafka more than once. Out of order: among the
messages of one publisher on one topic at one QoS, first seen after a message that was published later. Ids
that were unacknowledged when their device lost its connection may be in Kafka or not; QoS 0 promises nothing.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from tests.harness.device import Tally

_ID = re.compile(rb"([\w.]+)-(\d+)(?= |$)")


class Record(NamedTuple):
    """The content of one Kafka record. `partition` is unique over all topics: "<topic>/<number>"."""

    id: str
    partition: str
    offset: int
    mqtt_topic: str = ""
    qos: int = 1


def id_of(value: bytes) -> str | None:
    """The id at the beginning of a payload of Devices; None for other payloads."""
    found = _ID.match(value)
    return None if found is None else found[0].decode()


@dataclass(frozen=True)
class Verdict:
    """`doubled` maps a duplicated id to the places of its records, as "topic/partition@offset"; `inversions`
    holds pairs (came late, came early).
    """

    delivered: int
    lost: frozenset[str]
    doubled: dict[str, tuple[str, ...]]
    inversions: tuple[tuple[str, str], ...]
    unknown_delivered: int
    strangers: frozenset[str]

    @property
    def copies(self) -> int:
        return sum(len(places) - 1 for places in self.doubled.values())

    def __str__(self) -> str:
        parts = [f"delivered {self.delivered}", f"lost {len(self.lost)}", f"doubled {self.copies}"]
        parts += [f"out of order {len(self.inversions)}", f"unknown but delivered {self.unknown_delivered}"]
        for name, ids in (("lost", self.lost), ("strange", self.strangers)):
            if ids:
                parts.append(f"{name}: {' '.join(sorted(ids, key=_by_number)[:10])}")
        parts += [f"{name} is at {' and '.join(places)}" for name, places in list(self.doubled.items())[:10]]
        if self.inversions:
            parts.append("inverted: " + " ".join("<".join(pair) for pair in self.inversions[:10]))
        return ", ".join(parts)


def _by_number(name: str) -> tuple[str, int]:
    publisher, _, number = name.rpartition("-")
    return publisher, int(number) if number.isdecimal() else 0


class Evidence:
    """All records seen in Kafka, judged one by one. A partition's records come in order of offset."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}
        self._latest: dict[tuple[str, str, int, str], int] = {}
        self._inversions: list[tuple[str, str]] = []
        self._at: dict[str, int] = {}

    def add(self, record: Record) -> None:
        if record.offset <= self._at.get(record.partition, -1):
            raise ValueError(f"{record} was read already")
        self._at[record.partition] = record.offset
        places = self._places.setdefault(record.id, [])
        places.append(f"{record.partition}@{record.offset}")
        if len(places) > 1:
            return  # order counts first occurrences: a late copy is a duplicate, not out of order
        publisher, number = _by_number(record.id)
        stream = publisher, record.mqtt_topic, record.qos, record.partition
        latest = self._latest.get(stream, -1)
        if number < latest:
            self._inversions.append((record.id, f"{publisher}-{latest}"))
        else:
            self._latest[stream] = number

    @property
    def delivered(self) -> int:
        """How many different ids were seen."""
        return len(self._places)

    @property
    def copies(self) -> int:
        """How many records were seen after the first of their id."""
        return sum(len(places) - 1 for places in self._places.values())

    def end(self, partition: str) -> int:
        """The offset after the last record seen of this partition."""
        return self._at.get(partition, -1) + 1

    def missing(self, ids: set[str]) -> set[str]:
        return ids - self._places.keys()

    def verdict(self, tally: Tally) -> Verdict:
        sent = tally.acked | tally.unknown | tally.unmatched | tally.refused | tally.sent0
        return Verdict(
            delivered=self.delivered,
            lost=frozenset(self.missing(tally.acked)),
            doubled={name: tuple(places) for name, places in self._places.items() if len(places) > 1},
            inversions=tuple(self._inversions),
            unknown_delivered=len(tally.unknown & self._places.keys()),
            strangers=frozenset(self._places.keys() - sent),
        )
