"""The Kafka cluster as the pipeline sees it: produce, reports, questions; and the producer's life."""

import time
from collections import deque
from functools import partial
from typing import TypeVar

from bridge.errors import BridgeError
from bridge.kafka import faults
from bridge.kafka.inquiry import Inquiry
from bridge.kafka.options import BATCH_SIZE, producer_options
from bridge.kafka.producer import Producer
from bridge.loop import Loop
from bridge.message import Message
from bridge.observe.events import Event, log
from bridge.outcome import Answer, Failure, NoAnswer, Verdict
from bridge.settings import KafkaSettings, read_kafka_password

_SAY_AGAIN_AFTER = 60.0  # seconds between two lines about the same error
_SMALLEST_BATCH = 1_000  # bytes
_FIRST_REBUILD, _LAST_REBUILD = 1.0, 30.0  # seconds between two producers, doubled each time
_CALM = 60.0  # seconds without a fatal error, and the next one is answered quickly again

_Report = TypeVar("_Report")

_EVENTS = {
    faults.AUTHENTICATION: Event.KAFKA_AUTHENTICATION_FAILED,
    faults.TLS: Event.KAFKA_TLS_FAILED,
    faults.ALL_BROKERS_DOWN: Event.KAFKA_ALL_BROKERS_DOWN,
    faults.FATAL: Event.KAFKA_FATAL,
}


class Cluster:
    """`answers` fills with what Kafka said about topics, between two turns of the loop."""

    def __init__(self, settings: KafkaSettings, loop: Loop) -> None:
        """Raises ConfigurationError when librdkafka refuses an option, BridgeError without a password."""
        self._settings = settings
        self._loop = loop
        self._batch_size = self._batch_made = BATCH_SIZE
        self._said: dict[int, float] = {}
        self._fatal = False
        self._rebuild_delay = _FIRST_REBUILD
        self._rebuilt_at = time.monotonic()
        self.answers: deque[Answer | NoAnswer] = deque()
        self._asked: set[str] = set()
        self._inquiry = Inquiry(settings, lambda answer: loop.post(partial(self._take_answer, answer)))
        self._retiring: list[Producer] = []  # with records in flight that were handed over before
        self._producer = self._build()

    # -- messages ------------------------------------------------------------------------------------

    def produce(self, message: Message) -> Failure | None:
        """Hand a message over. A failure that is returned was known at once."""
        report = self._producer.produce(message)
        return self._failure(*report) if report else None

    def poll(self) -> None:
        """Take the delivery reports that have come."""
        self._producer.poll()
        for producer in list(self._retiring):
            producer.poll()
            self._producer.delivered.extend(_taken(producer.delivered))
            self._producer.failed.extend(_taken(producer.failed))
            if producer.is_empty:
                self._retiring.remove(producer)
                producer.close()

    @property
    def delivered(self) -> deque[Message]:
        return self._producer.delivered

    def take_failures(self) -> list[Failure]:
        return [self._failure(*report) for report in _taken(self._producer.failed)]

    def _failure(self, message: Message, code: int, text: str) -> Failure:
        verdict = faults.verdict(code)
        if verdict is Verdict.PRODUCER_LOST:
            self._fatal = True
        return Failure(message, verdict, faults.reason(code, text, message.plan.kafka_topic))

    def sleep(self) -> None:
        """The loop is about to sleep: wake it when there is something to report."""
        for producer in (self._producer, *self._retiring):
            producer.sleep()

    # -- topics --------------------------------------------------------------------------------------

    def ask(self, topic: str) -> None:
        """Have the answer to what `topic` takes in `answers`, soon."""
        if topic not in self._asked:
            self._asked.add(topic)
            self._inquiry.ask(topic)

    def _take_answer(self, answer: Answer | NoAnswer) -> None:
        self._asked.discard(answer.topic)
        if isinstance(answer, Answer) and answer.limit is not None:
            # One record too many makes a batch too large, and then all of it fails.
            self._batch_size = max(_SMALLEST_BATCH, min(self._batch_size, answer.limit))
        self.answers.append(answer)

    # -- the producer's life -------------------------------------------------------------------------

    @property
    def wants_smaller_batches(self) -> bool:
        """A topic's limit is below what this producer puts into one batch: `retire` it."""
        return self._batch_size < self._batch_made

    def retire(self) -> None:
        """Build a new producer; what the old one has in flight is still reported."""
        self._retiring.append(self._producer)
        self._producer = self._build()

    @property
    def is_broken(self) -> bool:
        """The producer is fatally wrong, and it is time to `rebuild` it."""
        producers = (self._producer, *self._retiring)
        broken = self._fatal or any(producer.is_broken for producer in producers)
        return broken and time.monotonic() >= self._rebuilt_at + self._rebuild_delay

    def rebuild(self) -> None:
        """Build a new producer. What the old ones have not reported by now, they never will."""
        now = time.monotonic()
        calm = now >= self._rebuilt_at + _CALM
        self._rebuild_delay = _FIRST_REBUILD if calm else min(2 * self._rebuild_delay, _LAST_REBUILD)
        self._rebuilt_at = now
        self._fatal = False
        self.close()
        self._retiring.clear()
        self._producer = self._build()
        log(Event.KAFKA_REBUILT)

    def close(self) -> None:
        for producer in (self._producer, *self._retiring):
            producer.close()

    def _build(self) -> Producer:
        self._batch_made = self._batch_size
        options = producer_options(self._settings, self._batch_size)
        return Producer(
            options,
            wake=lambda: self._loop.post(_nothing),
            on_error=lambda code, text: self._loop.post(partial(self._error, code, text)),
        )

    def _error(self, code: int, text: str) -> None:
        now = time.monotonic()
        if now < self._said.get(code, 0.0):
            return
        self._said[code] = now + _SAY_AGAIN_AFTER
        log(_EVENTS.get(code, Event.KAFKA_ERROR), reason=text)
        if code == faults.AUTHENTICATION:
            self._read_password_again()

    def _read_password_again(self) -> None:
        username = self._settings.sasl_username
        try:
            password = read_kafka_password(self._settings)
        except BridgeError as error:
            log(Event.KAFKA_AUTHENTICATION_FAILED, reason=str(error))
            return
        if username and password:
            self._producer.new_password(username, password)


def _taken(reports: deque[_Report]) -> list[_Report]:
    # The thread that waits may append meanwhile.
    return [reports.popleft() for _ in range(len(reports))]


def _nothing() -> None:
    """Posted only to wake the loop: the reports are in the producer's deques."""
