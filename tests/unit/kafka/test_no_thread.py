"""No thread can be started: nothing of Kafka's side ends the bridge, and all of it is tried again."""

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from bridge import loop as loop_module
from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.results import Failure, NoTopicAnswer, TopicAnswer, Verdict
from bridge.errors import NoThread
from bridge.kafka import cluster as cluster_module
from bridge.kafka import tls
from bridge.kafka.blocking_producer import BlockingProducer
from bridge.kafka.dead_letter_topic import DeadLetterTopic
from bridge.kafka.topic_lookup import TopicLookup
from bridge.mqtt.connector import connect_in_background
from bridge.settings import KafkaSettings, MqttSettings
from bridge.tls.expiry import Expiry
from tests.harness.conditions import wait_until
from tests.harness.mock_kafka import MockKafka
from tests.unit.kafka.test_producer import BATCH_SIZE, NOBODY, World, message

SETTINGS = KafkaSettings(bootstrap_servers=NOBODY, options={"log_level": 0})


@pytest.fixture(scope="module")
def kafka() -> MockKafka:
    return MockKafka()


class Threads:
    """Refuses every thread of the bridge while `allowed` is False."""

    allowed = True


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    threads = Threads()

    class Thread(threading.Thread):
        def start(self) -> None:
            if not threads.allowed:
                raise RuntimeError("can't start new thread")
            super().start()

    monkeypatch.setattr(loop_module, "Thread", Thread)
    monkeypatch.setattr(cluster_module, "_FIRST_REBUILD", 0.05)
    yield threads
    threads.allowed = True


def test_a_start_without_a_producer_gets_one_later(kafka: MockKafka, threads: Threads) -> None:
    threads.allowed = False
    with capture_logs() as said:
        world = World(kafka.bootstrap)
    assert [line["event"] for line in said] == ["service.no_thread"]
    failure = world.produce(message())
    assert failure
    assert failure.verdict is Verdict.PRODUCER_LOST
    world.until(lambda: world.cluster.is_broken)
    world.cluster.rebuild()  # still none
    threads.allowed = True
    world.until(lambda: world.cluster.is_broken)
    world.cluster.rebuild()
    given = message()
    assert world.produce(given) is None
    world.until(lambda: world.delivered == [given])
    world.close()


def test_a_message_that_wants_the_prober_is_held_and_not_given_to_the_producer_of_all(
    kafka: MockKafka, threads: Threads
) -> None:
    world = World(kafka.bootstrap)
    threads.allowed = False
    failures: list[Failure] = []
    world.cluster.probe(message(), failures.append)
    assert [failure.verdict for failure in failures] == [Verdict.NOT_NOW]
    assert "no further thread" in failures[0].reason
    threads.allowed = True
    given = message()
    world.cluster.probe(given, failures.append)
    world.until(lambda: world.delivered == [given])
    world.close()


def test_a_successor_is_built_later_and_the_producer_goes_on(
    kafka: MockKafka, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_RETIRE_AGAIN", 0.05)
    world = World(kafka.bootstrap)
    world.cluster._questions.take(TopicAnswer("a", exists=True, limit=BATCH_SIZE - 1))
    threads.allowed = False
    world.cluster.retire()
    assert not world.cluster.wants_successor
    given = message()
    assert world.produce(given) is None
    world.until(lambda: world.delivered == [given])
    world.until(lambda: world.cluster.wants_successor)
    threads.allowed = True
    world.cluster.retire()
    assert not world.cluster.wants_successor
    world.close()


def test_a_producer_is_closed_without_a_thread_of_its_own(kafka: MockKafka, threads: Threads) -> None:
    world = World(kafka.bootstrap)
    threads.allowed = False
    world.close()


def test_a_producer_without_any_broker_thread_is_replaced(kafka: MockKafka, threads: Threads) -> None:
    world = World(kafka.bootstrap)
    world.cluster._producer.note_error(-187, "No brokers configured")
    assert world.cluster._producer.is_broken
    world.until(lambda: world.cluster.is_broken)
    world.cluster.rebuild()
    given = message()
    assert world.produce(given) is None
    world.until(lambda: world.delivered == [given])
    world.close()


def test_a_broker_thread_of_librdkafka_that_is_refused_is_said_once(threads: Threads) -> None:
    world = World(NOBODY)
    with capture_logs() as said:
        for _ in range(3):
            world.cluster._error(world.cluster._producer, -194, "Unable to create broker thread")
    assert [line["event"] for line in said] == ["service.no_thread"]
    world.close()


def test_a_topic_that_can_not_be_looked_up_is_answered_and_looked_up_again(threads: Threads) -> None:
    answers: list[TopicAnswer | NoTopicAnswer] = []
    lookup = TopicLookup(SETTINGS, answers.append)
    threads.allowed = False
    lookup.look_up("a")
    assert isinstance(answers[0], NoTopicAnswer)
    assert "no further thread" in answers[0].reason
    threads.allowed = True
    lookup.look_up("a")
    wait_until(lambda: len(answers) == 2, 30, "the second answer")
    wait_until(lambda: "topics" not in [each.name for each in threading.enumerate()], 30, "its thread to end")


def test_a_dead_letter_that_finds_no_thread_is_said_and_the_next_one_goes(
    kafka: MockKafka, threads: Threads
) -> None:
    def letter() -> DeadLetter:
        return DeadLetter(message(), "why")

    threads.allowed = False
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap, options={"log_level": 0})
    topic = DeadLetterTopic(settings, "letters")
    with capture_logs() as said:
        topic.post([letter()])
    assert [line["event"] for line in said] == ["deadletter.not_produced"]
    assert "no further thread" in said[0]["reason"]
    threads.allowed = True
    topic.post([letter()])
    wait_until(lambda: not topic._unreported, 30, "the letter is produced")
    topic.close()


def test_why_tls_failed_is_said_in_librdkafkas_words(threads: Threads) -> None:
    threads.allowed = False
    with capture_logs() as said:
        tls.report_in_background(SETTINGS, "ssl://kafka1:9094/1: wrong version number")
    assert [line["event"] for line in said] == ["kafka.tls_failed"]
    assert "kafka1:9094" in said[0]["reason"]


def test_the_watch_over_certificates_starts_later(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()
    watch = Expiry([], {})
    monkeypatch.setattr(watch, "_work", looked.set)
    threads.allowed = False
    watch.start()
    threads.allowed = True
    watch.start()
    assert looked.wait(10)


def test_a_connection_to_the_broker_fails_and_is_tried_again(threads: Threads) -> None:
    threads.allowed = False
    results: list[object] = []
    connect_in_background(MqttSettings(host="127.47.0.1"), results.append, lambda *_: None)
    assert isinstance(results[0], OSError)
    assert "no further thread" in str(results[0])


def test_a_replay_says_it_in_a_sentence(threads: Threads) -> None:
    threads.allowed = False
    with pytest.raises(NoThread, match="TasksMax"):
        BlockingProducer(SETTINGS)


def test_a_message_that_no_record_can_be_made_of_is_a_dead_letter_and_ends_nothing() -> None:
    world = World(NOBODY)
    bad = message()
    bad.plan.kafka_topic = "nul\0"
    failure = world.produce(bad)
    assert failure
    assert failure.verdict is Verdict.INVALID
    assert "no Kafka record" in failure.reason
    world.close()
