"""One librdkafka producer, and how the bridge handles its errors; on librdkafka's own mock of Kafka."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.delivery import clock
from bridge.delivery.results import Failure, NoTopicAnswer, TopicAnswer, Verdict
from bridge.errors import BridgeError, ConfigurationError, NoThread
from bridge.kafka import cluster as cluster_module
from bridge.kafka import producer as producer_module
from bridge.kafka import report_bell, tls
from bridge.kafka import topic_lookup as topic_lookup_module
from bridge.kafka.cluster import Cluster
from bridge.kafka.dead_letter_topic import DeadLetterTopic
from bridge.kafka.options import BATCH_SIZE, producer_options
from bridge.kafka.producer import NoProducer, Producer, taken
from bridge.kafka.topic_lookup import TopicLookup
from bridge.loop import Loop, start_thread
from bridge.message import Message
from bridge.settings import KafkaSettings
from tests.harness.conditions import wait_until
from tests.harness.mock_kafka import QUIET, MockKafka

DENIED = 29  # Kafka protocol guide, "Error Codes"
AUTHENTICATION, ALL_BROKERS_DOWN, FATAL, TRANSPORT, RESOLVE = -169, -187, -150, -195, -193  # rdkafka.h
SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "PLAIN", "sasl.username": "bridge"}
NOBODY = "127.47.0.1:1"


@pytest.fixture(scope="module")
def kafka() -> MockKafka:
    return MockKafka()


@pytest.fixture
def new_producer() -> Iterator[Callable[..., Producer]]:
    made: list[Producer] = []

    def new(bootstrap: str, **callbacks: Any) -> Producer:
        settings = KafkaSettings(bootstrap_servers=bootstrap)
        callbacks = {"wake": lambda: None, "on_error": lambda code, text: None, **callbacks}
        made.append(Producer({**producer_options(settings, BATCH_SIZE), **QUIET}, **callbacks))
        return made[-1]

    yield new
    for producer in made:
        producer.close()
    wait_until(lambda: not _threads("reports", "purge"), 30, "a producer's threads to end")


def _threads(*names: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in names]


def message(topic: str = "topic", payload: bytes = b"v") -> Message:
    made = Message.of(b"t", 2, 1, None, payload)
    made.plan = SimpleNamespace(
        kafka_topic=topic, key=b"k", raw=True, by_flags=[None] * 16, headers=lambda _: [("h", b"1")]
    )
    return made


def reported(producer: Producer, count: int = 1) -> None:
    def enough() -> bool:
        producer.poll()
        return len(producer.delivered) + len(producer.failed) >= count

    wait_until(enough, 30, "the delivery reports")


# -- messages --------------------------------------------------------------------------------------------


def test_what_kafka_has_is_reported_as_delivered(
    kafka: MockKafka, new_producer: Callable[..., Producer]
) -> None:
    producer = new_producer(kafka.bootstrap)
    sent = [message() for _ in range(3)]
    for each in sent:
        assert producer.produce(each) is None
    reported(producer, 3)
    assert producer.delivered == sent
    assert producer.is_empty is False  # the reports were not taken yet
    producer.delivered.clear()
    assert producer.is_empty


def test_a_loop_that_sleeps_is_woken_by_a_report(
    kafka: MockKafka, new_producer: Callable[..., Producer]
) -> None:
    woken = threading.Event()
    producer = new_producer(kafka.bootstrap, wake=woken.set)
    producer.produce(message())
    producer.sleep()
    assert woken.wait(10)
    assert producer.delivered


def test_it_is_woken_each_time_it_sleeps(kafka: MockKafka, new_producer: Callable[..., Producer]) -> None:
    woken = threading.Semaphore(0)
    producer = new_producer(kafka.bootstrap, wake=woken.release)
    for number in range(1, 200):
        producer.produce(message())
        while len(producer.delivered) < number:  # as the loop does: sleep, wake, poll, sleep again
            producer.sleep()
            assert woken.acquire(timeout=10)


def test_what_is_larger_than_any_request_is_reported_at_once(new_producer: Callable[..., Producer]) -> None:
    report = new_producer(NOBODY).produce(message(payload=bytes(100_000_001)))
    assert report
    assert report[1] == 10


def test_a_topic_that_was_denied_once_is_reported_and_raises_nothing(
    new_producer: Callable[..., Producer],
) -> None:
    kafka = MockKafka()
    kafka.answer_late()  # else librdkafka may know the topic's error before the first message
    kafka.refuse_topic("denied", DENIED)
    producer = new_producer(kafka.bootstrap)
    assert producer.produce(message("denied")) is None
    reported(producer)
    assert producer.failed.pop()[1] == DENIED
    report = producer.produce(message("denied"))
    assert report
    assert report[1] == DENIED


def test_a_message_that_another_producer_gets_is_reported_there(
    kafka: MockKafka, new_producer: Callable[..., Producer]
) -> None:
    lost, producer = new_producer(NOBODY), new_producer(kafka.bootstrap)
    given = message()
    lost.produce(given)
    producer.produce(given)
    reported(producer)
    assert producer.delivered == [given]
    lost._rd.purge()  # as a close does; librdkafka reports the purged message
    reported(lost)
    assert not producer.failed


def test_what_is_reported_while_reports_are_taken_is_there_the_next_time() -> None:
    class Growing(list[str]):
        def __getitem__(self, which: Any) -> Any:
            found = super().__getitem__(which)
            self.append("by the thread that waits")
            return found

    reports = Growing(["first"])
    assert taken(reports) == ["first"]
    assert list(reports) == ["by the thread that waits"]


def test_options_that_librdkafka_refuses_are_the_users_to_mend() -> None:
    with pytest.raises(ConfigurationError, match=r"kafka\.options"):
        Producer({"no.such.option": 1}, lambda: None, lambda code, text: None)


# -- fatal errors ----------------------------------------------------------------------------------------


def test_a_fatal_error_breaks_the_producer_and_not_the_loop(
    kafka: MockKafka, new_producer: Callable[..., Producer]
) -> None:
    errors: list[int] = []
    producer = new_producer(kafka.bootstrap, on_error=lambda code, text: errors.append(code))
    kafka.rdkafka.make_fatal(producer._rd)
    report = producer.produce(message())
    assert report
    assert report[1] == -150

    def broken() -> bool:
        producer.poll()
        return producer.is_broken

    wait_until(broken, 30, "the fatal error to be seen")
    assert -150 in errors


def test_a_fatal_error_wakes_a_loop_that_sleeps(
    kafka: MockKafka, new_producer: Callable[..., Producer]
) -> None:
    woken = threading.Event()
    producer = new_producer(kafka.bootstrap, wake=woken.set)
    producer.sleep()
    kafka.rdkafka.make_fatal(producer._rd)

    def broken() -> bool:
        if woken.is_set():  # an earlier event of librdkafka woke the loop
            woken.clear()
            producer.sleep()
        return producer.is_broken

    wait_until(broken, 30, "the fatal error to be seen by the thread that waits")
    producer.sleep()  # the waiting thread must still run
    assert "reports" in _threads("reports")


def test_a_producer_can_be_closed_while_its_thread_waits() -> None:
    options = producer_options(KafkaSettings(bootstrap_servers=NOBODY), BATCH_SIZE)
    producer = Producer({**options, **QUIET}, wake=lambda: None, on_error=lambda code, text: None)
    producer.sleep()
    producer.close()
    wait_until(lambda: not _threads("reports", "purge"), 30, "the producer's threads to end")


# -- the cluster: the producer's life ----------------------------------------------------------------------


class World:
    """A cluster and its loop."""

    def __init__(self, bootstrap: str, *, password_file: Path | None = None, **options: str) -> None:
        self.loop = Loop()
        settings = KafkaSettings(
            bootstrap_servers=bootstrap, password_file=password_file, options={"log_level": 0, **options}
        )
        self.cluster = Cluster(settings, self.loop)
        self.delivered: list[Message] = []

    def produce(self, message: Message) -> Failure | None:
        """Produce a message. Returns a failure that is known at once."""
        failures: list[Failure] = []
        self.cluster.produce([message], failures.append)
        return failures[0] if failures else None

    def close(self) -> None:
        self.cluster.close()
        wait_until(lambda: not _threads("reports", "purge", "topics"), 30, "the cluster's threads to end")
        self.loop.close()

    def until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        """Run the loop until `condition` holds."""

        def holds() -> object:
            self.loop.wait(0)
            self.cluster.poll()
            self.delivered += self.cluster.take_delivered()
            return condition()

        wait_until(holds, seconds, "the cluster")


@pytest.fixture
def world(kafka: MockKafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(cluster_module, "_FIRST_REBUILD", 0.05)
    world = World(kafka.bootstrap)
    yield world
    world.close()


def test_a_producer_that_is_lost_is_rebuilt_and_delivers(kafka: MockKafka, world: World) -> None:
    kafka.rdkafka.make_fatal(world.cluster._producer._rd)
    failure = world.produce(message())
    assert failure
    assert failure.verdict is Verdict.PRODUCER_LOST
    world.until(lambda: world.cluster.is_broken)
    world.cluster.rebuild()
    assert not world.cluster.is_broken
    again = message()
    assert world.produce(again) is None
    world.until(lambda: world.delivered)
    assert world.delivered == [again]


def test_a_cluster_whose_one_producer_works_can_but_deliver(world: World) -> None:
    world.produce(message())
    world.until(lambda: world.delivered)
    assert world.cluster.only_reports


def test_a_pass_takes_what_was_delivered(world: World) -> None:
    sent = message()
    world.produce(sent)
    taken: list[Message] = []
    wait_until(
        lambda: taken.extend((world.cluster.relay() or (0, []))[1]) or taken, 30, "the delivery report"
    )
    assert taken == [sent]
    assert world.cluster.relay() == (0, [])
    assert world.cluster.take_delivered() == []


def test_a_pass_takes_nothing_beside_a_failure_which_comes_first(world: World) -> None:
    producer = world.cluster._producer
    producer.delivered.append(delivered := message())
    producer.failed.append((failed := message(), DENIED, "denied"))
    assert world.cluster.relay() is None
    assert [each.message for each in world.cluster.take_failures()] == [failed]
    assert world.cluster.take_delivered() == [delivered]


def test_where_a_thread_waits_for_reports_each_needs_a_turn(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_bell, "hang_up", lambda *_: False)
    world = World(kafka.bootstrap)
    world.produce(message())
    world.cluster.sleep()
    assert world.loop.wait(10), "the thread wakes the loop"
    world.until(lambda: world.delivered)
    assert not world.cluster.only_reports
    world.close()


def test_a_failure_and_a_lost_producer_need_a_turn(kafka: MockKafka, world: World) -> None:
    world.produce(message())
    world.until(lambda: world.delivered)
    kafka.rdkafka.make_fatal(world.cluster._producer._rd)
    world.until(lambda: not world.cluster.only_reports)
    world.until(lambda: world.cluster.is_broken)
    world.cluster.rebuild()
    assert world.cluster.only_reports


def test_a_second_producer_needs_a_turn(world: World) -> None:
    world.produce(message())
    world.cluster.retire()
    assert not world.cluster.only_reports
    world.until(lambda: world.cluster.only_reports)
    assert len(world.delivered) == 1


def test_a_report_wakes_the_loop(world: World) -> None:
    for number in range(1, 50):
        assert world.produce(message()) is None
        while len(world.delivered) < number:
            world.cluster.sleep()
            assert world.loop.wait(10), "a report has come"
            world.cluster.poll()
            world.delivered += world.cluster.take_delivered()


def test_a_fatal_error_wakes_the_loop(kafka: MockKafka, world: World) -> None:
    world.produce(message())
    world.until(lambda: world.delivered)
    world.cluster.sleep()
    kafka.rdkafka.make_fatal(world.cluster._producer._rd)
    while world.cluster.only_reports:
        assert world.loop.wait(10), "the error"
        world.cluster.poll()


def test_one_rebuild_does_not_chase_the_next(kafka: MockKafka, world: World) -> None:
    world.until(lambda: True)
    kafka.rdkafka.make_fatal(world.cluster._producer._rd)
    world.until(lambda: world.cluster.is_broken)
    world.cluster.rebuild()
    kafka.rdkafka.make_fatal(world.cluster._producer._rd)
    world.until(lambda: world.cluster._producer.is_broken)
    assert not world.cluster.is_broken  # the delay before the next rebuild is not over
    world.until(lambda: world.cluster.is_broken)


def test_what_a_retired_producer_has_in_flight_is_still_reported(world: World) -> None:
    first, second = message(), message()
    world.produce(first)
    world.cluster.retire()
    world.produce(second)
    world.until(lambda: len(world.delivered) == 2)
    assert set(world.delivered) == {first, second}
    assert not world.cluster._retiring


def test_a_retired_producer_that_is_lost_is_seen_by_what_it_had_in_flight(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_FIRST_REBUILD", 0.0)
    world = World(NOBODY)
    retired = world.cluster._producer._rd
    world.produce(message())
    world.cluster.retire()
    kafka.rdkafka.make_fatal(retired)
    world.until(lambda: [each.verdict for each in world.cluster.take_failures()] == [Verdict.PRODUCER_LOST])
    assert world.cluster.is_broken
    world.close()


def test_a_clock_that_was_set_back_ends_the_waits_of_all_producers(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real waits are ended in tests/integration/disk/test_the_clock_jumps.py."""
    monkeypatch.setattr(cluster_module, "_LOOK_EVERY", 0.0)
    ended: list[Producer] = []
    monkeypatch.setattr(Producer, "end_waits", lambda producer: ended.append(producer))
    world.until(lambda: True)
    right = clock.wall_offset()
    for offset in (right, right + 1e9, right + 1e9 - 0.9):  # right, set forward, and slewed
        monkeypatch.setattr(clock, "wall_offset", lambda offset=offset: offset)
        world.until(lambda: True)
    assert ended == []
    monkeypatch.setattr(clock, "wall_offset", lambda: right)
    world.until(lambda: True)
    world.until(lambda: True)  # once for each step back
    assert ended == [world.cluster._producer]


