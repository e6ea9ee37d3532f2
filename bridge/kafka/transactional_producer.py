"""One librdkafka producer with a transactional id: opens, runs transactions, closes. All calls block.

What librdkafka 2.16 does, which this file rests on:

* `init_transactions` fences every other producer of the id, and returns once their transactions are ended and
  the markers are written. Only a producer that was opened may read the number (transactions.py).
* A record that Kafka refuses has a delivery report with the error's code. A topic that may not be written
  fails in AddPartitionsToTxn: librdkafka then purges the whole transaction, and only its log names the topic.
* librdkafka itself sends TxnOffsetCommit and EndTxn again, after `retry.backoff.ms` less 20 %. If both calls
  together take less than that, each was sent once. Else one may come again, in the next transaction: EndTxn
  would end that one, and the offset would replace its number by an older one.
* `send_offsets_to_transaction` may never return, whatever its timeout: seen when the coordinator was killed.
* `commit_transaction` may raise although Kafka has committed. No error of it says that Kafka has not.
* confluent_kafka 2.16 never frees a fatal exception of `send_offsets_to_transaction`, and so not the frames
  in its traceback: the producer that was fenced there would stay, with six threads. So only the exception's
  type and text are kept.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Producer as RdProducer
from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]

from bridge.delivery.intent import Number, from_metadata, to_metadata
from bridge.delivery.results import Verdict
from bridge.errors import without_frames
from bridge.kafka import error_verdicts, library_log, tls
from bridge.kafka.options import not_built, producer_options
from bridge.kafka.topic_lookup import admin_options
from bridge.kafka.transactions import Run
from bridge.loop import require_threads, start_thread
from bridge.message import Message
from bridge.settings import KafkaSettings

# Seconds, at least; so long a killed bridge's transaction holds up read_committed readers.
TRANSACTION_TIMEOUT = 20.0
RESEND_AFTER = 2.0  # seconds, retry.backoff.ms: librdkafka sends a request again after that, less 20 %
PROMPT = 0.75 * RESEND_AFTER  # seconds; a commit that takes less was sent once
_LONGEST_TIMEOUT = 900.0  # seconds; Kafka refuses more (transaction.max.timeout.ms)
# Seconds, where a request may take 5 s (socket.timeout.ms); where it may take longer, all are longer.
_REQUEST = 5.0
_FLUSH, _FLUSH_HURRY = 5.0, 2.0  # without a confirmation of a transaction's records
_FLUSH_MOST = 10.0  # for all of them
_OTHER_FAILURES = 0.5  # seconds after the first failure, for others of the same transaction
_INTENT = 5.0  # seconds for the disk
_ANSWER = 5.0  # seconds for Kafka to take the offset, to commit, and to tell the number
_ASKED_AT_ONCE = 1000  # topics; a busy coordinator took 4.4 s to tell the offsets of 10,000
_GRACE = 4.0  # seconds beyond a call's own time-out, until the call is held for stuck
_POLL = 0.1
_LINGER = 100  # ms
_PARTITION = 0  # of the topic whose offset has the number
_THREADS = 16  # those of a producer and of a consumer
_PURGED = (-151, -152)  # _PURGE_QUEUE, _PURGE_INFLIGHT
_FENCED = (-144, 47, 90)  # _FENCED, INVALID_PRODUCER_EPOCH, PRODUCER_FENCED
_TIMED_OUT = -192  # _MSG_TIMED_OUT
_FORBIDDEN = 29  # TOPIC_AUTHORIZATION_FAILED
_NOT_SHOWN = (_FORBIDDEN, *error_verdicts.NO_TOPIC)

Failures = dict[Message, tuple[int, str]]  # the error's code and librdkafka's text


_NEVER = float("inf")


class Lost(Exception):
    """The producer is of no more use. `may_have_committed`: the commit was tried.

    `is_fenced`: another producer has the id. `may_be_late`: or Kafka itself has ended a transaction that was
    open for too long, for example because a request of it came late. `is_slow`: Kafka confirmed its records,
    but not all in time, or the disk did not take the intent: the next transaction must be smaller.
    """

    def __init__(
        self,
        reason: str,
        *,
        may_have_committed: bool = False,
        is_fenced: bool = False,
        may_be_late: bool = False,
        is_slow: bool = False,
        code: int = 0,
    ) -> None:
        self.is_slow = is_slow
        self.reason = reason
        self.may_be_late = may_be_late
        self.may_have_committed = may_have_committed
        self.is_fenced = is_fenced
        self.code = code
        super().__init__(reason)


class Refused(Exception):
    """Kafka can't take some of the transaction's messages. It has committed nothing."""

    def __init__(self, failures: Failures) -> None:
        self.failures = failures
        super().__init__(f"{len(failures)} messages")


@dataclass(frozen=True, slots=True)
class Found:
    """The numbers in Kafka, by spool. `topics`: the topic whose offset has a spool's number.

    `hides`: Kafka does not show the offset of the topic that the last intent names.
    """

    numbers: dict[str, Number]
    topics: dict[str, str]
    hides: bool = False


class TransactionalProducer:
    """`open` first. After Lost or Refused the producer is closed, and `open` builds the next one."""

    def __init__(
        self,
        settings: KafkaSettings,
        transactional_id: str,
        group: str,
        on_error: Callable[[int, str], None],
    ) -> None:
        self._settings = settings
        self._id = transactional_id
        self._group = group
        self._on_error = on_error
        self._pace = _pace(settings)
        self._rd: RdProducer | None = None
        self._group_metadata: Any = None
        self._others: Mapping[str, Number] = {}
        self._forbidden: dict[str, str] = {}  # topics that librdkafka's log names, each with the reason
        self._why = ""  # the transaction failed, by librdkafka's log
        self._log = library_log.of_transactions(self._note_line)
        self._began = 0.0
        self._ended = 0.0  # when the last transaction of this producer ended, or the producer was opened
        self.batch_size = 0  # bytes; what the next producer gets
        self.is_closing = False  # the bridge stops, or has another one: `open` and `run` give up
        self.is_outdated = False  # a file that librdkafka has read was replaced: `open` builds another client
        self._stuck_at = _NEVER

    def open(self, offset_topic: str) -> Found:
        """Build a producer, fence all others, and read the numbers. Tries until Kafka answers.

        `offset_topic`: the number is read there, whichever topics Kafka shows besides.

        Raises Lost, BridgeError where a file can't be used or librdkafka refuses an option.
        """
        rd = self._built()
        while True:
            try:
                self._call_takes(1.0)
                rd.init_transactions(1.0)
                break
            except KafkaException as error:
                with suppress(KafkaException):
                    rd.poll(0)  # calls error_cb
                if self.is_closing or not error.args[0].retriable():
                    raise self._lost(error) from None
            if self.is_outdated:  # perhaps the old file is why Kafka does not answer
                rd = self._built()
        self._call_takes(2 * _ANSWER)
        consumer = self._consumer()
        try:
            self._group_metadata = consumer.consumer_group_metadata()
            found = self._numbers(consumer, offset_topic)
        finally:
            consumer.close()
        library_log.producer_id_came()
        self._others = found.numbers
        self._stuck_at, self._ended = _NEVER, time.monotonic()
        return found

    def run(self, run: Run, intended: Callable[[float], str]) -> float:
        """Run a transaction. Returns how long its offset and commit took, in seconds. Raises Lost or Refused.

        `intended` waits for the intent for so many seconds, and returns the name of the spool that has it. It
        raises Lost where the intent can't be written.
        """
        rd = self._rd
        if rd is None:
            raise Lost("the producer is closed")
        self._forbidden.clear()
        self._why = ""
        self._began = time.monotonic()
        try:
            self._call_takes(_FLUSH * self._pace + 1.0)
            rd.begin_transaction()
            if run.messages:
                self._produce(rd, run)
            self._call_takes(_INTENT)
            spool = intended(_INTENT)
            number = Number(run.number, run.intent.run)
            offset = TopicPartition(
                run.offset_topic, _PARTITION, run.number, to_metadata(spool, number, self._others)
            )
            self._call_takes(_ANSWER)
            began = time.monotonic()
            rd.send_offsets_to_transaction([offset], self._group_metadata, _ANSWER)
        except KafkaException as error:
            raise self._lost(error) from None
        except (Lost, Refused):
            self.close()
            raise
        if self.is_closing:  # it was held for stuck, and another producer has been opened
            self.close()
            raise Lost("the bridge has given up this transaction")
        self._call_takes(_ANSWER)
        try:
            rd.commit_transaction(_ANSWER)
        except KafkaException as error:
            raise self._lost(error, may_have_committed=True) from None
        self._stuck_at, self._ended = _NEVER, time.monotonic()
        self._others = {**self._others, spool: number}  # the next one may be of a spool that was begun anew
        return self._ended - began

    @property
    def is_stuck(self) -> bool:
        """A call of librdkafka has not returned long after its time-out. Any thread may ask."""
        return time.monotonic() >= self._stuck_at

    def close(self) -> None:
        """Throw the producer away. The client's own close() would abort the transaction, and wait.

        Its records are taken from it first: a client that still had some was seen to end the process.
        """
        rd, self._rd = self._rd, None
        self._stuck_at = _NEVER
        for take in (rd.purge, partial(rd.flush, _POLL)) if rd and len(rd) else ():
            with suppress(KafkaException, RuntimeError, SystemError):
                take()

    def metadata(self, topic: str | None, seconds: float) -> ClusterMetadata:
        """Ask the cluster for its brokers and this topic; None: for all topics. Blocks; any thread.

        Raises KafkaException where no broker answers in time, RuntimeError where there is no producer.
        """
        if rd := self._rd:
            found: ClusterMetadata = rd.list_topics(topic, seconds)
            return found
        raise RuntimeError("closed")

    @property
    def queued(self) -> int:
        """How many messages librdkafka holds."""
        rd = self._rd
        return len(rd) if rd else 0

    def new_password(self, username: str, password: str) -> None:
        if rd := self._rd:
            with suppress(KafkaException, RuntimeError):
                rd.set_sasl_credentials(username, password)

    def end_waits(self) -> None:
        """The clock was set back: let librdkafka's threads look at the clock again. Raises NoThread."""

        def ask() -> None:
            with suppress(KafkaException, RuntimeError):
                self.metadata(None, _ANSWER)

        start_thread(ask, "clock")

    # ------------------------------------------------------------------------------------------------

    def _built(self) -> RdProducer:
        """A new client instead of the present one. librdkafka reads files once, when it is built."""
        self.close()
        self.is_outdated = False  # before the files are read
        tls.require_usable(self._settings)
        require_threads(_THREADS)
        try:
            self._rd = RdProducer(self._options())
        except KafkaException as error:
            raise not_built(error) from None
        return self._rd

    def _call_takes(self, seconds: float) -> None:
        """The next call may take so long."""
        self._stuck_at = time.monotonic() + seconds + _GRACE

    @property
    def _transaction_timeout(self) -> float:
        """librdkafka refuses one that is shorter than socket.timeout.ms."""
        return min(TRANSACTION_TIMEOUT * self._pace, _LONGEST_TIMEOUT)

    def _options(self) -> dict[str, Any]:
        return producer_options(self._settings, self.batch_size) | {
            "transactional.id": self._id,
            "transaction.timeout.ms": round(self._transaction_timeout * 1000),
            "message.timeout.ms": round(self._transaction_timeout * 1000),  # librdkafka wants no more
            "retry.backoff.ms": round(RESEND_AFTER * 1000),
            "retry.backoff.max.ms": round(RESEND_AFTER * 1000),
            "delivery.report.only.error": True,
            # All records of a transaction are produced at once, and then `flush` waits for no more.
            "linger.ms": _LINGER,
            "error_cb": lambda error: self._on_error(error.code(), error.str()),
            "logger": self._log,
        }

    def _produce(self, rd: RdProducer, run: Run) -> None:
        """Produce the records, and wait until Kafka has them. Raises Lost or Refused."""
        failures: Failures = {}
        broken: KafkaError | None = None
        produce = rd.produce
        for message in run.messages:
            plan = message.plan
            headers = plan.by_flags[message.flags] if message.properties is None else None
            try:
                produce(
                    plan.kafka_topic,
                    message.payload if plan.raw else plan.value(message),
                    plan.key,
                    -1,
                    partial(_note, failures, message),
                    None,
                    message.timestamp,
                    headers or plan.headers(message),
                )
            except KafkaException as refused:
                error = without_frames(refused).args[0]
                if error.fatal() or error.code() in (error_verdicts.FATAL, KafkaError._STATE):
                    broken = error  # the reports may say why
                    break
                failures[message] = error.code(), error.str()
            except (BufferError, MemoryError) as error:
                raise Lost(str(error)) from None
            except Exception as defect:  # else the same message would end the bridge again after each start
                failures[message] = error_verdicts.DEFECT, repr(defect)
        patience = self._pace * (_FLUSH_HURRY if run.hurries else _FLUSH)
        most = self._pace * _FLUSH_MOST
        until = time.monotonic() + patience
        before = len(run.messages)
        moved_at = 0.0
        while (waiting := rd.flush(_POLL)) and (now := time.monotonic()) < until:
            self._call_takes(1.0)
            if failures:
                until = min(until, now + _OTHER_FAILURES)
            elif waiting < before:  # the way may be slow
                before, moved_at = waiting, now
                until = min(now + patience, self._began + most)
        is_late = len(rd) > 0
        is_slow = not failures and moved_at > time.monotonic() - patience
        if is_late:
            self._why = self._why or f"Kafka has not confirmed all records within {patience:.0f} s"
            with suppress(KafkaException):
                rd.purge()
            rd.flush(1.0)
            if is_slow and not self._forbidden:
                raise Lost(f"Kafka has not confirmed all records within {most:.0f} s", is_slow=True)
        if failures or is_late or self._forbidden:
            self._judge(run, failures)
        if broken:  # whatever librdkafka says of the transaction, it lacks messages
            raise self._lost_by(broken.code(), broken.str())

    def _judge(self, run: Run, failures: Failures) -> None:
        """Some record was not taken: whose fault is it? Raises Lost or Refused."""
        at_fault = {
            message: why
            for message, why in failures.items()
            if why[0] not in _PURGED and error_verdicts.verdict(why[0]) is not Verdict.PRODUCER_LOST
        }
        for message in run.messages:
            if (topic := message.plan.kafka_topic) in self._forbidden:
                at_fault[message] = _FORBIDDEN, self._forbidden[topic]
        if at_fault:
            raise Refused(at_fault)
        if error := _fatal(failures):
            raise self._lost_by(*error)
        late = {message.plan.kafka_topic for message in failures}
        if late == {message.plan.kafka_topic for message in run.messages}:
            raise self._lost_by(KafkaError._TIMED_OUT, self._why)
        why = f"Kafka has not confirmed it within {self._pace * _FLUSH:.0f} s"
        raise Refused(
            {message: (_TIMED_OUT, why) for message in run.messages if message.plan.kafka_topic in late}
        )

    def _lost(self, exception: KafkaException, *, may_have_committed: bool = False) -> Lost:
        error = without_frames(exception).args[0]
        return self._lost_by(error.code(), error.str(), may_have_committed=may_have_committed)

    def _lost_by(self, code: int, text: str, *, may_have_committed: bool = False) -> Lost:
        self.close()
        return Lost(
            error_verdicts.plain(text),
            may_have_committed=may_have_committed,
            is_fenced=code in _FENCED or "fenced" in text.lower(),
            may_be_late=time.monotonic() - self._ended >= self._transaction_timeout,
            code=code,
        )

    def _note_line(self, line: str) -> None:
        if found := error_verdicts.not_added(line):
            self._forbidden[found[0]] = found[1]
        self._why = self._why or error_verdicts.why_failed(line)

    def _numbers(self, consumer: Consumer, offset_topic: str) -> Found:
        """Read the numbers of all spools. Raises Lost where Kafka does not tell them for certain."""
        try:
            topics = {*consumer.list_topics(timeout=_ANSWER).topics, offset_topic} - {""}
            asked = [TopicPartition(topic, _PARTITION) for topic in topics]
            offsets: list[TopicPartition] = []
            for first in range(0, len(asked), _ASKED_AT_ONCE):
                self._call_takes(_ANSWER)
                offsets += consumer.committed(asked[first : first + _ASKED_AT_ONCE], timeout=_ANSWER)
        except KafkaException as error:
            message = consumer.poll(0.1)  # a missing right on the group is told here alone
            cause = message.error() if message else None
            raise self._lost(KafkaException(cause) if cause else error) from None
        hides = False
        for each in offsets:
            if each.error and each.topic == offset_topic and each.error.code() in _NOT_SHOWN:
                hides = True  # its rights were taken away, or it is gone: other topics must go on
            elif each.error:
                raise self._lost_by(each.error.code(), each.error.str())
        texts = {each.topic: each.metadata or "" for each in offsets if each.offset >= 0 and not each.error}
        found = from_metadata(texts.values())
        where = {
            spool: topic
            for topic, text in texts.items()
            for spool, number in from_metadata([text]).items()
            if number == found[spool]
        }
        return Found(found, where, hides)

    def _consumer(self) -> Consumer:
        """A client that asks for the group's offsets, and never joins the group.

        An admin client would not do: where the group's coordinator has moved, or an offset waits for the end
        of its transaction, librdkafka 2.16 then ends the process (rd_kafka_handle_OffsetFetch).
        """
        options = admin_options(self._settings) | {
            "group.id": self._group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",  # wait for the end of the transactions with its offsets
            "logger": library_log.silent("number"),
        }
        try:
            return Consumer(options)
        except KafkaException as error:
            raise not_built(error) from None


def _pace(settings: KafkaSettings) -> float:
    """How many times as long as usual a request may take: on a slow line, settings allow more."""
    with suppress(ValueError):
        return max(1.0, float(settings.client_options().get("socket.timeout.ms", 0)) / 1000 / _REQUEST)
    return 1.0  # librdkafka refuses the setting


def _note(failures: Failures, message: Message, error: Any, _record: object) -> None:
    if error is not None:
        failures[message] = error.code(), error.str()


def _fatal(failures: Failures) -> tuple[int, str] | None:
    return next((why for why in failures.values() if why[0] not in _PURGED), None)
