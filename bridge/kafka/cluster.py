"""The Kafka cluster as the pipeline sees it: produce, reports, questions; and the producer's life."""

import time
from collections import deque
from functools import partial

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
_SMALLEST_BATCH = 1_000

_EVENTS = {
    faults.AUTHENTICATION: Event.KAFKA_AUTHENTICATION_FAILED,
    faults.TLS: Event.KAFKA_TLS_FAILED,
    faults.ALL_BROKERS_DOWN: Event.KAFKA_ALL_BROKERS_DOWN,
}


class Cluster:
    """`answers` fills with what Kafka said about topics, between two turns of the loop.

    `is_broken`: the producer is fatally wrong; `renew` builds another. `wants_renewal`: a topic takes
    only smaller batches than this producer makes; `renew` when nothing is in flight.
    """

    def __init__(self, settings: KafkaSettings, loop: Loop) -> None:
        """Raises ConfigurationError when librdkafka refuses an option, BridgeError without a password."""
        self._settings = settings
        self._loop = loop
        self._batch_size = self._batch_made = BATCH_SIZE
        self._said: dict[int, float] = {}
        self.is_broken = False
        self.answers: deque[Answer | NoAnswer] = deque()
        self._inquiry = Inquiry(settings, lambda answer: loop.post(partial(self._take_answer, answer)))
        self._producer = self._build()

    # -- messages ------------------------------------------------------------------------------------

    def produce(self, message: Message) -> None:
        """Raises QueueFull or TooLarge."""
        self._producer.produce(message)

    def poll(self) -> None:
        self._producer.poll()

    @property
    def delivered(self) -> deque[Message]:
        return self._producer.delivered

    def take_failures(self) -> list[Failure]:
        failed = self._producer.failed
        return [self._failure(*failed.popleft()) for _ in range(len(failed))]

    def _failure(self, message: Message, code: int, text: str) -> Failure:
        verdict = faults.verdict(code)
        if verdict is Verdict.PRODUCER_LOST:
            self.is_broken = True
        return Failure(message, verdict, faults.reason(code, text, message.plan.kafka_topic))

    def sleep(self) -> None:
        self._producer.sleep()

    # -- topics --------------------------------------------------------------------------------------

    def ask(self, topic: str) -> None:
        self._inquiry.ask(topic)

    def _take_answer(self, answer: Answer | NoAnswer) -> None:
        if isinstance(answer, Answer) and answer.limit is not None:
            # One record too many makes a batch too large, and then all of it fails.
            self._batch_size = max(_SMALLEST_BATCH, min(self._batch_size, answer.limit))
        self.answers.append(answer)

    # -- the producer's life -------------------------------------------------------------------------

    @property
    def wants_renewal(self) -> bool:
        return self._batch_size < self._batch_made

    def renew(self) -> None:
        """Build a new producer. What the old one has not reported by now, it never will."""
        fatal, self.is_broken = self.is_broken, False
        self._producer.close()
        self._producer = self._build()
        if fatal:
            log(Event.KAFKA_REBUILT)

    def close(self) -> None:
        self._producer.close()

    def _build(self) -> Producer:
        self._batch_made = self._batch_size
        options = producer_options(self._settings, self._batch_size)
        producer: Producer

        def on_error(code: int, text: str) -> None:
            self._loop.post(lambda: self._error(producer, code, text))

        producer = Producer(options, wake=lambda: self._loop.post(_nothing), on_error=on_error)
        return producer

    def _error(self, producer: Producer, code: int, text: str) -> None:
        if producer is not self._producer:
            return
        if code == faults.FATAL:
            self.is_broken = True
            log(Event.KAFKA_FATAL, reason=text)
            return
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


def _nothing() -> None:
    """Posted only to wake the loop: the reports are in the producer's deques."""