def test_a_clock_that_was_set_back_lets_topics_be_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that looks them up may wait for as long as the clock was set back."""
    monkeypatch.setattr(cluster_module, "_LOOK_EVERY", 0.0)
    world = World(NOBODY)
    world.cluster.look_up("t")
    stuck = world.cluster._questions._lookup
    monkeypatch.setattr(clock, "wall_offset", lambda: -1e9)
    world.until(lambda: world.cluster.answers)
    assert [answer.topic for answer in world.cluster.answers] == ["t"]
    assert world.cluster._questions._lookup is not stuck
    world.close()


def test_no_thread_is_free_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_LOOK_EVERY", 0.0)
    world, tries = World(NOBODY), [NoThread(), NoThread()]

    def end_waits(_producer: Producer) -> None:
        if tries:
            raise tries.pop()

    monkeypatch.setattr(Producer, "end_waits", end_waits)
    monkeypatch.setattr(clock, "wall_offset", lambda: -1e9)
    for _ in range(4):
        world.until(lambda: True)
    assert tries == []
    assert world.cluster._clock._offset == -1e9
    world.close()


def test_a_producer_is_closed_while_a_thread_asks_kafka() -> None:
    options = producer_options(KafkaSettings(bootstrap_servers=NOBODY), BATCH_SIZE)
    producer = Producer({**options, **QUIET}, wake=lambda: None, on_error=lambda code, text: None)
    producer.end_waits()
    producer.close()
    wait_until(lambda: not _threads("reports", "clock"), 30, "the producer's threads to end")


class _SlowAnswers:
    """librdkafka's client, of which a question in the thread "watch" lasts until `set`."""

    def __init__(self, client: Any) -> None:
        self._client, self._answers = client, threading.Event()
        self.asked: list[str] = []
        self.set = self._answers.set

    def list_topics(self, *_: object) -> None:
        self.asked.append(threading.current_thread().name)
        if self.asked[-1] == "watch":
            self._answers.wait(30)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __len__(self) -> int:
        return len(self._client)


