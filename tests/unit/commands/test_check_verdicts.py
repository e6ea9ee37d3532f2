"""bridge check: what each check makes of what it found."""

import dataclasses
import os
import socket
import struct
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.commands.check import (
    haproxy_cfg,
    kafka_side,
    machine,
    mqtt_side,
    send,
    service,
    settings_group,
    spool_group,
)
from bridge.commands.check.outcome import Level, Outcome, Site
from bridge.errors import BridgeError
from bridge.kafka.quorum_clock import latest
from bridge.kafka.topic_description import Description
from bridge.settings import Settings
from bridge.spool import disk_check
from bridge.status.diagnosis import diagnose
from bridge.status.document import Status
from bridge.status.finding import Diagnosis, broken, warning
from bridge.status.snapshot import BrokerNode, SessionQueue
from tests.harness.haproxy import CONFIGURATION
from tests.harness.snapshots import healthy


def site(**mqtt: Any) -> Site:
    settings = Settings.model_validate(
        {
            "mqtt": {"host": "127.0.0.1", **mqtt},
            "kafka": {"bootstrap_servers": "127.0.0.1:1"},
            "http": {"listen": "127.0.0.1:9"},
            "routes": [
                {"name": "a", "filter": "a/#", "topic": "a"},
                {"name": "b", "filter": "b/#", "action": "drop"},
            ],
        }
    )
    return Site(settings, "looks", Path("/nowhere/bridge.toml"))


def running_for(uptime: float, reloaded_age: float | None = None) -> Status:
    """What a service answers that started so many seconds ago."""
    snapshot = dataclasses.replace(healthy(), uptime=uptime, reloaded_age=reloaded_age)
    return Status(snapshot, diagnose(snapshot))


def levels(outcomes: Iterable[Outcome]) -> list[Level]:
    return [outcome.level for outcome in outcomes]


# -- HAProxy -----------------------------------------------------------------------------------------------


def test_the_shipped_haproxy_cfg_allows_three_hours_of_silence_on_the_bridges_port() -> None:
    assert haproxy_cfg.silence(CONFIGURATION.read_text(), 1884) == {
        "timeout client": 10800.0,
        "timeout server": 10800.0,
    }


SPLIT = """
defaults
    timeout client 50s   # a comment
    timeout server 50000
frontend in
    bind 10.0.0.1:1884,10.0.0.2:1885 name "x"
    timeout client 2m
    default_backend emq
backend emq
    timeout server 1h
listen other
    bind :9999
"""


@pytest.mark.parametrize(
    ("text", "port", "expected"),
    [
        (SPLIT, 1885, {"timeout client": 120.0, "timeout server": 3600.0}),
        (SPLIT, 9999, {"timeout client": 50.0, "timeout server": 50.0}),
        (SPLIT + "timeout tunnel 4h", 9999, {"timeout tunnel": 14400.0}),
        (SPLIT, 188, None),
        ("listen a\n bind *:1\n", 1, {"timeout client": None, "timeout server": None}),
        ('listen a\n bind "${L-*}:1"\n timeout client 1d', 1,
         {"timeout client": 86400.0, "timeout server": None}),
        ("defaults x\n timeout client 9s\ndefaults y\nlisten a from x\n bind *:1", 1,
         {"timeout client": 9.0, "timeout server": None}),
    ],
)  # fmt: skip
def test_haproxys_timeouts_are_read(text: str, port: int, expected: object) -> None:
    assert haproxy_cfg.silence(text, port) == expected


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(10800.0, Level.GOOD), (90.0, Level.GOOD), (89.0, Level.FAILED), (None, Level.WARNING)],
)
def test_a_timeout_must_be_longer_than_the_keepalive_with_a_late_ping(
    seconds: float | None, level: Level
) -> None:
    assert levels(mqtt_side.timeouts_verdict("f", {"timeout client": seconds}, 60.0)) == [level]


def test_a_user_of_a_plain_broker_reads_nothing_of_haproxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mqtt_side, "INSTALLED", tmp_path / "none")
    assert list(mqtt_side.haproxy_timeouts(site(port=1883))) == []
    assert levels(mqtt_side.haproxy_timeouts(site(port=1884))) == [Level.SKIPPED]


