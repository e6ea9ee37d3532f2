"""The curves: what grows in each, at which points, and what is drawn of it."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.growth import drained, missing
from tests.bench.growth.drained import Figures
from tests.bench.growth.load import Load
from tests.bench.rig import Rig

_PANELS = (
    (drained.CPU, (drained.CPU, drained.BARE_CPU)),
    (drained.RATE, (drained.RATE, drained.BARE_RATE)),
    (drained.PEAK, (drained.PEAK,)),
)


@dataclass(frozen=True)
class Curve:
    name: str
    grows: str
    """What the horizontal axis counts."""
    about: str
    """What all points share, for the table's heading."""
    points: tuple[int, ...]
    measure: Callable[[Rig, int, int], Figures]
    """Measures a point with so many messages, once."""
    messages: int = 200_000
    panels: tuple[tuple[str, tuple[str, ...]], ...] = _PANELS
    """Of each diagram: its title, and the columns that are its lines."""


def _routes(here: Rig, point: int, messages: int) -> Figures:
    return drained.measure(here, Load(messages, devices=10_000, routes=point))


def _mqtt_topics(here: Rig, point: int, messages: int) -> Figures:
    return drained.measure(here, Load(max(messages, point), devices=point))


def _kafka_topics(here: Rig, point: int, messages: int) -> Figures:
    return drained.measure(here, Load(messages, devices=10_000, kafka_topics=point))


CURVES = (
    Curve(
        "routes",
        "routes",
        "10,000 MQTT topics, the same in each point",
        (1, 10, 100, 1_000, 10_000),
        _routes,
        panels=(*_PANELS, (drained.START, (drained.START,))),
    ),
    Curve(
        "mqtt-topics",
        "MQTT topics",
        "each MQTT topic once before the first comes again; at the last point each once",
        (1, 100, 10_000, 100_000, 1_000_000),
        _mqtt_topics,
    ),
    Curve(
        "kafka-topics",
        "Kafka topics",
        "10,000 MQTT topics, the same in each point; each Kafka topic has one partition",
        (1, 10, 100, 1_000, 10_000),
        _kafka_topics,
    ),
    Curve(
        "missing",
        "Kafka topics that do not exist",
        f"beside one that exists and gets {missing.RATE} messages/s",
        (1, 100, 1_000, 10_000),
        missing.measure,
        messages=50_000,
        panels=missing.PANELS,
    ),
)
