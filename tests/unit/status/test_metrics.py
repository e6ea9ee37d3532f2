"""What GET /metrics answers: valid OpenMetrics, every series from the start, and no name of a device."""

import math
import re
import subprocess
from dataclasses import replace

import prometheus_client
import pytest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bridge.delivery.counts import DEAD_LETTERED, DROPPED, SKIPPED
from bridge.observe.events import Event
from bridge.status.metrics import CONTENT_TYPE, METRICS, PREFIX, Families, render
from bridge.status.snapshot import Histogram, KafkaBroker, Neighbour, Snapshot, Transactions
from tests.harness.snapshots import STATES, healthy, queue_filling, spool_full, starting

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(snapshot: Snapshot) -> Series:
    """Each sample by its name without the prefix, and its labels; read by the library's own parser."""
    found: Series = {}
    for family in text_string_to_metric_families(render(snapshot).decode()):
        for sample in family.samples:
            assert sample.name.startswith(PREFIX)
            key = sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(series: Series, name: str, **labels: str) -> float:
    return series[name, frozenset(labels.items())]


def named(series: Series, name: str) -> dict[frozenset[tuple[str, str]], float]:
    return {labels: value for (each, labels), value in series.items() if each == name}


@pytest.mark.parametrize("state", STATES)
def test_a_parser_of_openmetrics_reads_every_state(state: str) -> None:
    series = scraped(STATES[state]())
    assert not [key for key, number in series.items() if math.isnan(number)]
    assert CONTENT_TYPE == CONTENT_TYPE_LATEST


def test_promtool_finds_nothing_to_improve() -> None:
    text = prometheus_client.generate_latest(Families(queue_filling()))  # promtool reads the older format
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_names_are_unique_and_say_their_unit() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    for metric in METRICS:
        assert (metric.type == "counter") == metric.name.endswith("_total"), metric.name
        assert metric.meaning.endswith("."), metric.name
        if metric.type == "histogram":
            assert metric.unit == "seconds"


def test_numbers_come_from_the_snapshot() -> None:
    snapshot = healthy()
    series = scraped(snapshot)
    assert value(series, "build_info", version=snapshot.version) == 1
    assert value(series, "mqtt_live") == 1
    assert value(series, "messages_received_total", qos="1") == snapshot.flow.received_by_qos[1]
    assert value(series, "messages_delivered_total", route="lamps") == snapshot.routes[1].delivered
    assert value(series, "oldest_undelivered_age_seconds") == snapshot.flow.oldest_undelivered_age
    assert value(series, "kafka_brokers_up") == 3
    assert value(series, "kafka_broker_up", broker="2", address="172.30.1.32:9092") == 1
    assert value(series, "emq_node_up", node="emq2") == 1
    assert value(series, "session_queue_limit") == 1000
    assert value(series, "events_total", event="mqtt.closed", level="warning") == 2
    assert value(series, "acknowledge_seconds_count", by="kafka") == 100
    assert value(series, "acknowledge_seconds_bucket", by="kafka", le="0.1") == 99
    assert value(series, "acknowledge_seconds_sum", by="kafka") == 0.7


def test_each_field_of_the_flow_has_a_metric() -> None:
    numbers = {
        "restored": "messages_restored_total",
        "received_bytes": "received_bytes_total",
        "delivered_bytes": "delivered_bytes_total",
        "in_flight": "messages_in_flight",
        "in_flight_limit": "messages_in_flight_limit",
        "spooled_total": "messages_spooled_total",
        "joined": "messages_joined_total",
        "dead_letters_removed": "dead_letters_removed_total",
        "unreadable": "messages_unreadable_total",
        "unaccounted": "messages_unaccounted",
        "oldest_undelivered_age": "oldest_undelivered_age_seconds",
    }
    snapshot = healthy()
    for number, (field, name) in enumerate(numbers.items(), 1001):
        changed = replace(snapshot, flow=replace(snapshot.flow, **{field: number}))
        assert value(scraped(changed), name) == number


def test_the_spools_state_is_one_of_three() -> None:
    states = named(scraped(spool_full()), "spool_state")
    assert {dict(labels)["state"]: number for labels, number in states.items()} == {
        "usable": 0,
        "full": 1,
        "unusable": 0,
    }


def test_every_event_has_a_series_from_the_start() -> None:
    events = named(scraped(replace(starting(), events={})), "events_total")
    assert {(dict(labels)["event"], number) for labels, number in events.items()} == {
        (event.value, 0) for event in Event
    }


def test_every_reason_has_a_series_from_the_start() -> None:
    fresh = starting()
    series = scraped(fresh)
    assert len(named(series, "messages_skipped_total")) == len(SKIPPED)
    assert len(named(series, "messages_dropped_total")) == len(DROPPED)
    assert len(named(series, "messages_dead_lettered_total")) == len(DEAD_LETTERED)
    assert len(named(series, "messages_delivered_total")) == len(fresh.routes)


