"""The metrics of a snapshot, in the text format of OpenMetrics 1.0.

`METRICS` is the one table of all metrics. docs/reference/metrics.md is made from it, and tests check that
the alerts and the dashboard in deploy/ use no other names.

Labels hold names from the settings (routes, HAProxy's servers), Kafka brokers, certificates, and words of
closed lists. No label holds an MQTT topic, a client id or a device, so the number of series stays small. A
counter whose labels are a closed list has all of its series from the start, at 0: Prometheus' increase()
misses the first increment of a series that begins with it.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bridge.delivery.counts import DEAD_LETTERED, DROPPED, SKIPPED
from bridge.observe.events import Event
from bridge.status.mqtt_faults import is_stale
from bridge.status.snapshot import Histogram, KafkaBroker, SessionQueue, Snapshot

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PREFIX = "mqtt_kafka_bridge_"

SPOOL_STATES = ("usable", "full", "unusable")
_LEVELS = {event.value: logging.getLevelName(event.level).lower() for event in Event}

Samples = Mapping[tuple[str, ...], Any]  # by the values of the labels: a number, or a Histogram


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is as Prometheus shows it, without PREFIX; a counter's ends with "_total".

    `read` returns the samples by the values of `labels`. It returns none while the value is not known.
    """

    name: str
    type: Literal["counter", "gauge", "histogram", "info"]
    meaning: str
    labels: tuple[str, ...]
    read: Callable[[Snapshot], Samples]

    @property
    def unit(self) -> str:
        """ "seconds", "bytes" or empty. Seconds since 1970 if the name has "timestamp"."""
        last = self.name.removesuffix("_total").rpartition("_")[2]
        return last if last in ("seconds", "bytes") else ""


def render(snapshot: Snapshot) -> bytes:
    """The answer to GET /metrics, of the type CONTENT_TYPE."""
    # Imported at the first scrape: without a scrape the library would cost 0.6 MB for nothing.
    from prometheus_client.openmetrics.exposition import generate_latest

    # The names are legal as they are. Any other `escaping` looks at each character, and takes twice as long.
    text: bytes = generate_latest(Families(snapshot), escaping="allow-utf-8")  # type: ignore[no-untyped-call]
    return text


