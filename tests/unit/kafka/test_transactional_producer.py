"""The transactional producer, with a client that does what a test says."""

import gc
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as RdProducer

from bridge.delivery.intent import Intent, Number, from_metadata
from bridge.kafka import library_log, transactional_producer
from bridge.kafka.transactional_producer import Lost, Refused, TransactionalProducer
from bridge.kafka.transactions import Run
from bridge.message import Message
from bridge.routing.plan import plain_plan
from bridge.settings import KafkaSettings

TOPIC = "topic"
_FENCED, _TOO_LARGE = 90, 10


class Client:
    """Stands for confluent_kafka.Producer.

    `raises`: the error's code by the name of the call. `refuses`: payloads that get a report with an error.
    `confirms`: how many of the others each flush confirms. `now`: the time; a flush takes all that it may.
    """

    raises: dict[str, int]
    refuses: dict[bytes, int]
    confirms: int
    now: float
    made: list["weakref.ref[Client]"]
    kept: list[KafkaException]
    options: dict[str, Any]

    def __init__(self, options: dict[str, Any]) -> None:
        Client.options = options
        self.waiting: list[tuple[bytes, Callable[[Any, object], None]]] = []
        self.fatal = 0  # once a call has failed, all others fail too
        self.made.append(weakref.ref(self))

    def __len__(self) -> int:
        return len(self.waiting)

    def _call(self, name: str) -> None:
        self.fatal = self.fatal or self.raises.get(name, 0)
        if self.fatal:
            error = KafkaException(KafkaError(self.fatal, "why", fatal=True))
            self.kept.append(error)  # as confluent_kafka does, for ever
            raise error

    def init_transactions(self, _seconds: float) -> None:
        self._call("init_transactions")

    def begin_transaction(self) -> None:
        self._call("begin_transaction")

    def produce(self, _topic: str, value: bytes, *rest: Any) -> None:
        self._call("produce")
        self.waiting.append((value, rest[2]))

    def flush(self, seconds: float) -> int:
        Client.now += seconds
        for each in [each for each in self.waiting if each[0] in self.refuses]:
            self.waiting.remove(each)
            each[1](KafkaError(self.refuses[each[0]], "refused"), None)
        del self.waiting[: self.confirms]
        return len(self.waiting)

    def purge(self) -> None:
        purged, self.waiting = self.waiting, []
        for _, told in purged:
            told(KafkaError(KafkaError._PURGE_QUEUE, "purged"), None)

    def poll(self, _seconds: float) -> int:
        return 0

    def send_offsets_to_transaction(self, *_: Any) -> None:
        self._call("send_offsets_to_transaction")

    def commit_transaction(self, _seconds: float) -> None:
        self._call("commit_transaction")


class NumberReader:
    """Stands for confluent_kafka.Consumer. Kafka has no number."""

    def __init__(self, _options: dict[str, Any]) -> None: ...
    def consumer_group_metadata(self) -> object:
        return object()

    def list_topics(self, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(topics={})

    def close(self) -> None: ...


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Client]]:
    Client.raises, Client.refuses, Client.confirms, Client.made, Client.kept = {}, {}, 1000, [], []
    Client.now = 1000.0
    monkeypatch.setattr(transactional_producer, "time", SimpleNamespace(monotonic=lambda: Client.now))
    monkeypatch.setattr(transactional_producer, "RdProducer", Client)
    monkeypatch.setattr(transactional_producer, "Consumer", NumberReader)
    yield Client
    Client.kept.clear()


@pytest.fixture
def producer(client: type[Client]) -> TransactionalProducer:
    return TransactionalProducer(KafkaSettings(bootstrap_servers="k:9092"), "id", "group", lambda *_: None)


def a_run(*payloads: bytes) -> Run:
    messages = []
    for payload in payloads:
        message = Message.of(b"t", 2, 1, None, payload)
        message.plan, message.timestamp = plain_plan(b"t", TOPIC), -1
        messages.append(message)
    return Run(1, messages, Intent(1, "run", {}, 0, TOPIC), TOPIC, is_trial=False, hurries=False)


def _open_and_run(producer: TransactionalProducer) -> None:
    producer.open("")
    producer.run(a_run(b"1"), lambda _: "spool")


