"""One librdkafka producer: records in, delivery reports out.

librdkafka's threads do network, batching and compression without the interpreter's lock. librdkafka gives
reports only to a thread that calls `poll`. The loop polls. While the loop sleeps, librdkafka itself wakes it
when there is a report (report_bell.py).

Where that can't be had, a small thread does it. Before the loop sleeps, it opens a gate once for the thread.
The thread polls until there is a report, and wakes the loop. If both polled at once, they would pass the
interpreter's lock to and fro for every single report.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from threading import Condition, Semaphore
from typing import Any, TypeVar
from weakref import ref

from confluent_kafka import KafkaException
from confluent_kafka import Producer as RdProducer
from confluent_kafka.admin import ClusterMetadata  # type: ignore[attr-defined]

from bridge.kafka import error_verdicts, report_bell
from bridge.kafka.options import not_built
from bridge.loop import require_threads, start_thread
from bridge.message import Message

_ANY_PARTITION = -1  # RD_KAFKA_PARTITION_UA: the partitioner decides
_QUEUE_FULL = -184  # _QUEUE_FULL and _FATAL of rdkafka.h
_FATAL = -150
_THREADS = 8  # librdkafka's own two, one for each bootstrap broker, one of ours, and some to spare
_STATISTICS_EVERY = 60_000  # ms; docs/decisions/0019-which-brokers-are-up.md has the cost
_WAIT = 1.0  # seconds; the longest single poll of the thread, which polls again when nothing has come
_ANSWER = 5.0  # seconds for Kafka's answer after the clock was set back

FailedReport = tuple[Message, int, str]  # the error's code and librdkafka's text

_Report = TypeVar("_Report")


class Producer:
    """One librdkafka client.

    `delivered`, `failed`: the reports that have come. `is_broken`: after a fatal error or a close the
    producer delivers and reports nothing more.

    `on_statistics` gets librdkafka's statistics as JSON, in the thread that polls.

    `bell`: the loop's eventfd, for librdkafka to ring. `rings`: it does; else the small thread waits.

    The small thread calls `wake`. The thread that polls calls `on_error`, with code and text of an error that
    is not of one message.
    """

    def __init__(
        self,
        options: dict[str, Any],
        wake: Callable[[], None],
        on_error: Callable[[int, str], None],
        on_statistics: Callable[[str], None] | None = None,
        bell: int | None = None,
    ) -> None:
        """Raises ConfigurationError when librdkafka refuses an option, BridgeError when it can't use a file,
        NoThread without room for threads.
        """
        self.delivered: list[Message] = []
        self.failed: list[FailedReport] = []
        self.is_broken = False
        self._wake = wake
        self._on_error = on_error
        self._gate = Semaphore(0)
        self._waits = False  # the gate is open
        self._closed = False
        self._questions = 0  # threads that wait for metadata: closing the client now would free it in use
        self._no_question = Condition()
        self._steps_back = 0  # how often the clock was set back
        me = ref(self)  # librdkafka's client keeps its callback, so a strong reference would be a cycle
        require_threads(_THREADS)
        start_thread(self._wait_for_reports, "reports")
        callbacks: dict[str, Any] = {"error_cb": partial(_note_error, me)}
        if on_statistics:
            callbacks |= {"stats_cb": on_statistics, "statistics.interval.ms": _STATISTICS_EVERY}
        try:
            self._rd = RdProducer({**callbacks, **options})
        except KafkaException as error:
            self._closed = True
            self._gate.release()
            raise not_built(error) from None
        self.rings = bell is not None and report_bell.hang_up(self._rd, bell)

    def produce(self, message: Message) -> FailedReport | None:
        """Hand a message to librdkafka. Returns the report where the message has failed at once."""
        reports: list[FailedReport] = []
        self.produce_all((message,), reports.append)
        return reports[0] if reports else None

    def produce_all(self, messages: Iterable[Message], failed: Callable[[FailedReport], None]) -> None:
        """Hand messages to librdkafka. `failed` gets a report that comes at once, before the next message."""
        produce = self._rd.produce
        for message in messages:
            plan = message.plan
            report: Callable[[Any, object], None] = message
            if message.producer is None:
                message.producer = self
            elif message.producer is not self:
                # Another producer had the message first and may still report it to `message.producer`. So
                # this producer needs a callback of its own.
                report = partial(_report, self, message)
            headers = plan.by_flags[message.flags] if message.properties is None else None
            try:
                produce(
                    plan.kafka_topic,
                    message.payload if plan.raw else plan.value(message),
                    plan.key,
                    _ANY_PARTITION,
                    report,
                    None,  # on_delivery, an alias of `report`; named arguments cost a tenth of the call
                    message.timestamp,
                    headers or plan.headers(message),
                )
            except BufferError as full:
                failed((message, _QUEUE_FULL, str(full)))
            except RuntimeError as closed:
                failed((message, _FATAL, str(closed)))
            except KafkaException as refused:  # librdkafka knows already that the topic or the client fails
                error = refused.args[0]
                failed((message, error.code(), error.str()))
            except MemoryError as error:
                failed((message, _QUEUE_FULL, str(error)))
            except Exception as defect:  # else the same message would end the bridge again after each start
                failed((message, error_verdicts.DEFECT, repr(defect)))

    def poll(self, seconds: float = 0.0) -> int:
        """Append the reports that have come to `delivered` and `failed`. Returns the number of events.

        librdkafka raises a fatal error here, and does not call error_cb.
        """
        try:
            return self._rd.poll(seconds)
        except (KafkaException, SystemError) as fatal:
            self.is_broken = True
            self._on_error(_FATAL, str(fatal))
            return 1
        except RuntimeError:  # closed meanwhile: librdkafka reports nothing more
            self.is_broken = True
            return 1

    def sleep(self) -> None:
        """The loop is about to sleep: make sure that it is woken when there is a report."""
        if not self._waits and not self.rings:
            self._waits = True
            self._gate.release()

    def new_password(self, username: str, password: str) -> None:
        """Use this user name and password for the next log-in."""
        with suppress(KafkaException, RuntimeError):  # closed, or the library refuses it: it stays locked out
            self._rd.set_sasl_credentials(username, password)

    def metadata(self, topic: str | None, seconds: float) -> ClusterMetadata:
        """Ask the cluster for its brokers and this topic; None: for all topics. Blocks; any thread.

        Raises KafkaException where no broker answers in time, RuntimeError when the producer is closed.
        """
        # No question waits for another one: where the clock was set back, one that began before may wait for
        # as long, and only a further question ends that wait.
        with self._no_question:
            if self._closed:
                raise RuntimeError("closed")
            self._questions += 1
        try:
            found: ClusterMetadata = self._rd.list_topics(topic, seconds)
            return found
        finally:
            with self._no_question:
                self._questions -= 1
                self._no_question.notify_all()

    def end_waits(self) -> None:
        """The clock was set back: let librdkafka's threads look at the clock again. Raises NoThread.

        librdkafka waits for times of the wall clock (C11's cnd_timedwait). Where the clock was set back by an
        hour, each such wait lasts an hour longer: no reconnect, no new leader, no timer. An answer about
        metadata ends all of them. A thread asks until Kafka answers, because Kafka may be away now.
        """
        self._steps_back += 1
        start_thread(partial(self._ask_until_answered, self._steps_back), "clock")

    def _ask_until_answered(self, step: int) -> None:
        while not self._has_answer() and step == self._steps_back:  # the thread of a later step goes on
            time.sleep(_WAIT)

    def _has_answer(self) -> bool:
        """Whether Kafka has answered, or the producer was closed. Takes up to _ANSWER seconds."""
        try:
            self.metadata(None, _ANSWER)
        except KafkaException:
            return False
        except RuntimeError:
            return True
        return True

    def close(self) -> None:
        """Drop the undelivered messages and close. The thread that waits for reports closes the client.

        It needs no thread of its own, so a producer can also be closed where no thread can be started.
        """
        if self._closed:
            return
        self._closed = True
        if self.rings:  # else the thread that waits may free the client meanwhile
            report_bell.take_down(self._rd)  # or librdkafka could write to what gets the bell's number next
        with suppress(KafkaException, RuntimeError):  # after a fatal error even this raises
            self._rd.purge(blocking=False)
        self._gate.release()

    def _close(self) -> None:
        with self._no_question:
            self._no_question.wait_for(lambda: not self._questions)
        # AttributeError: the client could not be built; the others: a fatal error.
        with suppress(AttributeError, KafkaException, RuntimeError):
            self._rd.purge()
            self._rd.close()

    def note_error(self, code: int, text: str) -> None:
        """librdkafka has an error that is not of one message."""
        if error_verdicts.is_without_brokers(code, text):
            self.is_broken = True
        self._on_error(code, text)

    @property
    def queued(self) -> int:
        """How many messages librdkafka holds."""
        return 0 if self._closed else len(self._rd)

    @property
    def is_empty(self) -> bool:
        """librdkafka has reported every message, and the reports were taken."""
        return not len(self._rd) and not self.delivered and not self.failed

    def _wait_for_reports(self) -> None:
        while True:
            self._gate.acquire()
            while not self._closed and not self.poll(_WAIT):
                pass
            if self._closed:
                self._close()
                return
            self._waits = False
            self._wake()


def _report(producer: Producer, message: Message, error: Any, _record: object) -> None:
    """The delivery callback for a message that another producer had first."""
    if error is None:
        producer.delivered.append(message)
    else:
        producer.failed.append((message, error.code(), error.str()))


def _note_error(of: Callable[[], Producer | None], error: Any) -> None:
    if producer := of():
        producer.note_error(error.code(), error.str())


def taken(reports: list[_Report]) -> list[_Report]:
    """Remove and return the present reports of a list. The producer's thread may append meanwhile."""
    found = reports[:]
    del reports[: len(found)]
    return found


class NoProducer(Producer):
    """Replaces a producer that could not be built: each message fails at once, for the reason `why`."""

    is_empty = True
    rings = False
    queued = 0

    def __init__(self, why: str) -> None:
        self._why = why
        self.delivered = []
        self.failed = []
        self.is_broken = True

    def produce_all(self, messages: Iterable[Message], failed: Callable[[FailedReport], None]) -> None:
        for message in messages:
            failed((message, _FATAL, self._why))

    def poll(self, seconds: float = 0.0) -> int:  # noqa: ARG002
        return 0

    def sleep(self) -> None: ...
    def end_waits(self) -> None: ...
    def close(self) -> None: ...
