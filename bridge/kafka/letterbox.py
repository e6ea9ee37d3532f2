"""dead_letters.topic: each dead letter goes there too, so that somebody is told where the others are told.

It has a producer of its own, with a batch for each letter: what it can't take keeps nothing else waiting.
The letter is on disk, so one that can't be produced is only said to be so.
"""

import time
from collections.abc import Sequence

from bridge.deadletter import DeadLetter
from bridge.kafka import faults
from bridge.kafka.options import BATCH_SIZE, producer_options
from bridge.kafka.producer import Producer
from bridge.message import Message
from bridge.observe.events import Event, log
from bridge.routing import Headers, plain_plan
from bridge.settings import KafkaSettings

_OPTIONS: dict[str, str | int] = {
    "client.id": "mqtt-kafka-bridge-dead-letters",
    "batch.num.messages": 1,  # a letter that is too large fails its whole batch
    "message.timeout.ms": 300_000,
    "queue.buffering.max.kbytes": 16_384,
}
_SAY_AGAIN_AFTER = 60.0  # seconds


class Letterbox:
    """`post` may be called from one thread, whichever that is."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        """Raises ConfigurationError when librdkafka refuses an option, BridgeError without a password."""
        self._topic = topic
        self._posted = self._reported = 0
        self._failed = 0  # since it was said last
        self._say_at = 0.0
        options = {**producer_options(settings, BATCH_SIZE), **_OPTIONS}
        self._producer = Producer(options, wake=self._take_reports, on_error=lambda *_: None)

    def post(self, letters: Sequence[DeadLetter]) -> None:
        """Produce them. A message's payload is no longer needed when this returns."""
        self._posted += len(letters)
        for letter in letters:
            if report := self._producer.produce(self._record(letter)):
                self._reported += 1
                self._say(*report[1:])
        self._producer.sleep()

    def close(self) -> None:
        """Waits for nothing: the letters are on disk."""
        left = self._posted - self._reported
        self._producer.close()
        if left:
            log(
                Event.DEADLETTER_NOT_PRODUCED,
                topic=self._topic,
                reason="Kafka had not confirmed them when the bridge was stopped",
                letters=left,
            )

    def _record(self, letter: DeadLetter) -> Message:
        message = letter.message
        record = Message(message.topic, message.flags, 0, None, message.payload)
        record.timestamp = message.timestamp
        record.plan = plain_plan(message.topic, self._topic)
        record.plan.by_flags[message.flags] = headers(letter)
        return record

    def _take_reports(self) -> None:
        """In the producer's thread."""
        while self._producer.delivered:
            self._producer.delivered.popleft()
            self._reported += 1
        while self._producer.failed:
            self._reported += 1
            self._say(*self._producer.failed.popleft()[1:])
        if not self._producer.is_empty:
            self._producer.sleep()

    def _say(self, code: int, text: str) -> None:
        self._failed += 1
        now = time.monotonic()
        if now >= self._say_at:
            self._say_at = now + _SAY_AGAIN_AFTER
            reason = faults.reason(code, text, self._topic)
            log(Event.DEADLETTER_NOT_PRODUCED, topic=self._topic, reason=reason, letters=self._failed)
            self._failed = 0


def headers(letter: DeadLetter) -> Headers:
    """What tells a reader of the topic where the record comes from."""
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