@pytest.mark.parametrize(
    "call",
    [
        "init_transactions",
        "begin_transaction",
        "produce",
        "send_offsets_to_transaction",
        "commit_transaction",
    ],
)
def test_a_client_that_was_fenced_is_freed_although_the_library_keeps_the_exception(
    client: type[Client], producer: TransactionalProducer, call: str
) -> None:
    """Else each twin's turn would leave a client, with six threads, in the process."""
    client.raises[call] = _FENCED
    with pytest.raises(Lost) as lost:
        _open_and_run(producer)
    assert lost.value.is_fenced
    lost.value.__traceback__ = None
    del lost
    gc.collect()
    assert client.made
    assert [each() for each in client.made] == [None]


def test_the_last_number_of_a_spool_is_carried_along_after_it_was_set_aside(
    client: type[Client], producer: TransactionalProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file may be recovered, and put back."""
    sent: list[str] = []
    monkeypatch.setattr(
        client, "send_offsets_to_transaction", lambda _, offsets, *__: sent.append(offsets[0].metadata)
    )
    producer.open("")
    for number, spool in ((1, "damaged"), (2, "new")):
        run = Run(number, [], Intent(number, "run", {}, 0, TOPIC), TOPIC, is_trial=False, hurries=False)
        producer.run(run, lambda _, spool=spool: spool)
    assert from_metadata(sent[1:]) == {"damaged": Number(1, "run"), "new": Number(2, "run")}


def test_a_file_that_was_replaced_is_read_although_kafka_never_answers_with_the_old_one(
    client: type[Client], producer: TransactionalProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that refuses an expired certificate never does."""
    waited: list[Client] = []

    def wait(its: Client, _seconds: float) -> None:
        waited.append(its)
        assert len(waited) < 5, "it waits for ever"
        producer.is_outdated = len(waited) == 3
        if its is waited[0]:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer", retriable=True))

    monkeypatch.setattr(client, "init_transactions", wait)
    producer.open("")
    assert waited == [waited[0]] * 3 + [waited[-1]]
    assert waited[-1] is not waited[0]


def test_a_transaction_that_lacks_a_message_is_never_committed(
    client: type[Client], producer: TransactionalProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although no report, and no later call, says that it has failed."""
    produce = client.produce

    def takes_one(its: Client, *rest: Any) -> None:
        if len(its):
            raise KafkaException(KafkaError(KafkaError._STATE, "the transaction has failed"))
        produce(its, *rest)

    monkeypatch.setattr(client, "produce", takes_one)
    producer.open("")
    with pytest.raises(Lost, match="the transaction has failed"):
        producer.run(a_run(b"1", b"2"), lambda _: "spool")


def test_a_refused_record_is_at_fault_although_kafka_is_slow_too(
    client: type[Client], producer: TransactionalProducer
) -> None:
    """Were it taken for slowness, it would be the first one of the next transaction too, for ever."""
    client.refuses[b"large"] = _TOO_LARGE
    client.confirms = 1
    producer.open("")
    run = a_run(b"large", *[b"%d" % number for number in range(100)])
    with pytest.raises(Refused) as refused:
        producer.run(run, lambda _: "spool")
    assert [(each.payload, code) for each, (code, _) in refused.value.failures.items()] == [
        (b"large", _TOO_LARGE)
    ]


@pytest.mark.parametrize(("given", "seconds"), [({}, 5), ({"socket.timeout.ms": 60_000}, 60)])
def test_a_record_may_take_as_long_as_the_settings_allow_a_request(
    client: type[Client], given: dict[str, int], seconds: int
) -> None:
    """On a slow line a large record takes longer than 5 s, and is confirmed as a whole."""
    settings = KafkaSettings(bootstrap_servers="k:9092", options=given)
    producer = TransactionalProducer(settings, "id", "group", lambda *_: None)
    client.confirms = 0
    producer.open("")
    began = client.now
    with pytest.raises(Lost, match=f"within {seconds} s"):
        producer.run(a_run(b"1"), lambda _: "spool")
    assert client.now - began == pytest.approx(seconds, abs=2.0)


@pytest.mark.parametrize("milliseconds", [5_000, 60_000, "60000", 300_000])
def test_librdkafka_takes_the_options_of_a_slow_line(milliseconds: int | str) -> None:
    """It refuses a transaction.timeout.ms below socket.timeout.ms, and Kafka one above 15 minutes."""
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1", options={"socket.timeout.ms": milliseconds})
    producer = TransactionalProducer(settings, "id", "group", lambda *_: None)
    producer.batch_size = 1000
    options = producer._options()
    assert options["transaction.timeout.ms"] <= 900_000
    RdProducer(options)


def test_an_opened_producer_ends_the_wait_for_a_producer_id(
    producer: TransactionalProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[bool] = []
    monkeypatch.setattr(library_log, "producer_id_came", lambda: came.append(True))
    producer.open("")
    assert came == [True]
