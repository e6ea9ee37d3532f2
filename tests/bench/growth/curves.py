"""The curves: what grows in each, at which points, and what is drawn of it."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.growth import drained, missing, on_disk, paced
from tests.bench.growth.drained import Figures
from tests.bench.growth.load import Load
from tests.bench.rig import Rig

_PANELS = (
    (drained.CPU, (drained.CPU, drained.BARE_CPU)),
    (drained.RATE, (drained.RATE, drained.BARE_RATE)),
    (drained.PEAK, (drained.PEAK,)),
)


_MEGABYTES = "MB/s of payloads"
_BYTES = 300_000_000  # of the payloads of one point together: the broker holds them in memory
_VISITS = 500_000_000  # of librdkafka to Kafka topics: it looks at each topic it knows for each message
_ROUND_TRIPS = 5_000  # of a point: with one message in flight each message waits for one


@dataclass(frozen=True)
class Curve:
    name: str
    title: str
    """Of the picture."""
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
    return drained.measure(here, Load(min(messages, _VISITS // point), devices=10_000, kafka_topics=point))


def _payloads(here: Rig, point: int, messages: int) -> Figures:
    figures = drained.measure(here, Load(max(200, min(messages, _BYTES // point)), size=point))
    return {**figures, _MEGABYTES: figures[drained.RATE] * point / 1e6}


def _inflight(here: Rig, point: int, messages: int) -> Figures:
    return drained.measure(here, Load(min(messages, point * _ROUND_TRIPS), window=point))


CURVES = (
    Curve(
        "routes",
        "What a message costs with many routes",
        "routes",
        "10,000 MQTT topics, the same in each point",
        (1, 10, 100, 1_000, 10_000),
        _routes,
        panels=(*_PANELS, (drained.START, (drained.START,))),
    ),
    Curve(
        "mqtt-topics",
        "What a message costs with many MQTT topics",
        "MQTT topics",
        "each MQTT topic once before the first comes again; at the last point each once",
        (1, 100, 10_000, 100_000, 1_000_000),
        _mqtt_topics,
    ),
    Curve(
        "kafka-topics",
        "What a message costs with many Kafka topics",
        "Kafka topics",
        "10,000 MQTT topics, the same in each point; each Kafka topic has one partition; "
        f"with 10,000 Kafka topics {_VISITS // 10_000:,} messages",
        (1, 10, 100, 1_000, 10_000),
        _kafka_topics,
    ),
    Curve(
        "missing",
        "What missing Kafka topics cost the others",
        "Kafka topics that do not exist",
        f"beside one that exists and gets {missing.RATE} messages/s",
        (1, 100, 1_000, 10_000),
        missing.measure,
        messages=50_000,
        panels=missing.PANELS,
    ),
    Curve(
        "payloads",
        "What a message costs with its payload",
        "bytes of payload",
        f"fewer where they are more than {_BYTES // 10**6} MB",
        (10, 100, 1_000, 10_000, 100_000, 1_000_000),
        _payloads,
        panels=(_PANELS[0], (_MEGABYTES, (_MEGABYTES,)), _PANELS[2]),
    ),
    Curve(
        "backlog",
        "What a backlog on disk costs",
        "messages on disk at the start",
        "one Kafka topic; Kafka comes back after the start",
        (1_000, 10_000, 100_000, 1_000_000),
        on_disk.measure,
        panels=on_disk.PANELS,
    ),
    Curve(
        "qos",
        "What QoS costs",
        "QoS",
        f"at {paced.PER_SECOND:,} messages/s",
        (0, 1, 2),
        paced.measure,
        messages=50_000,
        panels=paced.PANELS,
    ),
    Curve(
        "in-flight",
        "What a message costs with many in flight",
        "messages in flight",
        f"fewer where they are more than {_ROUND_TRIPS:,} windows",
        (1, 10, 32, 100, 1_000, 5_000),
        _inflight,
    ),
)