def test_a_user_of_a_plain_broker_with_the_default_port_reads_that_1883_is_open_and_nothing_of_haproxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mqtt_side, "INSTALLED", tmp_path / "none")
    there = site(host="127.47.3.1")
    with socket.create_server(("127.47.3.1", 1883)):
        (outcome,) = mqtt_side.tcp(there)
    assert outcome.found == "127.47.3.1:1884 accepts no connection, but port 1883 is open there"
    assert outcome.remedy.startswith("set mqtt.port = 1883; or, if a balancer")
    assert list(mqtt_side.haproxy_timeouts(there)) == list(mqtt_side.nodes(there)) == []


def test_where_1883_is_shut_too_the_port_of_a_broker_without_haproxy_is_named() -> None:
    with pytest.raises(BridgeError, match=r"does HAProxy run there.* Without HAProxy set mqtt.port = 1883"):
        list(mqtt_side.tcp(site(host="127.47.3.2")))
    with pytest.raises(
        BridgeError, match=r"does the broker run there, and does a firewall refuse the port\?"
    ):
        list(mqtt_side.tcp(site(host="127.47.3.2", port=1883)))


def test_an_address_is_not_said_to_be_itself() -> None:
    assert list(mqtt_side.name(site())) == []
    (outcome,) = mqtt_side.name(site(host="localhost"))
    assert outcome.found.startswith("localhost is ")


def test_the_rate_that_the_disk_allows_has_no_more_digits_than_the_measurement() -> None:
    assert "about 290,000 messages/s" in spool_group.sync_verdict(32 / 293_166, 32, None).found
    assert "about 7,800 messages/s" in spool_group.sync_verdict(32 / 7_829, 32, None).found


def test_with_delivery_exactly_once_the_disk_s_rate_holds_always() -> None:
    assert "while Kafka is away" in spool_group.sync_verdict(0.01, 32, None).found
    assert "Kafka" not in spool_group.sync_verdict(0.01, 32, None, always=True).found


def test_a_given_haproxy_cfg_must_exist(tmp_path: Path) -> None:
    there = site()
    there.haproxy_cfg = tmp_path / "none"
    assert levels(mqtt_side.haproxy_timeouts(there)) == [Level.FAILED]
    there.haproxy_cfg.write_text("listen a\n bind *:1884\n timeout client 30s\n timeout server 3h\n")
    assert levels(mqtt_side.haproxy_timeouts(there)) == [Level.FAILED, Level.GOOD]


# -- MQTT --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "version", "limited", "level"),
    [
        (604800.0, "5", False, Level.GOOD),
        (86400.0, "5", False, Level.WARNING),
        (604800.0, "5", True, Level.WARNING),
        (604800.0, "3.1.1", False, Level.WARNING),
    ],
)
def test_session_expiry(seconds: float, version: str, limited: bool, level: Level) -> None:
    assert mqtt_side.expiry_verdict(seconds, version, limited).level is level


@pytest.mark.parametrize(
    ("offline", "expiry", "said"),
    [
        (False, 604800, "needs mqtt.connack"),
        (True, 604800, "the bridge asks EMQ to keep the session for 7d while the bridge is away"),
        (False, 86400, "the bridge asks EMQ to keep the session for 1d while the bridge is away, which is"
         " less than a long weekend"),
    ],
)  # fmt: skip
def test_without_an_answer_of_the_broker_nothing_is_claimed_of_its_sessions(
    offline: bool, expiry: int, said: str
) -> None:
    there = site(session_expiry=expiry)
    there.offline = offline
    (found,) = mqtt_side.session_expiry(there)
    assert found.found == said


QUEUE = SessionQueue(length=0, limit=1000, dropped=0, window=3, window_limit=32)


@pytest.mark.parametrize(
    ("change", "rate", "expected"),
    [
        ({}, 5.0, [Level.GOOD]),
        ({}, 0.0, [Level.GOOD]),
        ({}, 200.0, [Level.WARNING]),  # full after 5 s
        ({"limit": 0}, 200.0, [Level.GOOD]),
        ({"length": 500}, 5.0, [Level.FAILED]),
        ({"dropped": 1}, 5.0, [Level.FAILED]),
        ({"window": 32}, 5.0, [Level.GOOD, Level.WARNING]),
    ],
)
def test_emqxs_queue(change: dict[str, int], rate: float, expected: list[Level]) -> None:
    assert levels(mqtt_side.queue_verdict(dataclasses.replace(QUEUE, **change), rate)) == expected


