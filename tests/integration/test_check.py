"""bridge check with real programs: what it says of a whole chain, and of each part that is broken."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from bridge.commands import cli
from bridge.commands.check import kafka_side, mqtt_side
from bridge.commands.check.doctor import examine
from bridge.commands.check.outcome import Level, Outcome, Site
from bridge.kafka.cluster_check import ClusterCheck
from bridge.settings import Settings
from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers
from tests.harness.conditions import wait_until
from tests.harness.haproxy import CONFIGURATION, SUBSCRIBER, HAProxy
from tests.harness.kafka import KafkaCluster
from tests.integration.access_rules import allow, grant

Found = dict[str, list[Outcome]]
Look = Callable[..., Found]


@pytest.fixture
def new_site(
    haproxy: HAProxy, kafka: KafkaCluster, new_topic: Callable[..., str], tmp_path: Path
) -> Callable[..., Site]:
    """new_site(mqtt={...}, topic=..., more={...}, bootstrap_servers=...)."""
    there = new_topic()

    def create(
        topic: str = there,
        mqtt: dict[str, object] | None = None,
        more: dict[str, object] | None = None,
        **brokers: str,
    ) -> Site:
        settings = Settings.model_validate(
            {
                "state_directory": tmp_path,
                "mqtt": {"host": haproxy.host.address, "port": SUBSCRIBER, **(mqtt or {})},
                "kafka": {"bootstrap_servers": kafka.bootstrap, **brokers},
                "routes": [
                    {"name": "fixed", "filter": "a/+", "topic": topic},
                    {"name": "made", "filter": "b/{x}", "topic": "made.{x}"},
                ],
            }
        )
        return Site(settings, "test-check", tmp_path / "bridge.toml", **(more or {}))  # type: ignore[arg-type]

    return create


@pytest.fixture
def look(new_site: Callable[..., Site]) -> Look:
    """Runs all checks. Returns their outcomes by the check's id."""

    def run(**settings: object) -> Found:
        return {result.check.id: list(result.outcomes) for result in examine(new_site(**settings))}

    return run


def levels(found: Found, id_: str) -> list[Level]:
    return [outcome.level for outcome in found[id_]]


def failures(found: Found) -> set[str]:
    return {id_ for id_, outcomes in found.items() if any(each.level is Level.FAILED for each in outcomes)}


def test_a_whole_chain_fails_nothing_and_says_what_it_found(look: Look, haproxy: HAProxy) -> None:
    found = look(more={"haproxy_cfg": CONFIGURATION})
    # The machine that runs the tests may have no NTP, or a full disk.
    assert failures(found) <= {"machine.clock", "spool.disk", "spool.space"}
    for id_ in ("mqtt.tcp", "mqtt.connack", "kafka.bootstrap", "kafka.brokers"):
        assert levels(found, id_) == [Level.GOOD], found[id_]
    assert levels(found, "kafka.topic") == [Level.GOOD, Level.SKIPPED]
    assert levels(found, "mqtt.subscription") == [Level.GOOD] * 2
    assert levels(found, "mqtt.nodes") == [Level.GOOD] * 2, found["mqtt.nodes"]
    assert levels(found, "mqtt.haproxy_timeouts") == [Level.GOOD] * 2
    assert levels(found, "kafka.topic_copies") == [Level.GOOD], found["kafka.topic_copies"]
    assert levels(found, "kafka.topic_retention") == [Level.GOOD]
    assert levels(found, "kafka.topic_rights") == [Level.GOOD]
    assert "3 replicas, min.insync.replicas 2" in found["kafka.topic_copies"][0].found
    assert found["mqtt.connack"][0].found.endswith("MQTT 5")
    assert "3 brokers: " in found["kafka.brokers"][0].found


def test_transactions_are_tried_with_delivery_exactly_once(look: Look) -> None:
    found = look(delivery="exactly-once")
    assert levels(found, "kafka.transactions") == [Level.GOOD] * 3, found["kafka.transactions"]
    assert levels(look(), "kafka.transactions") == [Level.SKIPPED]


def test_kafkas_clock_is_read_from_its_quorum(look: Look) -> None:
    (outcome,) = look()["kafka.clock"]
    assert outcome.level is Level.GOOD, outcome  # it is the same machine's clock
    assert "this machine's clock is 0." in outcome.found


