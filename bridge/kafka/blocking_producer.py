"""A producer whose caller waits for each delivery report: for the replay of dead letters."""

import time
from collections.abc import Sequence
from threading import Event as Signal

from confluent_kafka import KafkaException

from bridge.delivery.results import NoTopicAnswer, Verdict
from bridge.kafka import error_verdicts, library_log
from bridge.kafka.client_errors import ClientErrors
from bridge.kafka.options import BATCH_SIZE, producer_options
from bridge.kafka.producer import FailedReport, Producer, taken
from bridge.kafka.topic_lookup import look_up, new_admin
from bridge.message import NO_TIMESTAMP, Message
from bridge.settings import KafkaSettings

_TIMEOUT = 30.0  # seconds without a delivery report; librdkafka leaves a hanging leader well before
_POLL = 0.5  # seconds
# One record of a batch can cause these verdicts for all records of the batch.
_ONE_OF_ITS_BATCH = (Verdict.TOO_LARGE, Verdict.INVALID, Verdict.BAD_TIMESTAMP)


class BlockingProducer:
    """Produces messages and waits for their delivery reports.

    `is_stuck`: Kafka no longer confirms messages; the last messages may or may not be in Kafka.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        """Raises ConfigurationError when librdkafka refuses an option, BridgeError where a file can't be read
        or no thread can be started.
        """
        self._topics: dict[str, str] = {}
        self._reported = Signal()
        self._trouble = ""  # librdkafka's last error
        self.is_stuck = False
        logger = library_log.silent("replay")
        self._producer = Producer(
            producer_options(settings, BATCH_SIZE) | {"logger": logger},
            wake=self._reported.set,
            on_error=self._note,
        )
        self._errors = ClientErrors(settings)
        self._admin = new_admin(settings, error_cb=self._errors.note, logger=logger)

    def deliver(self, messages: Sequence[Message]) -> list[str]:
        """Produce the messages. Returns for each message why Kafka does not hold it.

        An empty reason: Kafka holds the message on all in-sync replicas. When Kafka refuses a batch for one
        record, each message of the batch is produced again alone. A message whose timestamp the topic refuses
        is produced without a timestamp.
        """
        reasons = {message: self._why_not(message.plan.kafka_topic) for message in messages}
        todo = [message for message in messages if not reasons[message]]
        for message, code, reason in self._attempt(todo):
            if error_verdicts.verdict(code) in _ONE_OF_ITS_BATCH and not self.is_stuck:
                reason = self._alone(message, code)
            reasons[message] = reason
        return [reasons[message] for message in messages]

    def close(self) -> None:
        self._producer.close()

    def _why_not(self, topic: str) -> str:
        """Return why nothing can be produced to the topic; empty: no reason is known beforehand."""
        if self.is_stuck:
            return "not tried"
        if topic not in self._topics:
            self._topics[topic] = self._asked(topic)
        return self._topics[topic]

    def _asked(self, topic: str) -> str:
        try:
            answer = look_up(self._admin, topic)
        except KafkaException as error:
            self.is_stuck = True  # Kafka would not answer about another topic either
            while self._admin.poll(0):  # calls error_cb
                pass
            answer = NoTopicAnswer(topic, self._errors.why(error.args[0]))
        if isinstance(answer, NoTopicAnswer):
            return f"Kafka does not answer about the topic {topic}: {answer.reason}"
        return "" if answer.exists else f"the topic {topic} does not exist; create it: {answer.way_out}"

    def _alone(self, message: Message, code: int) -> str:
        if error_verdicts.verdict(code) is Verdict.BAD_TIMESTAMP:
            message.timestamp = NO_TIMESTAMP
        for _, again, reason in self._attempt([message]):
            if error_verdicts.verdict(again) is Verdict.BAD_TIMESTAMP and message.timestamp != NO_TIMESTAMP:
                return self._alone(message, again)
            return reason
        return ""

    def _attempt(self, messages: Sequence[Message]) -> list[tuple[Message, int, str]]:
        """Produce the messages once. Returns those that were not delivered, with error code and reason."""
        producer = self._producer
        unknown = dict.fromkeys(messages)
        failed: list[FailedReport] = []
        producer.produce_all(messages, failed.append)
        deadline = time.monotonic() + _TIMEOUT
        while len(unknown) > len(failed) and not producer.is_broken and time.monotonic() < deadline:
            self._reported.clear()
            producer.sleep()
            if not producer.delivered and not producer.failed:
                self._reported.wait(_POLL)
            for message in taken(producer.delivered):
                del unknown[message]
                deadline = time.monotonic() + _TIMEOUT
            failed += taken(producer.failed)
        found = []
        for message, code, text in failed:
            del unknown[message]
            found.append((message, code, error_verdicts.reason(code, text, message.plan.kafka_topic)))
        if unknown:
            self.is_stuck = True
            trouble = f" ({self._trouble})" if self._trouble else ""
            why = f"Kafka has not confirmed the message{trouble}, but may have stored it"
            found += [(message, 0, why) for message in unknown]
        return found

    def _note(self, _code: int, text: str) -> None:
        self._trouble = error_verdicts.plain(text)