def test_emqxs_queue_is_not_mentioned_to_who_has_not_configured_it() -> None:
    assert list(mqtt_side.broker_queue(site())) == []


def node(name: str, *, is_up: bool) -> BrokerNode:
    return BrokerNode(name, "10.0.0.1:1883", is_up, "UP" if is_up else "DOWN", 1.0)


def test_an_emq_node_that_is_down_is_named() -> None:
    first, second = mqtt_side.nodes_verdict([node("emq1", is_up=False), node("emq2", is_up=True)])
    assert (first.level, first.found) == (Level.WARNING, "HAProxy calls EMQ node emq1 (10.0.0.1:1883) DOWN")
    assert second.level is Level.GOOD
    both = list(mqtt_side.nodes_verdict([node("emq1", is_up=False), node("emq2", is_up=False)]))
    assert levels(both) == [Level.FAILED, Level.FAILED]
    assert {each.remedy for each in both} == {"on its host: sudo systemctl restart emqx (or emqttd)"}


# -- Kafka -------------------------------------------------------------------------------------------------

TOPIC = Description(
    name="a", partitions=3, replicas=3, in_sync=3, leaderless=0, behind=(), may_write=True,
    config={"min.insync.replicas": "2", "retention.ms": "604800000", "max.message.bytes": "1048588",
            "retention.bytes": "-1", "cleanup.policy": "delete"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "brokers_up", "level"),
    [
        ({}, 3, Level.GOOD),
        ({"in_sync": 2, "behind": (1,)}, 2, Level.WARNING),
        ({"in_sync": 1, "behind": (1, 2)}, 1, Level.FAILED),
        ({"leaderless": 1}, 3, Level.FAILED),
        ({"replicas": 1, "in_sync": 1, "config": {}}, 3, Level.WARNING),
        ({"replicas": 1, "in_sync": 1, "config": {}}, 1, Level.GOOD),
        ({"config": {"min.insync.replicas": "1"}}, 3, Level.WARNING),
        ({"config": {"min.insync.replicas": "3"}}, 3, Level.WARNING),
    ],
)
def test_copies_of_a_topic(change: dict[str, Any], brokers_up: int, level: Level) -> None:
    assert kafka_side.copies_verdict(dataclasses.replace(TOPIC, **change), brokers_up).level is level


def test_a_broker_that_is_down_is_named() -> None:
    found = kafka_side.copies_verdict(dataclasses.replace(TOPIC, in_sync=2, behind=(1,)), 2)
    assert "broker 1 is not in sync" in found.found


@pytest.mark.parametrize(
    ("largest", "level"),
    [
        (1_048_576, Level.GOOD),
        (1_100_000, Level.GOOD),
        (1_200_000, Level.WARNING),
        (16_000_000, Level.WARNING),
    ],
)
def test_the_largest_record_against_the_largest_packet(largest: int, level: Level) -> None:
    assert kafka_side.size_verdict(TOPIC, largest).level is level


@pytest.mark.parametrize(
    ("config", "level"),
    [
        ({"retention.ms": "604800000"}, Level.GOOD),
        ({"retention.ms": "-1"}, Level.GOOD),
        ({"retention.ms": "3600000"}, Level.WARNING),
        ({"retention.ms": "3600000", "cleanup.policy": "compact"}, Level.GOOD),
        ({"retention.ms": "3600000", "cleanup.policy": "compact,delete"}, Level.WARNING),
        ({}, Level.SKIPPED),
    ],
)
def test_retention(config: dict[str, str], level: Level) -> None:
    assert kafka_side.retention_verdict(dataclasses.replace(TOPIC, config=config)).level is level


@pytest.mark.parametrize(
    ("may_write", "level"), [(True, Level.GOOD), (False, Level.FAILED), (None, Level.SKIPPED)]
)
def test_rights(may_write: bool | None, level: Level) -> None:
    there = site()
    there.topics = [dataclasses.replace(TOPIC, may_write=may_write)]
    assert levels(kafka_side.topic_rights(there)) == [level]


@pytest.mark.parametrize(
    ("ahead", "level"),
    [
        (0.1, Level.GOOD),
        (-4.9, Level.GOOD),
        (6.0, Level.WARNING),
        (-90000.0, Level.WARNING),
        (3601.0, Level.FAILED),
    ],
)
def test_the_difference_of_the_clocks(ahead: float, level: Level) -> None:
    assert kafka_side.clock_verdict(ahead).level is level