def test_only_metrics_of_neighbours_certificates_and_transactions_are_missing_at_the_start() -> None:
    """Each other metric has a sample even before the first connection."""
    fresh = starting()
    series = scraped(replace(fresh, mqtt=replace(fresh.mqtt, disconnects={"closed": 0})))
    present = {re.sub(r"_(bucket|count|sum)$", "", name) for name, _ in series}
    missing = {metric.name for metric in METRICS} - present
    assert missing == {
        "certificate_expiry_timestamp_seconds",
        "kafka_broker_up",
        "kafka_broker_round_trip_p99_seconds",
        "neighbour_answers",
        "mqtt_trouble",
        "kafka_trouble",
        "kafka_transactions_total",
        "kafka_transaction_commit_seconds",
        "emq_node_up",
        "emq_node_sessions",
        "session_queue_messages",
        "session_queue_limit",
        "session_queue_dropped_total",
        "session_window_messages",
        "session_window_limit",
    }


def test_a_histogram_without_observations_has_its_series() -> None:
    series = scraped(replace(healthy(), loop_turn_seconds=Histogram()))
    assert value(series, "loop_turn_seconds_bucket", le="+Inf") == 0
    assert value(series, "loop_turn_seconds_count") == 0


def test_a_side_in_trouble_names_the_event_and_the_host() -> None:
    series = scraped(STATES["kafka_down"]())
    servers = "172.30.1.31:9092,172.30.1.32:9092,172.30.1.33:9092"
    assert value(series, "kafka_trouble", event="kafka.all_brokers_down", host=servers) == 1
    assert not named(series, "mqtt_trouble")
    series = scraped(STATES["emq_down"]())
    assert value(series, "mqtt_trouble", event="mqtt.unavailable", host="172.30.1.10:1884") == 1


def test_what_never_happened_is_as_old_as_the_service() -> None:
    fresh = starting()
    assert value(scraped(fresh), "last_delivered_age_seconds") == fresh.uptime
    assert value(scraped(fresh), "last_received_age_seconds") == fresh.uptime


def test_the_age_of_the_last_turn_goes_on_while_the_loop_hangs() -> None:
    whole = healthy()
    hung = replace(whole, made=whole.made - 40)
    assert 40 <= value(scraped(hung), "loop_last_turn_age_seconds") < 50


def test_an_old_answer_of_emqx_is_not_shown_as_its_queue() -> None:
    silent = replace(queue_filling(), emqx=Neighbour("http://emq:18083", 60.0, "connection refused"))
    series = scraped(silent)
    assert not named(series, "session_queue_messages")
    assert named(series, "session_queue_dropped_total")  # a counter does not go back
    assert value(series, "neighbour_answers", neighbour="emqx") == 0


def test_a_round_trip_that_is_not_known_is_left_out() -> None:
    whole = healthy()
    brokers = (KafkaBroker(1, "k1:9092", True, 1.0, 0.25), KafkaBroker(2, "k2:9092", False, 1.0))
    series = scraped(replace(whole, kafka=replace(whole.kafka, brokers=brokers)))
    trips = named(series, "kafka_broker_round_trip_p99_seconds")
    assert {dict(labels)["broker"]: number for labels, number in trips.items()} == {"1": 0.25}
    assert value(series, "kafka_brokers_known") == 2
    assert value(series, "kafka_brokers_up") == 1


@pytest.mark.parametrize("state", STATES)
def test_no_topic_client_id_or_filter_is_shown(state: str) -> None:
    snapshot = STATES[state]()
    text = render(snapshot).decode()
    hidden = {snapshot.mqtt.client_id + '"', *(held.topic + '"' for held in snapshot.held)}
    hidden |= {route.filter for route in snapshot.routes} | set(snapshot.mqtt.refused)
    hidden -= {route.name + '"' for route in snapshot.routes}
    assert not [word for word in hidden if word in text]


def test_a_hostile_name_stays_one_label() -> None:
    whole = healthy()
    name = 'a"} 1\n# EOF\nb{c="\\'
    nodes = (replace(whole.nodes[0], name=name),)
    assert value(scraped(replace(whole, nodes=nodes)), "emq_node_up", node=name) == 1


def test_with_delivery_exactly_once_transactions_are_counted_by_their_outcome() -> None:
    fresh = starting()
    seconds = Histogram((0.1,), (3, 4), 0.5)
    series = scraped(replace(fresh, kafka=replace(fresh.kafka, transactions=Transactions(4, 2, 1, seconds))))
    outcomes = ("committed", "failed", "fenced")
    assert [value(series, "kafka_transactions_total", outcome=each) for each in outcomes] == [4, 2, 1]
    assert value(series, "kafka_transaction_commit_seconds_count") == 4
