"""`bridge topics`: which topics the settings name, what new ones get, and what is printed."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.commands import topics as command
from bridge.commands.running import NoAnswer, Running
from bridge.commands.topics import Creation, Made, Named, cost_of, run, shape_of, wanted
from bridge.delivery.segment import cut, pack
from bridge.errors import BridgeError, ConfigurationError
from bridge.kafka.topic_admin import Cluster, Shape
from bridge.kafka.topic_description import Description
from bridge.message import Message
from bridge.settings import Settings
from bridge.spool.store import Store
from bridge.status.diagnosis import diagnose
from bridge.status.document import document
from bridge.status.snapshot import HeldTopic
from tests.harness.snapshots import healthy

CONFIG = {
    "min.insync.replicas": "2",
    "max.message.bytes": "1048588",
    "retention.ms": "604800000",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
}


def settings(*topics: str, directory: Path = Path("/nowhere"), **more: Any) -> Settings:
    routes = [
        {"name": f"r{number}", "filter": f"t{number}/{{site}}/{{rest#}}", "topic": topic}
        for number, topic in enumerate(topics)
    ]
    return Settings.model_validate(
        {
            "state_directory": directory,
            "mqtt": {"host": "emq"},
            "kafka": {"bootstrap_servers": "k1:9092,k2:9092,k3:9092"},
            "routes": [*routes, {"name": "none", "filter": "x", "action": "drop"}],
            **more,
        }
    )


def described(name: str, **changes: Any) -> Description:
    found = {
        "partitions": 3, "replicas": 3, "in_sync": 3, "leaderless": 0, "behind": (), "config": CONFIG,
        "may_write": True,
    }  # fmt: skip
    return Description(name, **{**found, **changes})


class Kafka:
    """A cluster with these topics. A text is why Kafka tells nothing of the topic."""

    def __init__(self, brokers: int = 3, refuses: str = "", **topics: Description | str) -> None:
        self._topics = {name.replace("__", "."): found for name, found in topics.items()}
        self._brokers, self._refuses = brokers, refuses
        self.created: dict[str, Shape] = {}
        self.late: set[str] = set()  # another client creates these first
        self.unaware = 0  # so many further questions go to brokers that do not know of new topics yet

    def cluster(self) -> Cluster:
        return Cluster(self._brokers, frozenset(self._topics))

    def describe(self, name: str) -> Description | None:
        if self.unaware and name in self.created:
            self.unaware -= 1
            return None
        found = self._topics.get(name)
        if isinstance(found, str):
            raise BridgeError(found)
        return found

    def create(self, name: str, shape: Shape) -> bool:
        if self._refuses:
            raise BridgeError(self._refuses)
        self.created[name] = shape
        self._topics[name] = described(name, partitions=shape.partitions, replicas=shape.replicas)
        return name not in self.late


def printed(kafka: Kafka, given: Settings, creation: Creation | None = None) -> tuple[int, list[list[str]]]:
    stream = io.StringIO()
    status = run(given, kafka, creation, as_json=False, stream=stream)
    return status, [line.split(maxsplit=2) for line in stream.getvalue().splitlines()]


def fill(directory: Path, **messages: int) -> None:
    store = Store(directory)
    for topic, count in messages.items():
        made = []
        for sequence in range(1, count + 1):
            message = Message.of(b"t", 1, 0, None, b"x")
            message.sequence, message.timestamp = sequence, 1
            made.append(message)
        store.write([(topic.replace("__", "."), segment, pack(segment.messages)) for segment in cut(made)])
    store.close()


# -- what the settings name ------------------------------------------------------------------------------


def test_each_topic_is_named_once_with_all_that_name_it() -> None:
    named, made = wanted(settings("a", "b", "a", dead_letters={"topic": "b"}), {"b": 7, "other": 1})
    assert named == [
        Named("a", ('route "r0"', 'route "r2"')),
        Named("b", ('route "r1"', "dead_letters.topic"), waiting=7),
    ]
    assert made == []


def test_a_topic_that_a_route_has_made_is_known_from_the_disk() -> None:
    on_disk = {"iot.attic": 2, "iot.log.x": 1, "iotXattic": 1, "fixed.iot": 1, "iot.": 3}
    named, made = wanted(settings("iot.{site}", "iot.{site}.{rest}", "fixed.iot"), on_disk)
    assert made == [
        Made("iot.{site}", ('route "r0"',), ("iot.attic", "iot.log.x", "iot.")),
        Made("iot.{site}.{rest}", ('route "r1"',), ("iot.log.x",)),
    ]
    assert named == [
        Named("fixed.iot", ('route "r2"',), 1),
        Named("iot.attic", ('route "r0"',), 2),
        Named("iot.log.x", ('route "r0"', 'route "r1"'), 1),
        Named("iot.", ('route "r0"',), 3),
    ]


# -- what a new topic gets -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("creation", "brokers", "servers", "shape"),
    [
        (Creation(), 3, 3, Shape(3, 3, 2)),
        (Creation(), 5, 3, Shape(3, 3, 2)),
        (Creation(), 3, 1, Shape(3, 3, 2)),
        (Creation(), 2, 2, Shape(3, 2, 1)),
        (Creation(), 1, 1, Shape(3, 1, 1)),
        (Creation(partitions=12), 3, 3, Shape(12, 3, 2)),
        (Creation(replicas=2), 2, 3, Shape(3, 2, 1)),
        (Creation(replicas=5), 5, 3, Shape(3, 5, 4)),
        (Creation(replicas=1, min_insync=1), 3, 3, Shape(3, 1, 1)),
        (Creation(min_insync=3), 3, 3, Shape(3, 3, 3)),
    ],
)
def test_the_defaults_follow_the_cluster(
    creation: Creation, brokers: int, servers: int, shape: Shape
) -> None:
    assert shape_of(creation, brokers, servers) == shape


def test_an_absent_broker_does_not_cost_a_replica_in_silence() -> None:
    with pytest.raises(BridgeError, match=r"names 3 brokers, but Kafka knows only 2: .* --replicas 2$"):
        shape_of(Creation(), brokers=2, servers=3)


def test_more_in_sync_than_replicas_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^--min-insync 3: must be at most .* which is 2$"):
        shape_of(Creation(replicas=2, min_insync=3), brokers=3, servers=3)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (Shape(3, 3, 2), ""),
        (Shape(3, 2, 1), "one broker alone"),
        (Shape(3, 2, 2), "refuse records as soon as"),
    ],
)
def test_a_shape_with_a_cost_says_so(shape: Shape, said: str) -> None:
    assert said in cost_of(shape)
    assert bool(cost_of(shape)) == bool(said)


# -- what is printed, and created ------------------------------------------------------------------------


def test_all_exist() -> None:
    status, lines = printed(Kafka(a=described("a")), settings("a"))
    told = "3 partitions, 3 replicas, min.insync.replicas 2, max.message.bytes 1048588, kept for 7d"
    assert (status, lines) == (0, [["exists", "a", told]])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"partitions": 1, "replicas": 1}, "1 partition, 1 replica, "),
        ({"leaderless": 2}, "2 partitions without a leader"),
        ({"behind": (2, 3)}, "not in sync: broker 2, 3"),
        (
            {"config": {}, "no_config": "Kafka does not answer"},
            "its settings are not shown (Kafka does not answer)",
        ),
        ({"config": {**CONFIG, "cleanup.policy": "compact"}}, "keeps the last record of each key"),
        ({"config": {**CONFIG, "retention.ms": "-1"}}, "kept for ever"),
        ({"config": {**CONFIG, "retention.bytes": "1000000"}}, "kept for 7d, at most 1MB of each partition"),
    ],
)
def test_what_kafka_tells_is_said(changes: dict[str, Any], said: str) -> None:
    _, ((_, _, told),) = printed(Kafka(a=described("a", **changes)), settings("a"))
    assert said in told


def test_a_missing_topic_without_create_is_only_listed(tmp_path: Path) -> None:
    fill(tmp_path, b=12, iot__attic=1)
    kafka = Kafka(a=described("a"))
    status, lines = printed(kafka, settings("a", "b", "iot.{site}", directory=tmp_path))
    assert status == 1
    assert lines[1:] == [
        ["missing", "b", 'route "r1"; 12 messages wait on disk'],
        ["missing", "iot.attic", 'route "r2"; 1 message waits on disk'],
        [
            "template",
            "iot.{site}",
            'route "r2" makes its topics from MQTT topics: 1 of them has messages that wait',
        ],
        ["2", "topics", "are missing; this creates them: sudo mqtt-kafka-bridge topics --create"],
    ]
    assert kafka.created == {}


def test_what_is_missing_is_created_and_nothing_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fill(tmp_path, iot__attic=1)
    kafka = Kafka(a=described("a"), hidden="no permission")
    given = settings("a", "b", "iot.{site}", "hidden", directory=tmp_path)
    status, lines = printed(kafka, given, Creation(sure=True))
    assert status == 1  # nobody knows whether "hidden" exists
    assert kafka.created == {"b": Shape(3, 3, 2), "iot.attic": Shape(3, 3, 2)}
    assert [line[:2] for line in lines[-2:]] == [["created", "b"], ["created", "iot.attic"]]
    assert ["unknown", "hidden", 'route "r3": no permission'] in lines
    assert capsys.readouterr().err.splitlines() == [
        "bridge topics creates 2 topics with 3 partitions, 3 replicas and min.insync.replicas 2:",
        "    b",
        "    iot.attic",
    ]


def test_with_nothing_to_create_it_says_so_and_when_a_templates_topic_is_known() -> None:
    status, lines = printed(Kafka(a=described("a")), settings("a", "iot.{site}"), Creation(sure=True))
    assert status == 0
    assert " ".join(lines[-1]).startswith("nothing was created: no topic is missing")
    assert " ".join(lines[-1]).endswith("a template's topic is known once a message waits for it")
    _, lines = printed(Kafka(a=described("a")), settings("a"), Creation(sure=True))
    assert "template" not in " ".join(lines[-1])
    _, lines = printed(Kafka(a="no permission"), settings("a"), Creation(sure=True))
    assert " ".join(lines[-1]) == "nothing was created: the lines above say why"


def test_a_refusal_is_said_and_the_other_topics_are_tried() -> None:
    status, lines = printed(Kafka(refuses="why not"), settings("a", "b"), Creation(sure=True))
    assert status == 1
    assert lines[-2:] == [["missing", "a", 'route "r0": why not'], ["missing", "b", 'route "r1": why not']]


def test_a_topic_that_somebody_else_creates_first_exists() -> None:
    kafka = Kafka()
    kafka.late.add("a")
    status, lines = printed(kafka, settings("a"), Creation(sure=True))
    assert status == 0
    assert lines[-1][0] == "exists"


def test_two_names_that_kafka_takes_for_one_are_not_both_created() -> None:
    kafka = Kafka(old_room=described("old_room"))
    status, lines = printed(kafka, settings("old.room", "a.b", "a_b"), Creation(sure=True))
    assert status == 1
    assert set(kafka.created) == {"a.b"}
    assert "beside old_room" in lines[0][2]
    assert "beside a.b" in lines[2][2]


def test_a_topic_whose_messages_wait_in_the_running_service_is_listed_and_created(tmp_path: Path) -> None:
    """A device whose topic is missing may have sent so little that it is not on disk yet."""
    stream, kafka = io.StringIO(), Kafka(a=described("a"))
    given = settings("a", "iot.{site}", directory=tmp_path)
    held = ("a", "iot.attic", "another.routes")
    assert run(given, kafka, Creation(sure=True), as_json=True, stream=stream, held=held) == 0
    assert set(kafka.created) == {"iot.attic"}
    *_, made = map(json.loads, stream.getvalue().splitlines())
    assert made["seen"] == ["iot.attic"]


def test_the_running_service_tells_which_topics_it_has_messages_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings("iot.{site}", directory=tmp_path)
    shown = replace(healthy(), held=(HeldTopic("iot.attic", "held", 1.0, 3),))
    monkeypatch.setattr(Running, "ask", lambda _: document(shown, diagnose(shown)))
    assert command._held(given) == ("iot.attic",)

    def silent(_: Running) -> bytes:
        raise NoAnswer("no")

    monkeypatch.setattr(Running, "ask", silent)
    assert command._held(given) == ()


def test_an_unreadable_spool_is_said_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / Store.FILE).write_bytes(b"no database" * 100)
    kafka = Kafka(a=described("a"))
    status, lines = printed(kafka, settings("a", "iot.{site}", directory=tmp_path))
    assert status == 0
    assert "which ones have messages on disk is unknown (" in lines[1][2]

    stream = io.StringIO()
    given = settings("a", "iot.{site}", directory=tmp_path)
    kafka = Kafka(a=described("a"), **{"iot.attic": described("iot.attic")})
    run(given, kafka, None, as_json=False, stream=stream, held=["iot.attic"])
    told = "1 of them has messages that wait; which ones have messages on disk is unknown ("
    assert told in stream.getvalue(), "what the service tells does not hide that the disk tells nothing"


@pytest.mark.parametrize(("answer", "created"), [("y\n", True), ("yes\n", True), ("\n", False), ("", False)])
def test_a_person_is_asked_at_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str, created: bool) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(command.sys, "stdin", Keyboard(answer))
    kafka = Kafka()
    status, _ = printed(kafka, settings("a"), Creation())
    assert (status, set(kafka.created)) == ((0, {"a"}) if created else (1, set()))


def test_nobody_is_there_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.sys, "stdin", io.StringIO("y\n"))
    kafka = Kafka()
    with pytest.raises(ConfigurationError, match="1 topic: nobody is there to be asked; add --yes"):
        printed(kafka, settings("a"), Creation())
    assert kafka.created == {}


def test_json_has_a_line_for_each_topic_after_the_creation(tmp_path: Path) -> None:
    fill(tmp_path, b=2)
    stream = io.StringIO()
    given = settings("a", "b", "iot.{site}", "a.x", "a_x", directory=tmp_path)
    kafka = Kafka(a=described("a", config={}))
    assert run(given, kafka, Creation(sure=True), as_json=True, stream=stream) == 1
    a, b, x, clash, made = map(json.loads, stream.getvalue().splitlines())
    shown = ("state", "waiting", "partitions", "min_insync_replicas", "max_message_bytes", "retention_ms")
    assert [a[key] for key in shown] == ["exists", 0, 3, None, None, None]
    assert [b[key] for key in shown] == ["created", 2, 3, 2, 1048588, 604800000]
    assert x["state"] == "created"
    assert clash["state"] == "missing"
    assert clash["reason"].startswith("Kafka refuses to create a_x beside a.x")
    assert "partitions" not in clash
    assert made == {
        "topic": "iot.{site}",
        "state": "template",
        "named_by": ['route "r2"'],
        "seen": [],
        "reason": None,
    }


def test_a_name_from_the_network_can_not_move_the_cursor(tmp_path: Path) -> None:
    stream = io.StringIO()
    kafka = Kafka(a="\x1b[2Jgone")
    run(settings("a"), kafka, None, as_json=False, stream=stream)
    assert "\\x1b[2Jgone" in stream.getvalue()


def test_a_new_topic_that_the_next_broker_does_not_know_yet_is_not_called_missing() -> None:
    kafka, stream = Kafka(), io.StringIO()
    kafka.unaware = 2
    assert run(settings("new"), kafka, Creation(sure=True), as_json=False, stream=stream) == 0
    assert stream.getvalue().splitlines()[-1].startswith("created   new")
