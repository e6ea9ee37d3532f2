"""What Kafka says about a topic, and what a person is told of it."""

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from confluent_kafka import KafkaError, KafkaException

from bridge.delivery.results import Hold, NoTopicAnswer, TopicAnswer
from bridge.errors import NoThread
from bridge.kafka import topic_lookup
from bridge.kafka.topic_lookup import TopicLookup, look_only, look_up
from bridge.settings import KafkaSettings
from tests.harness.conditions import wait_until


class Admin:
    """A cluster with these topics, each with its settings."""

    def __init__(self, **topics: dict[str, str]) -> None:
        self._topics = {name.replace("__", "."): config for name, config in topics.items()}
        self.asked: list[str | None] = []  # None: all topics
        self.refusal = KafkaError.UNKNOWN_TOPIC_OR_PART  # of describe_topics

    def __len__(self) -> int:
        """As of every confluent_kafka client: how many messages and requests are queued in it."""
        return 0

    def list_topics(self, topic: str | None = None, timeout: float = 0) -> Any:
        self.asked.append(topic)
        names = [topic] if topic else list(self._topics)
        missing = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        return SimpleNamespace(
            topics={name: SimpleNamespace(error=None if name in self._topics else missing) for name in names}
        )

    def describe_topics(self, topics: Any, **_: object) -> dict[str, Future[Any]]:
        future: Future[Any] = Future()
        future.set_exception(KafkaException(KafkaError(self.refusal)))
        return dict.fromkeys(topics.topic_names, future)

    def describe_configs(self, resources: list[Any], **_: object) -> dict[Any, Future[Any]]:
        future: Future[Any] = Future()
        config = self._topics[resources[0].name]
        future.set_result({name: SimpleNamespace(value=value) for name, value in config.items()})
        return {resources[0]: future}


def test_one_client_asks_about_all_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    clients: list[Admin] = []
    works: list[Callable[[], object]] = []
    told: list[TopicAnswer | NoTopicAnswer] = []

    def new_admin(_: KafkaSettings) -> Admin:
        clients.append(Admin())
        return clients[-1]

    monkeypatch.setattr(topic_lookup, "new_admin", new_admin)
    monkeypatch.setattr(topic_lookup, "start_thread", lambda work, _: works.append(work))
    lookup = topic_lookup.TopicLookup(KafkaSettings(bootstrap_servers="k:9092"), told.append)
    for topic in ("a", "b", "c"):
        lookup.look_up(topic)
    works[0]()
    assert [each.topic for each in told] == ["a", "b", "c"]
    assert len(clients) == 1


def test_a_missing_topic_comes_with_the_command_that_creates_it() -> None:
    answer = look_up(Admin(), "home.room")  # type: ignore[arg-type]
    assert not answer.exists  # type: ignore[union-attr]
    assert answer.way_out == "sudo mqtt-kafka-bridge topics --create"  # type: ignore[union-attr]


@pytest.mark.parametrize(("topic", "other"), [("home.room", "home_room"), ("home_room", "home__room")])
def test_a_topic_that_kafka_would_not_create_is_said_with_its_namesake(topic: str, other: str) -> None:
    answer = look_up(Admin(**{other: {}}), topic)  # type: ignore[arg-type]
    assert "--create" not in answer.way_out  # type: ignore[union-attr]
    assert f"beside {other.replace('__', '.')}" in answer.way_out  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"max.message.bytes": "1000"}, ""),
        (
            {"message.timestamp.before.max.ms": str(2**63 - 1), "message.timestamp.after.max.ms": "3600000"},
            "",
        ),
        ({"message.timestamp.before.max.ms": "86400000"}, "older than 1d (message.timestamp.before.max.ms)"),
        ({"message.timestamp.after.max.ms": "1000"}, "more than 1s ahead of Kafka's clock"),
        ({"message.timestamp.before.max.ms": "1000", "message.timestamp.type": "LogAppendTime"}, ""),
    ],
)
def test_which_timestamps_it_refuses_is_told(config: dict[str, str], said: str) -> None:
    answer = look_up(Admin(t=config), "t")  # type: ignore[arg-type]
    assert said in answer.timestamps  # type: ignore[union-attr]
    assert bool(answer.timestamps) == bool(said)  # type: ignore[union-attr]


def test_a_command_that_changes_nothing_asks_for_no_missing_topic_by_name() -> None:
    """A broker with auto.create.topics.enable, which is Kafka's default, would create it."""
    admin: Any = Admin(t={})
    assert look_only(admin, "gone") == TopicAnswer(
        "gone", exists=False, way_out="sudo mqtt-kafka-bridge topics --create"
    )
    assert admin.asked == [None]
    assert look_only(admin, "t") == look_up(admin, "t")


def test_a_topic_that_kafka_hides_is_not_called_missing() -> None:
    admin: Any = Admin()
    admin.refusal = KafkaError.TOPIC_AUTHORIZATION_FAILED
    answer = look_only(admin, "gone")
    assert isinstance(answer, NoTopicAnswer)
    assert answer.hold is Hold.FORBIDDEN
    assert admin.asked == [None]


# -- many topics -----------------------------------------------------------------------------------------


