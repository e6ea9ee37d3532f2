"""deploy/prometheus/alerts.yml: each alert fires on its fault, and nothing else fires."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.observe.events import Event
from bridge.status.metrics import METRICS, PREFIX
from tests.artefacts import pages
from tests.harness.kit import ROOT
from tests.harness.promtool import ALERTS, STEPS, TARGET, annotations, firing, steady
from tests.harness.snapshots import STATES, healthy

TEXT = ALERTS.read_text()
RUNBOOK = ROOT / "docs" / "runbook.md"
BLOCKS = re.findall(r"^      - alert: (\w+)\n(.*?)(?=^      - alert: |^      # -- |\Z)", TEXT, re.M | re.S)
NAMES = {name for name, _ in BLOCKS}
SHORT = "MqttKafkaBridge"


@dataclass(frozen=True)
class Case:
    """What happens to a healthy bridge, and which alerts fire after `seconds`, without their prefix."""

    fault: str
    changes: Mapping[str, str]
    fires: Mapping[str, int] = field(default_factory=dict)
    seconds: int = 300

    def __str__(self) -> str:
        return self.fault.replace(" ", "-")


def _m(changes: Mapping[str, str]) -> dict[str, str]:
    return {key if key.startswith("up{") else PREFIX + key: value for key, value in changes.items()}


CASES = (
    Case("nothing happens", {}),
    Case("nothing happens, at the start", {}, seconds=10),
    # -- the service
    Case("no scrape works", {"up{}": f"1x20 0x{STEPS}"}, {"Down": 1}),
    Case("scrapes fail for half a minute", {"up{}": f"1x54 0x6 1x{STEPS}"}),
    Case("the loop hangs", {"loop_last_turn_age_seconds{}": f"0x30 0+5x{STEPS}"}, {"Stuck": 1}),
    Case("the loop took 9 s for a turn", {"loop_last_turn_age_seconds{}": f"9x{STEPS}"}),
    Case(
        "an error event",
        {'events_total{event="mqtt.refused",level="error"}': f"0x54 1x{STEPS}"},
        {"ErrorEvents": 1},
    ),
    Case(
        "two error events",
        {
            'events_total{event="mqtt.refused",level="error"}': f"0x54 1x{STEPS}",
            'events_total{event="kafka.topic_missing",level="error"}': f"3x54 5x{STEPS}",
        },
        {"ErrorEvents": 2},
    ),
    Case(
        "an error event before the first scrape",
        {
            'events_total{event="mqtt.refused",level="error"}': f"1x{STEPS}",
            "uptime_seconds{}": f"2+5x{STEPS}",
        },
        {"ErrorEvents": 1},
        seconds=30,
    ),
    Case(
        "an error event long ago",
        {'events_total{event="mqtt.refused",level="error"}': f"1x{STEPS}"},
    ),
    Case(
        "a warning event",
        {'events_total{event="mqtt.closed",level="warning"}': f"2x54 3x{STEPS}"},
    ),
    Case(
        "a certificate has 13 days",
        {'certificate_expiry_timestamp_seconds{certificate="Kafka\'s"}': f"{13 * 86400}x{STEPS}"},
        {"CertificateExpiresSoon": 1},
    ),
    Case(
        "a certificate has 15 days",
        {'certificate_expiry_timestamp_seconds{certificate="Kafka\'s"}': f"{15 * 86400}x{STEPS}"},
    ),
    # -- EMQ and HAProxy
    Case("not live", {"mqtt_live{}": f"1x56 0x{STEPS}"}, {"NotReceiving": 1}),
    Case("not live, and a scrape fails", {"mqtt_live{}": f"1x54 0x3 _x1 0x{STEPS}"}, {"NotReceiving": 1}),
    Case("not live for five seconds", {"mqtt_live{}": f"1x58 0x0 1x{STEPS}"}),
    Case("an EMQ node is down", {'emq_node_up{node="emq2"}': f"1x56 0x{STEPS}"}, {"EmqNodeDown": 1}),
    Case(
        "another client takes the client id",
        {
            'events_total{event="mqtt.taken_over",level="error"}': f"0x57 1x{STEPS}",
            "mqtt_connects_total{}": f"3x57 4x{STEPS}",
        },
        {"ReconnectStorm": 1, "ErrorEvents": 1},
    ),
    Case(
        "the bridge connects again and again",
        {"mqtt_connects_total{}": f"3x30 3+1x{STEPS}"},
        {"ReconnectStorm": 1},
    ),
    Case("the bridge connected again twice", {"mqtt_connects_total{}": f"3x30 4x10 5x{STEPS}"}),
    Case(
        "the session is lost",
        {"mqtt_sessions_lost_total{}": f"0x50 1x{STEPS}"},
        {"SessionLost": 1},
    ),
    Case(
        "the session is lost at the start",
        {"mqtt_sessions_lost_total{}": f"1x{STEPS}", "uptime_seconds{}": f"2+5x{STEPS}"},
        {"SessionLost": 1},
        seconds=60,
    ),
    Case("the session was lost an hour ago", {"mqtt_sessions_lost_total{}": f"1x{STEPS}"}),
    Case(
        "EMQ's queue is more than half full",
        {"session_queue_messages{}": f"0x56 501x{STEPS}"},
        {"BrokerQueueFills": 1},
    ),
    Case(
        "EMQ's queue fills within five minutes",
        {"session_queue_messages{}": f"0x48 0+30x{STEPS}"},
        {"BrokerQueueFills": 1},
        seconds=280,
    ),
    Case("EMQ's queue is a third full and stays so", {"session_queue_messages{}": f"300x{STEPS}"}),
    Case(
        "EMQ's queue has no limit",
        {"session_queue_messages{}": f"100000x{STEPS}", "session_queue_limit{}": "_"},
    ),
    # -- Kafka
    Case(
        "a message waits 20 s",
        {"oldest_undelivered_age_seconds{}": f"0x56 0+5x{STEPS}"},
        {"DeliveryLate": 1},
        seconds=305,
    ),
    Case("a message waits 11 s", {"oldest_undelivered_age_seconds{}": f"11x{STEPS}"}),
    Case(
        "a message waits ten minutes",
        {"oldest_undelivered_age_seconds{}": f"0x60 0+5x{STEPS}"},
        {"DeliveryLate": 2},
        seconds=900,
    ),
    Case(
        "a Kafka broker is down",
        {'kafka_broker_up{address="172.30.1.32:9092",broker="2"}': f"1x57 0x{STEPS}"},
        {"KafkaBrokerDown": 1},
    ),
    Case("a topic is missing", {"lanes_held{}": f"0x58 1x{STEPS}"}, {"TopicHeld": 1}),
    Case(
        "a topic can't be looked up while all of Kafka is away",
        {"lanes_held{}": f"0x58 1x{STEPS}", "kafka_live{}": f"1x58 0x{STEPS}"},
    ),
    Case("topics wait and are not held", {"lanes_waiting{}": f"0x58 5x{STEPS}"}),
    # -- the disk
    Case(
        "the spool is full in an hour",
        {"spool_bytes{}": f"0x100 0+2500000x{STEPS}", "spool_messages{}": f"0x100 0+100x{STEPS}"},
        {"SpoolFillsSoon": 1},
        seconds=900,
    ),
    Case(
        "the disk is full in an hour",
        {
            "disk_free_bytes{}": f"2000000000x100 2000000000-2000000x{STEPS}",
            "spool_messages{}": f"0x100 0+100x{STEPS}",
        },
        {"SpoolFillsSoon": 1},
        seconds=900,
    ),
    Case(
        "another program fills the disk",
        {"disk_free_bytes{}": f"2000000000x100 2000000000-2000000x{STEPS}"},
        seconds=900,
    ),
    Case(
        "the spool is full in a week",
        {"spool_bytes{}": f"0x100 0+16000x{STEPS}", "spool_messages{}": f"0x100 0+100x{STEPS}"},
        seconds=900,
    ),
    Case(
        "the spool is full",
        {'spool_state{state="usable"}': f"1x58 0x{STEPS}", 'spool_state{state="full"}': f"0x58 1x{STEPS}"},
        {"SpoolFull": 1},
    ),
    Case(
        "the spool is unusable",
        {
            'spool_state{state="usable"}': f"1x58 0x{STEPS}",
            'spool_state{state="unusable"}': f"0x58 1x{STEPS}",
        },
        {"SpoolUnusable": 1},
    ),
    # -- messages
    Case(
        "QoS 0 messages are dropped",
        {'messages_dropped_total{reason="qos0_limit"}': f"0x50 9x{STEPS}"},
        {"MessagesLost": 1},
    ),
    Case(
        "EMQX drops messages of the session",
        {"session_queue_dropped_total{}": f"0x50 9x{STEPS}"},
        {"MessagesLost": 1},
    ),
    Case(
        "dead letters are removed",
        {"dead_letters_removed_total{}": f"0x50 1x{STEPS}"},
        {"MessagesLost": 1},
    ),
    Case("a message is unaccounted for", {"messages_unaccounted{}": f"0x50 1x{STEPS}"}, {"MessagesLost": 1}),
    Case("one is counted twice", {"messages_unaccounted{}": f"0x50 -1x{STEPS}"}, {"MessagesLost": 1}),
    Case(
        "messages are skipped, as the settings ask",
        {'messages_skipped_total{reason="drop"}': f"0x50 9x{STEPS}"},
    ),
    Case(
        "a message becomes a dead letter",
        {'messages_dead_lettered_total{reason="too_large"}': f"0x50 1x{STEPS}"},
        {"DeadLetters": 1},
    ),
    Case("dead letters of last week are still there", {"dead_letters{}": f"12x{STEPS}"}),
)


@pytest.fixture(scope="module")
def calm() -> dict[str, str]:
    """The series of a healthy bridge that the alerts look at."""
    used = {PREFIX + metric.name for metric in METRICS if PREFIX + metric.name in TEXT} | {"up"}
    found = {
        key: values
        for key, values in steady(healthy()).items()
        if key.partition("{")[0] in used and 'level="info"' not in key and 'level="debug"' not in key
    }
    return found | _m({"loop_last_turn_age_seconds{}": f"0.5x{STEPS}"})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_alert_fires_on_its_fault_and_no_other_alert_does(
    case: Case, calm: dict[str, str], tmp_path: Path
) -> None:
    expected = {SHORT + name: count for name, count in case.fires.items()}
    assert firing(calm | _m(case.changes), case.seconds, expected, tmp_path) == ""


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    assert {SHORT + name for case in CASES for name in case.fires} == NAMES


WANTED = """Down NotReceiving DeliveryLate SpoolFillsSoon SpoolFull SpoolUnusable BrokerQueueFills SessionLost
MessagesLost DeadLetters TopicHeld ReconnectStorm Stuck ErrorEvents CertificateExpiresSoon EmqNodeDown
KafkaBrokerDown"""


def test_the_alerts_are_these() -> None:
    assert {name.removeprefix(SHORT) for name in NAMES} == set(WANTED.split())
    severities = {name: set(re.findall(r"severity: (\w+)", block)) for name, block in BLOCKS}
    assert set().union(*severities.values()) == {"critical", "warning"}
    late = [re.findall(r"severity: (\w+)", block) for name, block in BLOCKS if name.endswith("DeliveryLate")]
    assert late == [["warning"], ["critical"]]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("healthy", {}),
        ("without_neighbours", {}),
        ("one_emq_down", {"EmqNodeDown": 1}),
        ("emq_down", {"NotReceiving": 1, "EmqNodeDown": 2}),
        ("one_kafka_down", {"KafkaBrokerDown": 1}),
        ("kafka_down", {"KafkaBrokerDown": 3, "DeliveryLate": 2}),
        ("spool_full", {"KafkaBrokerDown": 3, "DeliveryLate": 2, "SpoolFull": 1, "BrokerQueueFills": 1}),
        ("topic_missing", {"TopicHeld": 1, "DeliveryLate": 2}),
        ("wrong_password", {"NotReceiving": 1}),
    ],
)
def test_a_state_that_stays_fires_its_alerts(state: str, expected: dict[str, int], tmp_path: Path) -> None:
    whole = steady(STATES[state]()) | _m({"loop_last_turn_age_seconds{}": f"0.5x{STEPS}"})
    assert firing(whole, 300, {SHORT + name: n for name, n in expected.items()}, tmp_path) == ""


def test_a_bridge_that_receives_nothing_is_named_with_the_cause(tmp_path: Path) -> None:
    values = {
        "mqtt_live{}": f"0x{STEPS}",
        'mqtt_trouble{event="mqtt.refused",host="172.30.1.10:1884"}': f"1x{STEPS}",
        'emq_node_up{node="server1"}': f"1x{STEPS}",
        'emq_node_up{node="server2"}': f"0x{STEPS}",
    }
    expected = {
        "exp_labels": {"severity": "critical", **TARGET},
        "exp_annotations": {
            "summary": "The bridge has no session with EMQ, and receives nothing.",
            "description": "bridge:9464 is not live at EMQ. The cause: mqtt.refused at 172.30.1.10:1884."
            " Correct mqtt.username or the file of mqtt.password_file."
            " HAProxy finds the EMQ node server2 down. On its host: sudo systemctl restart emqx (or emqttd)."
            " EMQ queues what devices publish until its queue is full, and then drops the oldest.",
            "runbook_url": "http://bridge:9464/runbook#mqttkafkabridgenotreceiving",
        },
    }
    assert annotations(_m(values), 60, f"{SHORT}NotReceiving", expected, tmp_path) == ""


@pytest.mark.parametrize(
    ("event", "remedy"),
    [
        ("kafka.all_brokers_down", "There run: sudo systemctl restart kafka."),
        ("kafka.authentication_failed", "Correct sasl.username or the file of kafka.password_file."),
        ("kafka.tls_failed", "A restart of Kafka does not cure that: the bridge's page says what to do."),
    ],
)
def test_late_messages_are_named_with_the_cause_and_its_remedy(
    event: str, remedy: str, tmp_path: Path
) -> None:
    values = {
        "oldest_undelivered_age_seconds{}": f"20x{STEPS}",
        f'kafka_trouble{{event="{event}",host="172.30.1.31:9092"}}': f"1x{STEPS}",
    }
    expected = {
        "exp_labels": {"severity": "warning", **TARGET},
        "exp_annotations": {
            "summary": "Kafka is late.",
            "description": "The oldest message of bridge:9464 has waited 20s for Kafka. Messages wait on the"
            f" bridge's disk. The cause: {event} at 172.30.1.31:9092. {remedy}",
            "runbook_url": "http://bridge:9464/runbook#mqttkafkabridgedeliverylate",
        },
    }
    assert annotations(_m(values), 60, f"{SHORT}DeliveryLate", expected, tmp_path) == ""


def test_an_error_event_links_to_its_entry(tmp_path: Path) -> None:
    values = {'events_total{event="kafka.topic_missing",level="error"}': f"0x50 1x{STEPS}"}
    expected = {
        "exp_labels": {"severity": "warning", "event": "kafka.topic_missing", **TARGET},
        "exp_annotations": {
            "summary": "The bridge logged an error, and a person must act.",
            "description": "bridge:9464 logged the event kafka.topic_missing. The line in its log says what"
            " to do: sudo journalctl -u mqtt-kafka-bridge -o cat | grep '\"error\"'",
            "runbook_url": "http://bridge:9464/runbook#kafkatopic_missing",
        },
    }
    assert annotations(_m(values), 300, f"{SHORT}ErrorEvents", expected, tmp_path) == ""
    anchors = pages.anchors(RUNBOOK)
    assert not [event for event in Event if event.level >= 40 and event.replace(".", "") not in anchors]


@pytest.mark.parametrize(("name", "block"), BLOCKS)
def test_an_alert_has_all_that_a_person_needs(name: str, block: str) -> None:
    assert name.startswith(SHORT)
    assert re.search(r"^          summary: \S.*\.$", block, re.M)
    assert "{{" not in re.findall(r"summary: (.*)", block)[0]  # a fixed sentence
    description = re.findall(r"description: >-\n((?:            .*\n)+)", block)[0]
    assert "{{" in description
    assert re.findall(r"^          severity: (\w+)$", block, re.M)[0] in ("critical", "warning")
    [url] = re.findall(r"runbook_url: (.*)", block)
    page, _, anchor = url.partition("#")
    assert page == "http://{{ $labels.instance }}/runbook"
    assert anchor.startswith("{{") or anchor in pages.anchors(RUNBOOK)


def test_the_names_in_the_alerts_are_metrics() -> None:
    known = {PREFIX + metric.name for metric in METRICS}
    used = set(re.findall(rf"\b{PREFIX}\w+", TEXT))
    assert used
    assert used <= known


def test_promtool_accepts_the_shipped_files() -> None:
    for kind, file in (("rules", ALERTS), ("config", ALERTS.with_name("prometheus.yml"))):
        done = subprocess.run(["promtool", "check", kind, file], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "SUCCESS" in done.stdout
