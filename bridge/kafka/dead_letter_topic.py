"""Produces each dead letter to the Kafka topic dead_letters.topic too, for consumers of that topic.

The topic has its own producer, with one letter in each batch: a letter that the topic can't take delays no
other message. Each letter is on disk already, so the bridge only logs a letter that it can't produce. If the
producer has failed fatally, or a file that it has read was replaced, the next letter gets a new producer.
"""

import time
from collections.abc import Sequence
from threading import Lock
from weakref import ref

from bridge.delivery.dead_letter import DeadLetter
from bridge.delivery.results import Verdict
from bridge.errors import BridgeError, ConfigurationError, NoThread
from bridge.kafka import error_verdicts, tls
from bridge.kafka.options import BATCH_SIZE, producer_options
from bridge.kafka.producer import NoProducer, Producer, taken
from bridge.message import NO_TIMESTAMP, Message
from bridge.observe.events import Event, log
from bridge.routing.plan import Headers, plain_plan
from bridge.settings import KafkaSettings

OPTIONS: dict[str, str | int] = {
    "client.id": "mqtt-kafka-bridge-dead-letters",
    "batch.num.messages": 1,  # Kafka refuses the whole batch of a letter that is too large
    "message.timeout.ms": 300_000,
    "queue.buffering.max.kbytes": 16_384,
}
_SAY_AGAIN_AFTER = 60.0  # seconds


class DeadLetterTopic:
    """The producer for dead_letters.topic. Only one thread may call `post`; any thread will do."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        """Raises ConfigurationError when librdkafka refuses an option."""
        self._settings = settings
        self._files = tls.files(settings)
        self._topic = topic
        self._lock = Lock()  # the thread that posts and the producer's thread both count letters
        self._unreported = 0
        self._failed = 0  # letters, since the last log line
        self._say_at = 0.0
        try:
            self._producer = self._build()
        except ConfigurationError:
            raise
        except BridgeError as error:  # the cluster has logged it: it reads the same files
            self._producer = NoProducer(str(error))

    def post(self, letters: Sequence[DeadLetter]) -> None:
        """Produce the letters. When this returns, nothing here needs the messages' payloads any more."""
        if self._producer.is_broken or tls.stamp(self._files) != self._files_read:
            self._renew()
        for letter in letters:
            self._count(1)
            if report := self._producer.produce(self._record(letter)):
                self._count(-1)
                self._say(*report[1:])
        self._producer.sleep()

    def close(self) -> None:
        """Close at once, without waiting for delivery reports: the letters are on disk."""
        self._leave("Kafka had not confirmed them when the bridge was stopped")

    def _build(self) -> Producer:
        self._files_read = tls.stamp(self._files)
        tls.require_usable(self._settings)
        options = {**producer_options(self._settings, BATCH_SIZE), **OPTIONS}
        producer = Producer(options, wake=lambda: self._take_reports(built()), on_error=lambda *_: None)
        built = ref(producer)  # a strong reference would keep a replaced producer until the collector runs
        return producer

    def _renew(self) -> None:
        try:
            successor = self._build()
        except NoThread as error:  # the next letter tries again; this one is logged when it fails
            if self._producer.is_broken:
                self._leave(str(error))
                self._producer = NoProducer(str(error))
            return
        except BridgeError as error:  # perhaps a half-written file: keep the old producer
            log(Event.KAFKA_FILES_UNUSABLE, reason=str(error))
            return
        self._leave("a new producer was needed before Kafka had confirmed them")
        self._producer = successor

    def _leave(self, reason: str) -> None:
        self._producer.close()
        with self._lock:
            left, self._unreported = self._unreported, 0
        if left:
            log(Event.DEADLETTER_NOT_PRODUCED, topic=self._topic, reason=reason, letters=left)

    def _count(self, letters: int) -> None:
        with self._lock:
            self._unreported = max(0, self._unreported + letters)

    def _record(self, letter: DeadLetter) -> Message:
        message = letter.message
        record = Message.of(message.topic, message.flags, 0, None, message.payload)
        record.timestamp = message.timestamp
        record.plan = plain_plan(message.topic, self._topic)
        record.plan.by_flags[message.flags] = headers(letter)
        return record

    def _take_reports(self, producer: Producer | None) -> None:
        """Take delivery reports and log failures. Runs in the producer's thread."""
        if producer is None:
            return
        self._count(-len(taken(producer.delivered)))
        for record, code, text in taken(producer.failed):
            if record.timestamp != NO_TIMESTAMP and error_verdicts.verdict(code) is Verdict.BAD_TIMESTAMP:
                record.timestamp = NO_TIMESTAMP  # a wrong clock, or a letter that is old
                if (report := producer.produce(record)) is None:
                    continue
                _, code, text = report
            self._count(-1)
            self._say(code, text)
        if not producer.is_empty:
            producer.sleep()

    def _say(self, code: int, text: str) -> None:
        with self._lock:
            self._failed += 1
            now = time.monotonic()
            if now < self._say_at:
                return
            self._say_at = now + _SAY_AGAIN_AFTER
            failed, self._failed = self._failed, 0
        reason = error_verdicts.reason(code, text, self._topic)
        log(Event.DEADLETTER_NOT_PRODUCED, topic=self._topic, reason=reason, letters=failed)


def headers(letter: DeadLetter) -> Headers:
    """Return the headers that tell a reader of the topic where the record comes from."""
    found = {
        "dead-letter.reason": letter.reason,
        "dead-letter.route": letter.route,
        "dead-letter.kafka-topic": letter.kafka_topic,
        "dead-letter.time": f"{time.time_ns() // 1_000_000}",
    }
    return [
        ("mqtt.topic", letter.message.topic),
        *((name, value.encode()) for name, value in found.items() if value),
    ]