@pytest.mark.parametrize(
    ("mqtt", "broken", "said"),
    [
        ({"host": "nobody.invalid"}, "mqtt.name", "nobody.invalid does not resolve"),
        ({"port": 1}, "mqtt.tcp", "port 1883 is open there"),
    ],
)
def test_the_link_that_breaks_is_named_and_kafka_is_examined_all_the_same(
    look: Look, mqtt: dict[str, object], broken: str, said: str
) -> None:
    found = look(mqtt=mqtt)
    assert levels(found, broken) == [Level.FAILED]
    assert said in found[broken][0].found
    assert levels(found, "mqtt.subscription") == [Level.SKIPPED]
    assert levels(found, "kafka.topic") == [Level.GOOD, Level.SKIPPED]  # the second one is a template


def test_a_plain_broker_without_a_balancer_is_examined_without_a_word_of_haproxy(
    look: Look, emq: Brokers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mqtt_side, "INSTALLED", tmp_path / "none")
    host, _, port = emq.addresses[0].rpartition(":")
    found = look(mqtt={"host": host, "port": int(port)})
    assert levels(found, "mqtt.subscription") == [Level.GOOD] * 2
    texts = [f"{each.found} {each.remedy}" for outcomes in found.values() for each in outcomes]
    assert not [text for text in texts if "haproxy" in text.lower()]


def test_one_emq_node_is_down_and_named_while_the_chain_works(
    look: Look, emq: Brokers, haproxy: HAProxy
) -> None:
    with emq.node(1).dead():
        haproxy.wait_state(1, "DOWN")
        found = look()
    assert levels(found, "mqtt.nodes") == [Level.WARNING, Level.GOOD]
    assert found["mqtt.nodes"][0].found == "HAProxy calls EMQ node server1 DOWN: it is down"
    assert levels(found, "mqtt.subscription") == [Level.GOOD] * 2


def test_no_emq_node_is_up_behind_haproxy(look: Look, emq: Brokers, haproxy: HAProxy) -> None:
    with emq.node(1).dead(), emq.node(2).dead():
        for number in (1, 2):
            haproxy.wait_state(number, "DOWN")
        found = look()
    assert levels(found, "mqtt.nodes") == [Level.FAILED] * 2
    assert levels(found, "mqtt.connack") == [Level.FAILED]
    assert "which HAProxy does while no EMQ node is up" in found["mqtt.connack"][0].found


def test_a_topic_that_does_not_exist_comes_with_the_command_that_creates_it(look: Look) -> None:
    outcome, _ = look(topic="nobody.made.this")["kafka.topic"]
    assert (outcome.level, outcome.found) == (Level.FAILED, "nobody.made.this does not exist")
    assert outcome.remedy == "sudo mqtt-kafka-bridge topics --create"


def test_a_topic_whose_records_vanish_within_an_hour_and_that_one_broker_confirms_alone(
    look: Look, new_topic: Callable[..., str]
) -> None:
    found = look(topic=new_topic(config={"retention.ms": 3_600_000, "min.insync.replicas": 1}))
    assert levels(found, "kafka.topic_retention") == levels(found, "kafka.topic_copies") == [Level.WARNING]


def test_a_kafka_broker_that_is_down_is_named(look: Look, kafka: KafkaCluster) -> None:
    kafka.node(1).kill9()
    found = look()
    address = kafka.bootstrap.split(",")[0]
    assert [each.found for each in found["kafka.bootstrap"] if each.level is Level.WARNING] == [
        f"{address}: Connection refused"
    ]


def test_kafka_is_not_there(new_site: Callable[..., Site], tmp_path: Path) -> None:
    found = {each.check.id: each for each in examine(new_site(bootstrap_servers="127.0.0.1:1"))}
    (outcome,) = found["kafka.bootstrap"].outcomes
    assert outcome.level is Level.FAILED
    assert "127.0.0.1:1: Connection refused" in outcome.found
    assert [each.level for each in found["kafka.topic"].outcomes] == [Level.SKIPPED]