def quorum(times: list[int], error: int = 0) -> bytes:
    name = b"__cluster_metadata"
    replicas = b"".join(
        struct.pack(">iqqq", number, 100, moment, moment) + b"\x00" for number, moment in enumerate(times)
    )
    return b"".join(
        (
            b"\x00", struct.pack(">h", error), b"\x02", bytes([len(name) + 1]), name, b"\x02",
            struct.pack(">ihiiq", 0, 0, 1, 5, 100), bytes([len(times) + 1]), replicas,
            b"\x01", b"\x00\x00\x00",
        )
    )  # fmt: skip


def test_kafkas_time_is_the_latest_of_the_quorum() -> None:
    assert latest(quorum([1_700_000_000_500, -1, 1_700_000_000_100])) == 1_700_000_000.5


@pytest.mark.parametrize("answer", [b"", quorum([1], error=35), quorum([-1]), quorum([10**12])[:60]])
def test_another_answer_of_the_quorum_is_no_time(answer: bytes) -> None:
    with pytest.raises((ValueError, IndexError, struct.error)):
        latest(answer)


def test_topics_with_placeholders_are_not_asked_for() -> None:
    settings = site().settings.model_copy(update={"dead_letters": site().settings.dead_letters})
    assert kafka_side.fixed_topics(settings) == ["a"]


KAFKA_3_6 = {"transaction.state.log.min.isr": "2", "transaction.partition.verification.enable": "true"}
VERIFIES = KAFKA_3_6 | {"telemetry.max.bytes": "1048576"}


@pytest.mark.parametrize(
    ("brokers", "level", "said"),
    [
        ({1: VERIFIES, 2: VERIFIES}, Level.GOOD, "keep what is late out"),
        ({1: VERIFIES, 2: {"transaction.state.log.min.isr": "2"}}, Level.WARNING, "before 3.7 on broker 2:"),
        ({1: KAFKA_3_6, 2: VERIFIES}, Level.WARNING, "before 3.7 on broker 1:"),
        (
            {1: VERIFIES | {"transaction.partition.verification.enable": "false"}, 2: VERIFIES},
            Level.WARNING,
            "transaction.partition.verification.enable=false on broker 1:",
        ),
        ({1: {"log.segment.bytes": "1"}}, Level.SKIPPED, "not Apache Kafka"),
        ("Kafka does not answer", Level.SKIPPED, "Kafka does not answer"),
    ],
)
def test_brokers_that_let_late_records_into_transactions_are_named(
    brokers: dict[int, dict[str, str]] | str, level: Level, said: str
) -> None:
    found = kafka_side.verification_verdict(brokers)
    assert found.level is level
    assert said in found.found


# -- this machine and the spool ----------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "level"), [(15, Level.GOOD), (13, Level.WARNING), (-1, Level.FAILED)])
def test_days_of_a_certificate(days: int, level: Level) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert machine.days_left("a", now + timedelta(days=days), now).level is level


@pytest.mark.parametrize(
    ("mode", "secret", "level"),
    [
        (0o600, True, Level.GOOD),
        (0o640, True, Level.GOOD),
        (0o644, True, Level.WARNING),
        (0o644, False, Level.GOOD),
        (0o646, False, Level.FAILED),
    ],
)
def test_permissions(mode: int, secret: bool, level: Level) -> None:
    assert settings_group.permissions("f", mode, secret=secret).level is level


def test_a_missing_password_file_fails(tmp_path: Path) -> None:
    there = site(username="u", password_file=str(tmp_path / "none"))
    assert levels(settings_group.files(there)) == [Level.FAILED]


@pytest.mark.parametrize(
    ("file_system", "device", "level"),
    [
        ("ext4", "sda2", Level.GOOD),
        ("ext4", "mmcblk0p2", Level.WARNING),
        ("tmpfs", "", Level.FAILED),
        ("nfs4", "", Level.FAILED),
    ],
)
def test_the_disk(file_system: str, device: str, level: Level) -> None:
    assert spool_group.disk_verdict("/d", file_system, device).level is level


@pytest.mark.parametrize(
    ("free", "level"), [(5 * 10**9, Level.GOOD), (2 * 10**9, Level.WARNING), (5 * 10**8, Level.FAILED)]
)
def test_the_space(free: int, level: Level) -> None:
    assert spool_group.space_verdict(free, 5 * 10**8, 2 * 10**9).level is level