def test_a_question_that_waits_delays_no_other_question_but_the_close() -> None:
    """One that began before the clock was set back waits for as long; `end_waits` must get through."""
    options = producer_options(KafkaSettings(bootstrap_servers=NOBODY), BATCH_SIZE)
    producer = Producer({**options, **QUIET}, wake=lambda: None, on_error=lambda code, text: None)
    slow: Any = _SlowAnswers(producer._rd)
    producer._rd = slow
    start_thread(lambda: producer.metadata("t", 4.0), "watch")
    wait_until(lambda: slow.asked, 30, "the question of the watch")
    producer.end_waits()
    wait_until(lambda: "clock" in slow.asked, 30, "the question that ends all waits")
    producer.close()
    wait_until(lambda: not _threads("clock"), 30, "the answered thread to end")
    assert _threads("reports")  # it closes the client only after the question
    slow.set()
    wait_until(lambda: not _threads("reports", "watch"), 30, "the client to be closed")


def test_many_steps_back_of_the_clock_leave_one_thread_while_kafka_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(producer_module, "_ANSWER", 0.2)
    options = producer_options(KafkaSettings(bootstrap_servers=NOBODY), BATCH_SIZE)
    producer = Producer({**options, **QUIET}, wake=lambda: None, on_error=lambda code, text: None)
    for _ in range(5):
        producer.end_waits()
    wait_until(lambda: len(_threads("clock")) == 1, 60, "the threads of earlier steps to end")
    producer.close()
    wait_until(lambda: not _threads("reports", "clock"), 60, "the producer's threads to end")