def test_nothing_of_the_libraries_raw_output_reaches_the_terminal(
    haproxy: HAProxy, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The port accepts connections and closes them, so that librdkafka has much to say."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        file = tmp_path / "bridge.toml"
        file.write_text(
            f'state_directory = "{tmp_path}"\n[mqtt]\nhost = "{haproxy.host.address}"\n[kafka]\n'
            f'bootstrap_servers = "127.0.0.1:{silent.getsockname()[1]}"\n'
            '[[routes]]\nname = "a"\nfilter = "a/#"\ntopic = "a"\n'
        )
        assert cli.main(["--config", str(file), "check"]) == 1
    out, err = capfd.readouterr()
    assert err == ""
    assert "FAILED  kafka.brokers" in out
    assert out.splitlines()[-1].startswith("FAILED: ")
    assert not [line for line in out.splitlines() if line.startswith("%")]


@pytest.fixture
def running(
    new_bridge: Callable[..., BridgeProcess], new_topic: Callable[..., str]
) -> Iterator[tuple[str, BridgeProcess]]:
    topic = new_topic()
    with new_bridge(routes=[{"name": "fixed", "filter": "a/+", "topic": topic}]) as bridge:
        yield topic, bridge


def test_a_marked_message_goes_through_the_whole_chain(
    new_site: Callable[..., Site], running: tuple[str, BridgeProcess]
) -> None:
    topic, bridge = running
    results = list(examine(new_site(topic=topic, more={"send": "a/test"})))
    assert results[-1].check.id == "send.message"
    acknowledged, delivered = results[-1].outcomes
    assert acknowledged.level is delivered.level is Level.GOOD, results[-1]
    assert acknowledged.found.startswith("a/test: the broker acknowledged after ")
    assert f"one record stays there: {topic}, partition " in delivered.found
    assert bridge.alive


def test_the_live_session_is_not_touched(
    new_site: Callable[..., Site], running: tuple[str, BridgeProcess]
) -> None:
    topic, bridge = running
    for _ in range(2):
        list(examine(new_site(topic=topic)))
    assert not bridge.entries("mqtt.closed")
    assert not bridge.entries("mqtt.taken_over")


def test_a_marked_message_that_no_service_takes_does_not_come(
    new_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.commands.check.send._TIMEOUT", 1.0)
    results = list(examine(new_site(more={"send": "a/test"})))
    acknowledged, missing = results[-1].outcomes
    assert acknowledged.level is Level.GOOD
    assert missing.level is Level.FAILED
    assert "see whether the service runs" in missing.remedy


def test_nothing_of_it_stays_at_the_broker(look: Look) -> None:
    for _ in range(2):  # the second one finds no session, and no rival
        assert levels(look(), "mqtt.subscription") == [Level.GOOD] * 2


def test_what_a_user_lacks_for_transactions_is_named(
    alone: KafkaCluster, as_user: dict[str, Any], tmp_path: Path
) -> None:
    """And what prepare-kafka.md says is enough."""
    settings = Settings.model_validate(
        {
            "state_directory": tmp_path,
            "mqtt": {"host": "nobody.invalid", "client_id": "exact"},
            "kafka": {**as_user, "delivery": "exactly-once"},
            "routes": [{"name": "all", "filter": "#", "topic": "exact"}],
        }
    )
    alone.create_topic("exact")
    site = Site(settings, "test-check", tmp_path / "bridge.toml", cluster=ClusterCheck(settings.kafka))

    def outcomes() -> list[Outcome]:
        site.topics.clear()
        assert [each.level for each in kafka_side.topic(site)] == [Level.GOOD]
        return list(kafka_side.transactions(site))

    allow(alone, "exact", AclOperation.DESCRIBE)
    group, topic, transactions, version = outcomes()
    assert group.level is Level.FAILED
    assert "--operation Read --group exact-transactions" in group.remedy
    assert topic.level is Level.FAILED
    assert "--operation Read --topic exact" in topic.remedy
    assert transactions.level is Level.SKIPPED
    assert "--transactional-id exact --transactional-id exact-check" in transactions.found
    assert version.level is Level.SKIPPED
    assert "lacks DESCRIBE_CONFIGS on the cluster" in version.found
    for said in (group.remedy, topic.remedy, transactions.found):
        grant(alone, said)
    found: list[Outcome] = []

    def all_is_well() -> bool:  # Kafka makes its topic for groups at the first question, and answers then
        found[:] = outcomes()
        return [outcome.level for outcome in found] == [Level.GOOD, Level.GOOD, Level.SKIPPED]

    wait_until(all_is_well, 30.0, lambda: f"no right is missing: {found}")
    allow(alone, "kafka-cluster", AclOperation.DESCRIBE_CONFIGS, ResourceType.BROKER)
    wait_until(lambda: outcomes()[2].level is Level.GOOD, 30.0, "the brokers' settings are told")
    site.opened_cluster.close()