@pytest.mark.parametrize(
    ("seconds", "rate", "level"),
    [
        (0.005, None, Level.GOOD),
        (0.3, None, Level.WARNING),
        (0.1, 300.0, Level.GOOD),
        (0.1, 400.0, Level.WARNING),
    ],
)
def test_the_sync(seconds: float, rate: float | None, level: Level) -> None:
    assert spool_group.sync_verdict(seconds, 32, rate).level is level


def test_the_sync_is_measured_and_leaves_nothing(tmp_path: Path) -> None:
    try:
        times = disk_check.sync_times(tmp_path)
    except OSError:
        pytest.skip("this file system has no files without a name")
    assert times
    assert min(times) > 0
    assert list(tmp_path.iterdir()) == []


def test_the_mount_that_holds_a_path_is_found() -> None:
    mounts = (
        "/dev/a / ext4 rw\ntmpfs /run tmpfs rw\n/dev/b /a\\040b xfs rw\n"
        "/dev/c /run/x ext4 rw\nn /run/x nfs rw\n"
    )
    assert [disk_check.type_of(mounts, path) for path in ("/", "/runx", "/run/y", "/a b/c", "/run/x/z")] == [
        "ext4", "ext4", "tmpfs", "xfs", "nfs",
    ]  # fmt: skip


# -- the running service -----------------------------------------------------------------------------------


def test_the_services_own_findings_are_passed_on_with_host_and_remedy() -> None:
    found = (
        broken("emq-node-down", "EMQ 1", "is down", "start it"),
        warning("kafka-late", "Kafka", "is slow", "wait"),
    )
    first, second = service.diagnosis_verdict(Diagnosis("broken", "x", found))
    assert (first.level, first.found, first.remedy) == (Level.FAILED, "EMQ 1: is down", "start it")
    assert second.level is Level.WARNING
    assert levels(service.diagnosis_verdict(Diagnosis("good", "All is well.", ()))) == [Level.GOOD]


def test_a_service_that_does_not_answer_gives_no_diagnosis() -> None:
    there = site()
    service.read_status(there)  # nothing listens at this address
    assert levels(service.diagnosis(there)) == [Level.SKIPPED]
    assert "the bridge does not answer at http://127.0.0.1:9/status.json" in there.no_status


@pytest.mark.parametrize(
    ("reload", "changed", "level"),
    [(True, [], Level.WARNING), (False, ["x"], Level.WARNING), (False, [], Level.GOOD)],
)
def test_the_unit(reload: bool, changed: list[str], level: Level) -> None:
    assert service.unit_verdict("mqtt-kafka-bridge", reload, changed).level is level


def test_a_settings_file_that_changed_after_the_start_or_the_last_reload(tmp_path: Path) -> None:
    there = site()
    there.settings_file = tmp_path / "bridge.toml"
    there.settings_file.write_text("")
    assert levels(service.settings_file(there)) == [Level.SKIPPED]
    there.status = running_for(3600.0)
    assert levels(service.settings_file(there)) == [Level.WARNING]
    there.status = running_for(3600.0, reloaded_age=1.0)
    assert levels(service.settings_file(there)) == [Level.GOOD]
    before = time.time() - 7200
    os.utime(there.settings_file, (before, before))
    there.status = running_for(3600.0)
    assert levels(service.settings_file(there)) == [Level.GOOD]


@pytest.mark.parametrize(
    ("file", "unit"),
    [
        ("/etc/mqtt-kafka-bridge/bridge.toml", "mqtt-kafka-bridge"),
        ("/etc/mqtt-kafka-bridge/second.toml", "mqtt-kafka-bridge@second"),
        ("/home/me/second.toml", "mqtt-kafka-bridge"),
    ],
)
def test_the_unit_that_reads_a_settings_file(file: str, unit: str) -> None:
    assert service.unit_name(Path(file)) == unit


@pytest.mark.parametrize("name", ["nobody/takes/it", "b/dropped"])
def test_nothing_is_sent_to_a_topic_that_no_route_takes_to_kafka(name: str) -> None:
    there = site()
    there.send = name
    (outcome,) = send.send(there)  # without a connection: it must not try to publish
    assert outcome.level is Level.FAILED
    assert "nothing was sent" in outcome.found
    assert "--send sensors/test/check" in outcome.remedy
