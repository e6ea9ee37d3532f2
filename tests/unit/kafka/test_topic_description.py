"""Why Kafka tells no settings of a topic: a missing permission is told apart from a topic that is new."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from bridge.kafka import topic_description
from bridge.kafka.topic_description import Description, describe

NEW, DENIED, ELSE = (
    KafkaError(code)
    for code in (
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.INVALID_REQUEST,
    )
)


class Admin:
    """Knows the topic's partitions. It answers the questions for its settings with `answers`, in order."""

    def __init__(self, *answers: KafkaError | type[TimeoutError] | str) -> None:
        self._answers = [*answers]
        self.asked = 0

    def describe_topics(self, names: Any, **_: Any) -> dict[str, Future[Any]]:
        found: Future[Any] = Future()
        found.set_result(SimpleNamespace(partitions=[], authorized_operations=None))
        return {"new": found}

    def describe_configs(self, resources: list[Any], **_: Any) -> dict[Any, Future[Any]]:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        found: Future[Any] = Future()
        if isinstance(answer, str):
            found.set_result({"retention.ms": SimpleNamespace(value=answer)})
        else:
            found.set_exception(KafkaException(answer) if isinstance(answer, KafkaError) else answer())
        return {resources[0]: found}


@pytest.fixture(autouse=True)
def _asks_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_description, "_KNOWN_WITHIN", 0.05)
    monkeypatch.setattr(topic_description, "_LOOK_EVERY", 0.001)


def told(admin: Any) -> Description:
    return describe(admin, "new")


def test_a_broker_that_does_not_know_a_new_topic_yet_is_asked_again() -> None:
    found = told(admin := Admin(NEW, NEW, "7"))
    assert (found.config, found.no_config, admin.asked) == ({"retention.ms": "7"}, "", 3)


def test_a_broker_that_never_learns_of_the_topic_is_no_missing_permission() -> None:
    found = told(Admin(NEW))
    assert (found.config, found.no_config) == ({}, "the broker that was asked does not know the topic yet")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (DENIED, "the bridge's user lacks DESCRIBE_CONFIGS"),
        (ELSE, "Kafka refuses: "),
        (TimeoutError, "Kafka does not answer"),
    ],
)
def test_other_answers_are_final_and_named(answer: Any, why: str) -> None:
    found = told(admin := Admin(answer))
    assert (found.config, admin.asked) == ({}, 1)
    assert found.no_config.startswith(why)