def test_a_rebuild_that_lacks_a_file_rests_until_the_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closed producer still has a message in flight; the cluster must not poll it."""
    monkeypatch.setattr(cluster_module, "_LOOK_EVERY", 0.0)
    password = tmp_path / "password"
    password.write_text("sesame")
    world = World(NOBODY, password_file=password, **SASL)
    world.cluster._has_delivered = True
    world.produce(message())  # so the producer is not empty
    password.unlink()
    world.cluster.rebuild()
    world.until(lambda: not _threads("purge"))
    assert world.cluster.take_failures() == []  # no report of the closed producer
    failure = world.produce(message())
    assert failure
    assert failure.verdict is Verdict.PRODUCER_LOST
    password.write_text("sesame")
    world.until(lambda: world.cluster.is_broken)
    world.cluster.rebuild()
    assert world.produce(message()) is None
    world.close()


def test_a_start_that_lacks_a_file_rests_until_the_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_module, "_LOOK_EVERY", 0.0)
    password = tmp_path / "password"
    with capture_logs() as logged:
        world = World(NOBODY, password_file=password, **SASL)
    assert [line["event"] for line in logged] == ["kafka.files_unusable"]
    failure = world.produce(message())
    assert failure
    assert failure.verdict is Verdict.PRODUCER_LOST
    world.cluster.look_up("topic")
    assert "cannot read" in str(world.cluster.answers.popleft())
    world.cluster.sleep()
    world.until(lambda: not world.cluster.is_broken)
    password.write_text("sesame")
    world.until(lambda: world.cluster.is_broken)
    world.cluster.rebuild()
    assert world.produce(message()) is None
    world.close()


def test_a_start_with_an_option_that_librdkafka_refuses_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"kafka\.options"):
        World(NOBODY, **{"no.such.option": "1"})


def test_a_file_that_may_be_read_now_has_another_stamp(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("sesame")
    before = tls.stamp([file])

    def differs() -> bool:  # the kernel's clock for file times is coarse
        file.chmod(0o640)
        return tls.stamp([file]) != before

    wait_until(differs, 10, "another stamp")


def test_a_cluster_that_rests_has_no_producer_to_retire() -> None:
    world = World(NOBODY)
    world.cluster._rest("nobody lets it in")
    world.cluster._questions.take(TopicAnswer("a", exists=True, limit=BATCH_SIZE - 1))
    assert not world.cluster.wants_successor
    world.close()


def test_with_many_topics_librdkafka_makes_no_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its histograms took 30 KB of each topic: 10,000 topics more than the unit's limit."""
    makes: list[bool] = []

    class Watched(Producer):
        def __init__(self, *given: Any, **named: Any) -> None:
            makes.append(named["on_statistics"] is not None)
            super().__init__(*given, **named)

    monkeypatch.setattr(cluster_module, "Producer", Watched)
    world = World(NOBODY)
    cluster = world.cluster
    for number in range(500):
        cluster._questions.take(TopicAnswer(f"t{number}", exists=True, limit=None))
        cluster._questions.take(TopicAnswer(f"missing{number}", exists=False))
    cluster.brokers._trips = {1: 0.1}
    assert not cluster.wants_successor
    cluster._questions.take(TopicAnswer("one more", exists=True, limit=None))
    assert cluster.wants_successor
    cluster.retire()
    assert not cluster.wants_successor
    cluster._take_statistics("what the old producer has made meanwhile is no JSON")
    cluster.rebuild()
    assert makes == [True, False, False]
    assert not cluster.brokers._trips
    world.close()