class Families:
    """A snapshot as the metric families of prometheus_client: a collector, and a registry with just that."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator["Family"]:
        for metric in METRICS:
            yield _family(metric, metric.read(self._snapshot))


def _family(metric: Metric, samples: Samples) -> "Family":
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )

    name = PREFIX + metric.name
    if metric.type == "histogram":
        histogram = HistogramMetricFamily(name, metric.meaning, labels=metric.labels, unit=metric.unit)
        for values, observed in samples.items():
            histogram.add_metric(values, _buckets(observed), observed.total)
        return histogram
    if metric.type == "info":
        info = InfoMetricFamily(name.removesuffix("_info"), metric.meaning)
        for values in samples:
            info.add_metric((), dict(zip(metric.labels, values, strict=True)))
        return info
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    family = kind(name.removesuffix("_total"), metric.meaning, labels=metric.labels, unit=metric.unit)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _buckets(observed: Histogram) -> Sequence[tuple[str, int]]:
    bounds = [*map(str, observed.bounds), "+Inf"]
    return list(zip(bounds, observed.counts or (0,) * len(bounds), strict=True))


# -- how a metric reads the snapshot -------------------------------------------------------------------


def _counter(name: str, meaning: str, read: Callable[[Snapshot], float]) -> Metric:
    return Metric(name, "counter", meaning, (), lambda snapshot: {(): read(snapshot)})


def _gauge(name: str, meaning: str, read: Callable[[Snapshot], float]) -> Metric:
    return Metric(name, "gauge", meaning, (), lambda snapshot: {(): read(snapshot)})


def _transactions(snapshot: Snapshot) -> Samples:
    counted = snapshot.kafka.transactions
    if counted is None:
        return {}
    return {("committed",): counted.committed, ("failed",): counted.failed, ("fenced",): counted.fenced}


def _by(
    label: str,
    kind: Literal["counter", "gauge"],
    name: str,
    meaning: str,
    read: Callable[[Snapshot], Mapping[str, float]],
) -> Metric:
    """A metric with one label."""
    return Metric(
        name,
        kind,
        meaning,
        (label,),
        lambda snapshot: {(key,): value for key, value in read(snapshot).items()},
    )


def _histogram(name: str, meaning: str, read: Callable[[Snapshot], Histogram]) -> Metric:
    return Metric(name, "histogram", meaning, (), lambda snapshot: {(): read(snapshot)})


def _age(age: float | None, snapshot: Snapshot) -> float:
    """An age that exists from the start: what has never happened counts from the start of the service."""
    return snapshot.uptime if age is None else age


def _events(snapshot: Snapshot) -> Samples:
    counted = dict.fromkeys(_LEVELS, 0) | snapshot.events
    return {(event, _LEVELS[event]): count for event, count in counted.items() if event in _LEVELS}


def _broker(name: str, meaning: str, read: Callable[[KafkaBroker], float | None]) -> Metric:
    """A gauge of each Kafka broker. `read` returns None while the value is not known."""

    def known(snapshot: Snapshot) -> Samples:
        values = ((broker, read(broker)) for broker in snapshot.kafka.brokers)
        return {(str(broker.number), broker.address): value for broker, value in values if value is not None}

    return Metric(name, "gauge", meaning, ("broker", "address"), known)


def _queue(name: str, meaning: str, read: Callable[[SessionQueue], float | None]) -> Metric:
    """A gauge of EMQX's session queue. It has no sample while EMQX's API gives no answer: an old length says
    nothing about what the queue does now.
    """

    def fresh(snapshot: Snapshot) -> Samples:
        emqx = snapshot.emqx
        if snapshot.queue is None or emqx is None or is_stale(emqx.trouble, emqx.asked_age):
            return {}
        value = read(snapshot.queue)
        return {} if value is None else {(): value}

    return Metric(name, "gauge", meaning, (), fresh)


def _trouble(name: str, meaning: str, read: Callable[[Snapshot], tuple[str, str]]) -> Metric:
    """1 for the event, of a closed list, that tells why a side is not live."""

    def present(snapshot: Snapshot) -> Samples:
        event, host = read(snapshot)
        return {(event, host): 1} if event else {}

    return Metric(name, "gauge", meaning, ("event", "host"), present)


def _neighbours(snapshot: Snapshot) -> Mapping[str, float]:
    asked = {"haproxy": snapshot.haproxy, "emqx": snapshot.emqx}
    return {
        name: float(not is_stale(neighbour.trouble, neighbour.asked_age))
        for name, neighbour in asked.items()
        if neighbour
    }


def _certificates(snapshot: Snapshot) -> Mapping[str, float]:
    return {certificate.whose: certificate.expires_at for certificate in snapshot.certificates}


# -- the table -----------------------------------------------------------------------------------------

METRICS: tuple[Metric, ...] = (
    # The service
    Metric("build_info", "info", "The version that runs.", ("version",), lambda s: {(s.version,): 1}),
    _gauge("uptime_seconds", "Time since the service was started.", lambda s: s.uptime),
    _gauge(
        "loop_last_turn_age_seconds",
        "Time since the loop made the snapshot that these metrics show. The loop makes one a second; all"
        " other metrics stand still while the loop hangs.",
        lambda s: max(0.0, time.monotonic() - s.made),
    ),
    _histogram(
        "loop_turn_seconds",
        "The longest turn of the loop in each second.",
        lambda s: s.loop_turn_seconds,
    ),
    _gauge(
        "clock_trusted",
        "1 while this machine's clock can be trusted. 0: records get no timestamp.",
        lambda s: s.clock_trusted,
    ),
    Metric(
        "events_total",
        "counter",
        "How often each event was logged, also below log.level. The events are a closed list, and each has"
        " one level.",
        ("event", "level"),
        _events,
    ),
    _by(
        "certificate",
        "gauge",
        "certificate_expiry_timestamp_seconds",
        "When a certificate expires: the bridge's, its authority's or a peer's.",
        _certificates,
    ),
    # The MQTT session
    _gauge(
        "mqtt_live",
        "1 while the MQTT session is up and subscribed, otherwise 0.",
        lambda s: s.mqtt.state == "live",
    ),
    _gauge(
        "mqtt_state_age_seconds",
        "Time since the MQTT session last changed its state (connecting, subscribing, live, backing off).",
        lambda s: s.mqtt.state_age,
    ),
    _counter("mqtt_connects_total", "Connections that the broker accepted.", lambda s: s.mqtt.connects),
    _by(
        "reason",
        "counter",
        "mqtt_disconnects_total",
        "Accepted connections that have ended. closed: the peer closed the connection without DISCONNECT."
        " silent: nothing was heard of the peer. taken_over: another client took the client id, and the"
        " broker said so. other: DISCONNECT with another reason, or the bridge ended the connection.",
        lambda s: s.mqtt.disconnects,
    ),
    _counter(
        "mqtt_sessions_lost_total",
        "How often the broker no longer had the session; messages that it kept there are lost.",
        lambda s: s.mqtt.sessions_lost,
    ),
    _gauge(
        "mqtt_subscriptions_refused",
        "Filters that the broker does not let the bridge subscribe.",
        lambda s: len(s.mqtt.refused),
    ),
    _trouble(
        "mqtt_trouble",
        "1, with the last WARNING or ERROR of the session since it was live, and the host and port where the"
        " bridge connects. No sample while there is none.",
        lambda s: (s.mqtt.trouble, f"{s.mqtt.host}:{s.mqtt.port}"),
    ),
    # Messages
    _by(
        "qos",
        "counter",
        "messages_received_total",
        "Messages that the broker sent, without copies of messages that the bridge knew.",
        lambda s: {str(qos): count for qos, count in enumerate(s.flow.received_by_qos)},
    ),
    _counter(
        "received_bytes_total", "Bytes that the broker sent, all packets.", lambda s: s.flow.received_bytes
    ),
    _counter(
        "messages_restored_total",
        "Messages that were on disk when the service was started.",
        lambda s: s.flow.restored,
    ),
    _counter(
        "messages_joined_total",
        "Copies that the broker sent again and that the bridge did not produce again.",
        lambda s: s.flow.joined,
    ),
    _by(
        "route",
        "counter",
        "messages_delivered_total",
        "Messages that Kafka holds on all in-sync replicas.",
        lambda s: {route.name: route.delivered for route in s.routes},
    ),
    _counter("delivered_bytes_total", "Payload bytes that Kafka holds.", lambda s: s.flow.delivered_bytes),
    _counter(
        "messages_spooled_total",
        "Messages that were written to disk: because Kafka was late, or all with delivery exactly-once.",
        lambda s: s.flow.spooled_total,
    ),
    _by(
        "reason",
        "counter",
        "messages_skipped_total",
        "Messages that the settings ask not to produce: a route drops them, skips retained ones or empty"
        " ones, or another subscription brings them too.",
        lambda s: dict.fromkeys(SKIPPED, 0) | s.flow.skipped,
    ),
    _by(
        "reason",
        "counter",
        "messages_dropped_total",
        "QoS 0 messages that are lost because they exceeded mqtt.qos0_messages or mqtt.qos0_bytes.",
        lambda s: dict.fromkeys(DROPPED, 0) | s.flow.dropped,
    ),
    _by(
        "reason",
        "counter",
        "messages_dead_lettered_total",
        "Messages that became dead letters, because they can never be delivered as they are.",
        lambda s: dict.fromkeys(DEAD_LETTERED, 0) | s.flow.dead_lettered,
    ),
    _counter(
        "messages_unreadable_total",
        "Messages that the bridge could not read back from disk. They stay there until the next start.",
        lambda s: s.flow.unreadable,
    ),
    _gauge("dead_letters", "Dead letters on this machine's disk.", lambda s: s.spool.dead_letters),
    _gauge("dead_letters_bytes", "Disk space of the dead letters.", lambda s: s.spool.dead_letter_bytes),
    _counter(
        "dead_letters_removed_total",
        "Dead letters that the bridge removed for good, because a limit was reached. They are lost.",
        lambda s: s.flow.dead_letters_removed,
    ),
    _gauge(
        "messages_in_flight",
        "Messages that were received and that neither Kafka nor the disk holds yet.",
        lambda s: s.flow.in_flight,
    ),
    _gauge(
        "messages_in_flight_limit",
        "mqtt.receive_maximum: as many QoS 1 and 2 messages an MQTT 5 broker may have in flight.",
        lambda s: s.flow.in_flight_limit,
    ),
    _gauge(
        "messages_unaccounted",
        "Messages that the bridge's counters and its queues disagree about. 0, or the bridge has a defect.",
        lambda s: s.flow.unaccounted,
    ),
    _gauge(
        "oldest_undelivered_age_seconds",
        "Age of the oldest message that neither Kafka nor the dead letters hold; 0 if no message waits. The"
        " first metric to look at.",
        lambda s: s.flow.oldest_undelivered_age,
    ),
    _gauge(
        "last_received_age_seconds",
        "Time since the last message was received; since the start if there was none.",
        lambda s: _age(s.flow.last_received_age, s),
    ),
    _gauge(
        "last_delivered_age_seconds",
        "Time since Kafka last confirmed a message; since the start if it confirmed none.",
        lambda s: _age(s.flow.last_delivered_age, s),
    ),
    _histogram(
        "delivery_seconds",
        "Time from receipt to Kafka's confirmation, of the first message of each batch of confirmations.",
        lambda s: s.flow.delivery_seconds,
    ),
    Metric(
        "acknowledge_seconds",
        "histogram",
        "Time from receipt until the bridge acknowledges a message to the broker, since Kafka or the disk"
        " holds it; of the first message of each batch.",
        ("by",),
        lambda s: {
            ("kafka",): s.flow.acknowledge_by_kafka_seconds,
            ("disk",): s.flow.acknowledge_by_disk_seconds,
        },
    ),
    # The spool
    _gauge("spool_messages", "Messages on disk that wait for Kafka.", lambda s: s.spool.messages),
    _gauge("spool_bytes", "The used part of the spool's database.", lambda s: s.spool.bytes_used),
    _gauge("spool_limit_bytes", "spool.max_bytes.", lambda s: s.spool.bytes_limit),
    _gauge("disk_free_bytes", "Free space on the disk of the spool.", lambda s: s.spool.disk_free),
    _gauge("disk_keep_free_bytes", "spool.keep_free.", lambda s: s.spool.disk_keep_free),
    _by(
        "state",
        "gauge",
        "spool_state",
        "1 for the spool's state, 0 for the others: usable, full or unusable.",
        lambda s: {state: float(s.spool.state == state) for state in SPOOL_STATES},
    ),
    _histogram(
        "spool_commit_seconds", "Time of one commit to disk, with its sync.", lambda s: s.spool.commit_seconds
    ),
    # Kafka
    _gauge("kafka_live", "1 while Kafka takes messages, otherwise 0.", lambda s: s.kafka.state == "live"),
    _gauge(
        "kafka_state_age_seconds", "Time since kafka_live or its cause changed.", lambda s: s.kafka.state_age
    ),
    _gauge("kafka_brokers_known", "Brokers that Kafka's metadata names.", lambda s: len(s.kafka.brokers)),
    _gauge(
        "kafka_brokers_up",
        "Known brokers that are up.",
        lambda s: sum(broker.is_up for broker in s.kafka.brokers),
    ),
    _broker(
        "kafka_broker_up",
        "1 while this broker is up, 0 while it is down or hangs. `broker` is its node.id; a negative number"
        " while only its address is known.",
        lambda broker: broker.is_up,
    ),
    _broker(
        "kafka_broker_round_trip_p99_seconds",
        "99th percentile of a request's round trip to this broker, in librdkafka's last window; absent with"
        " over 500 Kafka topics, of which librdkafka's statistics would take too much memory.",
        lambda broker: broker.round_trip_p99,
    ),
    _gauge("kafka_producer_queue_messages", "Messages in librdkafka.", lambda s: s.kafka.producer_queue),
    _counter(
        "kafka_producer_rebuilds_total",
        "How often the bridge replaced a producer that could not go on.",
        lambda s: s.kafka.rebuilds,
    ),
    Metric(
        "kafka_transactions_total",
        "counter",
        "With delivery exactly-once: transactions that Kafka has committed; those that failed, of which the"
        " bridge produced again what Kafka did not have; and how often another bridge with the same"
        " transactional.id took over.",
        ("outcome",),
        _transactions,
    ),
    Metric(
        "kafka_transaction_commit_seconds",
        "histogram",
        "With delivery exactly-once: how long Kafka took to commit a transaction.",
        (),
        lambda s: {(): s.kafka.transactions.commit_seconds} if s.kafka.transactions else {},
    ),
    _trouble(
        "kafka_trouble",
        "1, with the last WARNING or ERROR of Kafka since it was live, and kafka.bootstrap_servers. No sample"
        " while there is none.",
        lambda s: (s.kafka.trouble, s.kafka.bootstrap_servers),
    ),
    _gauge(
        "lanes_held",
        "Kafka topics that are missing, forbidden or not writable now; their messages wait on disk.",
        lambda s: s.held_total,
    ),
    _gauge("lanes_waiting", "Kafka topics of which messages wait.", lambda s: s.waiting_total),
    # What HAProxy and EMQX say
    _by(
        "neighbour",
        "gauge",
        "neighbour_answers",
        "1 while HAProxy's statistics, or EMQX's API, answers the bridge, otherwise 0. Only for those that"
        " the settings name.",
        _neighbours,
    ),
    _by(
        "node",
        "gauge",
        "emq_node_up",
        "1 while HAProxy's checks find this EMQ node up, otherwise 0. `node` is the server's name in"
        " haproxy.cfg.",
        lambda s: {node.name: float(node.is_up) for node in s.nodes},
    ),
    _by(
        "node",
        "gauge",
        "emq_node_sessions",
        "Connections of HAProxy to this EMQ node, in the section haproxy.backend.",
        lambda s: {node.name: node.sessions for node in s.nodes},
    ),
    _queue(
        "session_queue_messages",
        "Messages that EMQX keeps for the bridge's session.",
        lambda queue: queue.length,
    ),
    _queue(
        "session_queue_limit",
        "How many messages EMQX keeps for the session (max_mqueue_len). Beyond that it drops the oldest. No"
        " sample if EMQX has no limit.",
        lambda queue: queue.limit or None,
    ),
    Metric(
        "session_queue_dropped_total",
        "counter",
        "Messages that EMQX dropped from the session's queue. They are lost.",
        (),
        lambda s: {(): s.queue.dropped} if s.queue else {},
    ),
    _queue(
        "session_window_messages",
        "Messages that EMQX has in flight to the bridge.",
        lambda queue: queue.window,
    ),
    _queue(
        "session_window_limit",
        "How many messages EMQX may have in flight to the bridge (max_inflight). No sample if EMQX has no"
        " limit.",
        lambda queue: queue.window_limit or None,
    ),
)
