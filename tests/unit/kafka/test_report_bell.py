"""librdkafka rings an eventfd when it has reports, and where that can't be had, nothing is touched."""

import os
import select
import threading
from collections.abc import Callable, Iterator
from typing import Any

import confluent_kafka
import pytest

from bridge.kafka import report_bell
from bridge.kafka.options import BATCH_SIZE, producer_options
from bridge.kafka.producer import Producer
from bridge.settings import KafkaSettings
from tests.harness.conditions import wait_until
from tests.harness.mock_kafka import QUIET, MockKafka
from tests.unit.kafka.test_producer import message

NOBODY = "127.47.0.1:1"
LONG = 10.0  # seconds; a test that waits so long has failed


@pytest.fixture(scope="module")
def kafka() -> MockKafka:
    return MockKafka()


@pytest.fixture
def bell() -> Iterator[int]:
    descriptor = os.eventfd(0, os.EFD_NONBLOCK)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def client() -> Iterator[confluent_kafka.Producer]:
    client = confluent_kafka.Producer({"bootstrap.servers": NOBODY, **QUIET})
    yield client
    report_bell.take_down(client)


@pytest.fixture
def new_producer() -> Iterator[Callable[..., Producer]]:
    made: list[Producer] = []

    def new(bootstrap: str, **callbacks: Any) -> Producer:
        options = producer_options(KafkaSettings(bootstrap_servers=bootstrap), BATCH_SIZE)
        callbacks = {"wake": lambda: None, "on_error": lambda code, text: None, **callbacks}
        made.append(Producer({**options, **QUIET}, **callbacks))
        return made[-1]

    yield new
    for producer in made:
        producer.close()


def rings(bell: int, seconds: float = LONG) -> bool:
    """Wait until the bell rings, and make it silent again."""
    if not select.select([bell], [], [], seconds)[0]:
        return False
    os.eventfd_read(bell)
    return True


def test_each_report_rings_the_bell_and_no_thread_waits_for_it(
    kafka: MockKafka, new_producer: Callable[..., Producer], bell: int
) -> None:
    woken = threading.Event()
    producer = new_producer(kafka.bootstrap, bell=bell, wake=woken.set)
    for number in range(1, 200):
        producer.produce(message())
        while len(producer.delivered) < number:  # as the loop does: sleep, wake, poll
            producer.sleep()
            assert rings(bell), f"report {number}"
            producer.poll()
    assert not woken.is_set()


def test_reports_that_came_before_the_bell_was_heard_need_no_further_ring(
    kafka: MockKafka, new_producer: Callable[..., Producer], bell: int
) -> None:
    producer = new_producer(kafka.bootstrap, bell=bell)
    for _ in range(100):
        producer.produce(message())
    while len(producer.delivered) < 100:
        assert rings(bell)
        producer.poll()


def test_an_error_that_is_of_no_message_rings_the_bell(
    new_producer: Callable[..., Producer], bell: int
) -> None:
    errors: list[int] = []
    producer = new_producer(NOBODY, bell=bell, on_error=lambda code, _text: errors.append(code))
    while not errors:
        assert rings(bell)
        producer.poll()


def test_what_was_reported_before_the_bell_hung_rings_it(client: confluent_kafka.Producer, bell: int) -> None:
    client.produce("topic", b"v")
    client.purge()  # its report waits: nobody polls
    assert report_bell.hang_up(client, bell)
    assert rings(bell, 0)


def test_a_producer_that_was_closed_rings_no_more(new_producer: Callable[..., Producer], bell: int) -> None:
    producer = new_producer(NOBODY, bell=bell)
    assert rings(bell)
    producer.close()
    wait_until(lambda: not _waiting_threads(), 30, "the producer's thread to end")
    rings(bell, 0)  # of an error before the close
    assert not rings(bell, 0)


def _waiting_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "reports"]


def test_no_other_field_of_the_producer_is_taken_for_the_client(
    client: confluent_kafka.Producer, bell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A confluent_kafka whose fields have moved: nothing is called, and the process goes on."""
    size = type(client).__basicsize__
    found = []
    for offset in range(0, size, 8):
        monkeypatch.setattr(report_bell, "_FIRST_FIELD", offset)
        if report_bell.hang_up(client, bell):
            found.append(offset)
    assert found == [object.__basicsize__]


def test_a_client_that_names_another_owner_is_not_believed(
    client: confluent_kafka.Producer, bell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Library:
        def rd_kafka_opaque(self, _client: int) -> int:
            return 0

    monkeypatch.setattr(report_bell, "_library", Library)
    assert not report_bell.hang_up(client, bell)


def test_a_librdkafka_without_the_call_is_left_alone(
    client: confluent_kafka.Producer, bell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_bell.cimpl, "__file__", None)  # the interpreter itself
    assert not report_bell.hang_up(client, bell)


def test_memory_that_may_not_be_read_leaves_the_producer_as_it_is(
    client: confluent_kafka.Producer, bell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError("hardened")

    monkeypatch.setattr(report_bell.os, "open", refuse)
    assert not report_bell.hang_up(client, bell)


def test_without_the_bell_the_thread_wakes_the_loop(
    kafka: MockKafka,
    new_producer: Callable[..., Producer],
    bell: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report_bell, "hang_up", lambda *_: False)
    woken = threading.Event()
    producer = new_producer(kafka.bootstrap, bell=bell, wake=woken.set)
    producer.produce(message())
    producer.sleep()
    assert woken.wait(LONG)
    assert producer.delivered
    assert not rings(bell, 0)