def test_with_many_topics_a_file_that_is_unusable_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(NOBODY)
    cluster = world.cluster
    for number in range(501):
        cluster._questions.take(TopicAnswer(f"t{number}", exists=True, limit=None))

    def refuse() -> Producer:
        raise BridgeError("the file is half written")

    monkeypatch.setattr(cluster, "_build", refuse)
    assert cluster.wants_successor
    with capture_logs() as logs:
        cluster.retire()
    assert [each["event"] for each in logs] == ["kafka.files_unusable"]
    assert not cluster.wants_successor
    world.close()


def test_a_cluster_that_is_down_is_not_taken_for_one_that_refuses_because_it_once_did() -> None:
    world = World(NOBODY)
    producer = world.cluster._producer
    world.cluster._error(producer, AUTHENTICATION, "wrong password")
    world.cluster._refused_at -= 61.0
    world.cluster._error(producer, ALL_BROKERS_DOWN, "3/3 brokers are down")
    assert not world.cluster._rests
    world.cluster._error(producer, AUTHENTICATION, "wrong password")
    world.cluster._error(producer, ALL_BROKERS_DOWN, "3/3 brokers are down")
    assert world.cluster._rests
    world.close()


@pytest.mark.parametrize(
    ("code", "event", "way_out"),
    [
        (RESOLVE, "kafka.error", "advertised.listeners"),
        (TRANSPORT, "kafka.error", "sudo mqtt-kafka-bridge check tries each broker"),
        (ALL_BROKERS_DOWN, "kafka.all_brokers_down", "start Kafka"),
    ],
)
def test_an_error_that_time_may_cure_is_logged_with_what_to_do_if_it_does_not(
    code: int, event: str, way_out: str
) -> None:
    world = World(NOBODY)
    with capture_logs() as lines:
        world.cluster._error(world.cluster._producer, code, "k:9092/1: something")
    assert [line["event"] for line in lines] == [event]
    assert way_out in lines[0]["way_out"]
    world.close()