class Cluster(Admin):
    """As Admin, but it describes several topics in one request. `requests` counts what Kafka was asked."""

    def __init__(self, *topics: str, creates: bool = False) -> None:
        super().__init__(**{name.replace(".", "__"): {"max.message.bytes": "1000"} for name in topics})
        self.creates = creates
        self.requests: list[str] = []

    def list_topics(self, topic: str | None = None, timeout: float = 0) -> Any:
        self.requests.append(f"list {topic or 'all'}")
        if topic and self.creates:
            self._topics.setdefault(topic, {})
        return super().list_topics(topic, timeout)

    def describe_topics(self, topics: Any, **_: object) -> dict[str, Future[Any]]:
        self.requests.append("describe")
        found: dict[str, Future[Any]] = {}
        for name in topics.topic_names:
            found[name] = Future()
            if name in self._topics:
                found[name].set_result(None)
            else:
                found[name].set_exception(KafkaException(KafkaError(self.refusal)))
        return found

    def describe_cluster(self, **_: object) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(SimpleNamespace(nodes=[SimpleNamespace(id=1)]))
        return future

    def describe_configs(self, resources: list[Any], **_: object) -> dict[Any, Future[Any]]:
        self.requests.append("configs")
        found: dict[Any, Future[Any]] = {}
        for resource in resources:
            found[resource] = Future()
            config = self._topics.get(resource.name, {"auto.create.topics.enable": str(self.creates).lower()})
            found[resource].set_result({name: SimpleNamespace(value=value) for name, value in config.items()})
        return found


class Lookup:
    """A lookup whose thread the test runs, as often as it likes, with one cluster."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
        self._works: list[Callable[[], object]] = []
        self.told: list[TopicAnswer | NoTopicAnswer] = []
        monkeypatch.setattr(topic_lookup, "new_admin", lambda _: cluster)
        monkeypatch.setattr(topic_lookup, "start_thread", lambda work, _: self._works.append(work))
        monkeypatch.setattr(topic_lookup, "_STAYS", 0.0)
        self.lookup = topic_lookup.TopicLookup(KafkaSettings(bootstrap_servers="k:9092"), self.told.append)

    def ask(self, *topics: str) -> dict[str, TopicAnswer | NoTopicAnswer]:
        """What is told once these questions are answered, by topic."""
        self.told.clear()
        for topic in topics:
            self.lookup.look_up(topic)
        self._works.pop()()
        assert len(self.told) == len({each.topic for each in self.told}), "a topic is told twice"
        return {each.topic: each for each in self.told}


def exist(told: dict[str, TopicAnswer | NoTopicAnswer]) -> set[str]:
    return {topic for topic, each in told.items() if isinstance(each, TopicAnswer) and each.exists}


MANY = [f"iot.{number}" for number in range(1000)]


def test_a_thousand_topics_are_a_few_requests_each_with_its_own_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(*MANY[:500])
    told = Lookup(monkeypatch, cluster).ask(*MANY)
    assert told.keys() == set(MANY)
    assert exist(told) == set(MANY[:500])
    assert all(told[topic].limit == 1000 - 128 for topic in MANY[:500])  # type: ignore[union-attr]
    assert "--create" in told["iot.999"].way_out  # type: ignore[union-attr]
    assert len(cluster.requests) < 100


def test_topics_that_stay_missing_cost_a_request_for_all_and_are_noticed_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster("there")
    lookup = Lookup(monkeypatch, cluster)
    lookup.ask(*MANY)
    monkeypatch.setattr(lookup.lookup, "_look_at_all", 0.0)
    cluster.requests.clear()
    told = lookup.ask(*MANY[:25])
    assert not exist(told)
    assert len(cluster.requests) < 10
    cluster._topics |= {topic: {} for topic in MANY}
    monkeypatch.setattr(lookup.lookup, "_look_at_all", 0.0)
    assert exist(lookup.ask(MANY[0])) == set(MANY)


def test_each_topic_that_stays_missing_is_asked_about_by_name_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that the bridge's user may not see is not in the list of all: it is forbidden, not missing."""
    cluster = Cluster("there")
    lookup = Lookup(monkeypatch, cluster)
    topics = MANY[:40]
    lookup.ask(*topics)
    cluster.requests.clear()
    for _ in range(400):  # the same topics come together each time
        lookup.ask(*topics)
    named = [each for each in cluster.requests if each.startswith("list iot.")]
    assert set(named) == {f"list {topic}" for topic in topics}
    assert len(named) == 2 * 400


def test_where_brokers_create_topics_each_of_many_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(creates=True)
    assert exist(Lookup(monkeypatch, cluster).ask(*MANY[:100])) == set(MANY[:100])


def test_of_many_topics_those_that_kafka_hides_are_not_called_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster()
    cluster.refusal = KafkaError.TOPIC_AUTHORIZATION_FAILED
    told = Lookup(monkeypatch, cluster).ask(*MANY[:100])
    assert {each.hold for each in told.values()} == {Hold.FORBIDDEN}  # type: ignore[union-attr]


def test_a_cluster_that_does_not_answer_is_said_of_each_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()

    def refuse(*_: object, **__: object) -> None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    monkeypatch.setattr(cluster, "describe_topics", refuse)
    told = Lookup(monkeypatch, cluster).ask(*MANY[:100])
    assert all(isinstance(each, NoTopicAnswer) for each in told.values())
    assert len(told) == 100


def test_where_no_client_can_be_built_each_topic_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane whose question is never answered asks no more: its messages would stay on disk for ever."""

    def refuse(*_: object) -> NoReturn:
        raise NoThread

    monkeypatch.setattr(topic_lookup, "new_admin", refuse)
    answers: list[TopicAnswer | NoTopicAnswer] = []
    lookup = TopicLookup(KafkaSettings(bootstrap_servers="127.0.0.1:1"), answers.append)
    for topic in ("a", "b"):
        lookup.look_up(topic)
    wait_until(lambda: len(answers) == 2, 10, lambda: f"both topics are answered: {answers}")
    assert {answer.topic for answer in answers} == {"a", "b"}
    assert all(isinstance(answer, NoTopicAnswer) for answer in answers)