def test_a_producer_that_was_closed_reports_what_it_is_given_as_lost() -> None:
    options = producer_options(KafkaSettings(bootstrap_servers=NOBODY), BATCH_SIZE)
    producer = Producer({**options, **QUIET}, wake=lambda: None, on_error=lambda code, text: None)
    producer.close()
    wait_until(lambda: not _threads("reports", "purge"), 30, "the producer's threads to end")
    given = message()
    report = producer.produce(given)
    assert report
    assert report[:2] == (given, FATAL)
    producer.poll()
    assert producer.is_broken


# -- topic lookup ------------------------------------------------------------------------------------------


def test_a_topic_is_asked_about_once_until_it_is_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    may_answer = threading.Event()

    def look_up(_: object, topic: str, __: object) -> TopicAnswer:
        asked.append(topic)
        may_answer.wait(10)
        return TopicAnswer(topic, exists=True, limit=BATCH_SIZE)

    monkeypatch.setattr(topic_lookup_module, "look_up", look_up)
    for _ in range(5):
        world.cluster.look_up("a")
    may_answer.set()
    world.until(lambda: world.cluster.answers)
    assert asked == ["a"]
    world.cluster.look_up("a")
    world.until(lambda: len(world.cluster.answers) == 2)


def test_a_question_that_goes_wrong_is_answered_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object) -> TopicAnswer:
        raise KeyError("max.message.bytes")

    monkeypatch.setattr(topic_lookup_module, "look_up", look_up)
    answers: list[TopicAnswer | NoTopicAnswer] = []
    lookup = TopicLookup(KafkaSettings(bootstrap_servers=NOBODY, options={"log_level": 0}), answers.append)
    lookup.look_up("a")
    wait_until(lambda: len(answers) == 1, 30, "the first answer")
    lookup.look_up("b")
    wait_until(lambda: len(answers) == 2, 30, "the second answer")
    assert all(isinstance(answer, NoTopicAnswer) for answer in answers)
    wait_until(lambda: not _threads("topics"), 30, "the thread to end")


def test_a_smaller_limit_asks_for_a_successor_with_smaller_batches(world: World) -> None:
    world.cluster._questions.take(TopicAnswer("a", exists=True, limit=BATCH_SIZE - 1))
    assert world.cluster.wants_successor
    world.cluster.retire()
    assert not world.cluster.wants_successor
    world.cluster._questions.take(TopicAnswer("b", exists=True, limit=BATCH_SIZE))
    assert not world.cluster.wants_successor


def test_a_producer_that_is_closed_is_freed_without_the_collector() -> None:
    """The service's collector runs after 100,000 objects, and librdkafka's client takes megabytes."""
    gc.disable()
    try:
        loop = Loop()
        cluster = Cluster(KafkaSettings(bootstrap_servers=NOBODY, options={"log_level": 0}), loop)
        first = weakref.ref(cluster._producer)
        cluster.rebuild()
        # An error that was posted keeps its producer until the loop has handled the error.
        wait_until(lambda: (loop.wait(0.01), first() is None)[1], 20, "the replaced producer is freed")
        cluster.close()
    finally:
        gc.enable()


def test_a_producer_of_dead_letters_that_is_closed_is_freed_without_the_collector() -> None:
    gc.disable()
    try:
        topic = DeadLetterTopic(KafkaSettings(bootstrap_servers=NOBODY, options={"log_level": 0}), "dead")
        first = weakref.ref(topic._producer)
        topic._producer.close()
        topic._producer = NoProducer("replaced")
        wait_until(lambda: first() is None, 20, "the producer is freed")
    finally:
        gc.enable()
