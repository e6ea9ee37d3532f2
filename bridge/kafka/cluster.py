"""The Kafka cluster as the pipeline sees it: produce, reports, questions; and the producer's life."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from bridge.delivery.results import Failure, NoTopicAnswer, TopicAnswer, Verdict
from bridge.errors import BridgeError, ConfigurationError, NoThread
from bridge.kafka import error_verdicts, listeners, tls
from bridge.kafka.options import BATCH_SIZE, producer_options
from bridge.kafka.producer import NoProducer, Producer, taken
from bridge.kafka.topic_lookup import TopicLookup
from bridge.loop import Loop
from bridge.message import Message
from bridge.observe.events import Event, log
from bridge.settings import KafkaSettings, read_kafka_password

_SAY_AGAIN_AFTER = 60.0  # seconds between two lines about the same error
_SMALLEST_BATCH = 1_000  # bytes
_FIRST_REBUILD, _LAST_REBUILD = 1.0, 30.0  # seconds between two producers, doubled each time
_RETIRE_AGAIN = 10.0  # seconds after a successor could not be built for lack of a thread
_REST = 60.0  # seconds between two attempts where only a person can help
_LOOK_EVERY = 2.0  # seconds between two looks at files, and at threads that could not be started
_REFUSES_STILL = 60.0  # seconds since it was said last
_PROBER_STAYS = 60.0  # seconds without a probe
_CALM = 60.0  # seconds without a fatal error, and the next one is answered quickly again

_LISTENER, _LISTENERS_ASKED = -2000, -2001  # beside the codes of librdkafka's errors, in `_said`
_EVENTS = {
    error_verdicts.ALL_BROKERS_DOWN: Event.KAFKA_ALL_BROKERS_DOWN,
    error_verdicts.FATAL: Event.KAFKA_FATAL,
}


class Cluster:
    """`answers` fills with what Kafka said about topics, between two turns of the loop."""

    def __init__(self, settings: KafkaSettings, loop: Loop) -> None:
        """Raises ConfigurationError when librdkafka refuses an option.

        A file that can't be used refuses no start: a service that is started for ever lets the broker's
        queue overflow, while the disk takes what comes until the file is put right.
        """
        self._settings = settings
        self._loop = loop
        self._batch_size = self._batch_made = BATCH_SIZE
        self._said: dict[int, float] = {}
        self._fatal = False
        self._rebuild_delay = _FIRST_REBUILD
        self._rebuilt_at = time.monotonic()
        self.answers: deque[TopicAnswer | NoTopicAnswer] = deque()
        self._asked: set[str] = set()
        self._lookup = TopicLookup(settings, lambda answer: loop.post(partial(self._take_answer, answer)))
        self._retiring: list[Producer] = []  # with records in flight that were handed over before
        self._prober: Producer | None = None
        self._prober_is_in = False  # Kafka has answered it
        self._probed_at = 0.0
        self._has_delivered = False  # the newest producer
        self._refused = ""  # why it can't get in until a person has acted
        self._refused_at = 0.0
        self._rests = False  # it was closed for that, until it is time to `rebuild`
        self._files = tls.files(settings)
        self._files_read = tls.stamp(self._files)
        self._files_changed = False
        self._look_at = 0.0
        self._retire_at = 0.0
        self._expiry = tls.watch_expiry(settings)
        try:
            self._producer = self._build()
        except ConfigurationError:
            raise
        except BridgeError as error:
            self._do_without(error)

    # -- messages ------------------------------------------------------------------------------------

    def produce(self, messages: Iterable[Message], failed: Callable[[Failure], None]) -> None:
        """Hand messages over. `failed` gets what is known at once, before the next one is taken."""
        if self._rests:
            for message in messages:
                failed(Failure(message, Verdict.PRODUCER_LOST, self._refused))
            return
        self._producer.produce_all(messages, lambda report: failed(self._failure(*report)))

    def probe(self, message: Message, failed: Callable[[Failure], None]) -> None:
        """Hand over a message that may be too large, and of whose topic nothing else is in flight.

        With each record that is refused librdkafka begins a new epoch for all of a producer's partitions, and
        what Kafka has of them and has not confirmed is doubled. So this one is not the one that all use:
        docs/decisions/0015.
        """
        if self._rests:
            self.produce((message,), failed)
            return
        if self._prober is None:
            try:
                self._prober, self._prober_is_in = self._new(), False
            except NoThread as error:  # its lane is held, and tried again
                self._say_no_thread(error)
                failed(Failure(message, Verdict.NOT_NOW, str(error)))
                return
            except BridgeError as error:  # a file that is half written, perhaps: the other one goes on
                log(Event.KAFKA_FILES_UNUSABLE, reason=str(error))
                self.produce((message,), failed)
                return
        self._probed_at = time.monotonic()
        if report := self._prober.produce(message):
            failed(self._failure(*report))

    def poll(self) -> None:
        """Take the delivery reports that have come."""
        if time.monotonic() >= self._look_at:
            self._look()
        if self._rests:
            return
        self._producer.poll()
        if self._producer.delivered:
            self._has_delivered = True
            self._refused = ""
        for producer in self._others:
            producer.poll()
            self._prober_is_in |= producer is self._prober and bool(producer.delivered or producer.failed)
            self._producer.delivered += taken(producer.delivered)
            self._producer.failed += taken(producer.failed)
            if not producer.is_empty:
                continue
            if producer is not self._prober:
                self._retiring.remove(producer)
                producer.close()
            elif time.monotonic() >= self._probed_at + _PROBER_STAYS:
                self._prober = None
                producer.close()

    @property
    def _others(self) -> list[Producer]:
        return [*self._retiring, self._prober] if self._prober else self._retiring.copy()

    def take_delivered(self) -> list[Message]:
        return taken(self._producer.delivered)

    def take_failures(self) -> list[Failure]:
        return [self._failure(*report) for report in taken(self._producer.failed)]

    def _failure(self, message: Message, code: int, text: str) -> Failure:
        verdict = error_verdicts.verdict(code)
        if verdict is Verdict.PRODUCER_LOST:
            self._fatal = True
        return Failure(message, verdict, error_verdicts.reason(code, text, message.plan.kafka_topic))

    def sleep(self) -> None:
        """The loop is about to sleep: wake it when there is something to report."""
        for producer in (self._producer, *self._others):
            producer.sleep()

    # -- topics --------------------------------------------------------------------------------------

    def look_up(self, topic: str) -> None:
        """Have the answer to what `topic` takes in `answers`, soon."""
        if self._rests:
            self.answers.append(NoTopicAnswer(topic, self._refused))
            return
        if topic not in self._asked:
            self._asked.add(topic)
            self._lookup.look_up(topic)

    def _take_answer(self, answer: TopicAnswer | NoTopicAnswer) -> None:
        self._asked.discard(answer.topic)
        if isinstance(answer, TopicAnswer) and answer.limit is not None:
            # One record too many makes a batch too large, and then all of it fails.
            self._batch_size = max(_SMALLEST_BATCH, min(self._batch_size, answer.limit))
        if isinstance(answer, NoTopicAnswer):
            self._ask_listeners()
        self.answers.append(answer)

    # -- the producer's life -------------------------------------------------------------------------

    @property
    def wants_successor(self) -> bool:
        """A topic's limit is below what this producer puts into one batch, or a file that it has read
        was replaced: `retire` it.
        """
        if self._rests or not (self._batch_size < self._batch_made or self._files_changed):
            return False
        return time.monotonic() >= self._retire_at

    def retire(self) -> None:
        """Build a new producer; what the old one has in flight is still reported."""
        for_files = self._files_changed
        old = self._producer
        try:
            self._producer = self._build()
        except NoThread as error:  # the old one goes on, with what it has, until a successor can be built
            self._say_no_thread(error)
            self._retire_at = time.monotonic() + _RETIRE_AGAIN
            return
        except BridgeError as error:  # a file that is half written, perhaps: the old one goes on
            log(Event.KAFKA_FILES_UNUSABLE, reason=str(error))
            self._batch_made, self._files_changed = self._batch_size, False
            return
        self._retiring = [*self._others, old]
        self._prober = None
        if for_files:
            log(Event.KAFKA_FILES_READ)

    @property
    def is_broken(self) -> bool:
        """The producer is fatally wrong, and it is time to `rebuild` it."""
        producers = (self._producer, *self._others)
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
        try:
            self._producer = self._build()
        except BridgeError as error:
            self._do_without(error)
        else:
            log(Event.KAFKA_REBUILT)

    def close(self) -> None:
        for producer in (self._producer, *self._others):
            producer.close()
        self._retiring.clear()
        self._prober = None

    def _build(self) -> Producer:
        """Raises BridgeError (ConfigurationError is one) where a file or an option can't be used."""
        files = tls.stamp(self._files)
        producer = self._new()
        self._batch_made, self._files_read = self._batch_size, files
        self._files_changed = self._has_delivered = self._rests = False
        self._refused = ""
        return producer

    def _new(self) -> Producer:
        """Raises as `_build`."""
        tls.require_usable(self._settings)
        producer = Producer(
            producer_options(self._settings, self._batch_size),
            wake=lambda: self._loop.post(_nothing),
            on_error=lambda code, text: self._loop.post(lambda: self._error(producer, code, text)),
        )
        return producer

    # -- what goes wrong between the producer and the cluster ------------------------------------------

    def _error(self, producer: Producer, code: int, text: str) -> None:
        if self._rests:
            return  # an echo of what it was closed for
        kind = error_verdicts.kind(code, text)
        if error_verdicts.is_without_brokers(code, text):
            self._fatal = True  # it has sent nothing, and never will
            return
        if kind == error_verdicts.NO_RESOURCE:
            self._say_no_thread(NoThread())
            return
        if kind in (error_verdicts.TLS, error_verdicts.AUTHENTICATION):
            if producer in self._retiring:
                self._fatal = True  # it never gets in again, so what it has is for the new one
            elif producer is self._producer:
                self._refused, self._refused_at = text, time.monotonic()
        if kind == error_verdicts.TLS:
            if self._is_due(kind):
                tls.report_in_background(self._settings, text)
        elif kind == error_verdicts.AUTHENTICATION:
            if self._is_due(kind):
                way_out = listeners.explain_words(text) or listeners.LOG_IN
                log(Event.KAFKA_AUTHENTICATION_FAILED, reason=text, way_out=way_out)
                self._read_password_again()
        elif way_out := listeners.explain_words(text):
            if producer is self._producer:
                self._refused, self._refused_at = text, time.monotonic()
            if self._is_due(_LISTENER):
                log(Event.KAFKA_WRONG_LISTENER, reason=f"{text} ({way_out})")
            if kind == error_verdicts.FATAL and producer is self._producer and self._may_rest:
                self._rest(text)
        elif self._is_due(kind):
            log(_EVENTS.get(kind, Event.KAFKA_ERROR), reason=text)
            if kind == error_verdicts.ALL_BROKERS_DOWN:
                self._ask_listeners()
        if kind == error_verdicts.ALL_BROKERS_DOWN and producer is self._producer and self._may_rest:
            self._rest(self._refused)

    def _ask_listeners(self) -> None:
        """Nobody is reached, and librdkafka has not said why: is it the wrong port?"""
        if not self._has_delivered and not self._refused and self._is_due(_LISTENERS_ASKED):
            listeners.report_in_background(self._settings)

    def _is_due(self, kind: int) -> bool:
        """Whether to say it: once a minute for each kind."""
        now = time.monotonic()
        if now < self._said.get(kind, 0.0):
            return False
        self._said[kind] = now + _SAY_AGAIN_AFTER
        return True

    @property
    def _may_rest(self) -> bool:
        """No broker lets this producer in, and it would try several times a second, all night.

        Not where it may have sent something that nobody has confirmed: a new one would send that again. Nor
        for what was refused a while ago: who refuses does it at each attempt, and these may just be down.
        """
        if not self._refused or time.monotonic() >= self._refused_at + _REFUSES_STILL:
            return False
        others = self._others if self._prober_is_in else self._retiring
        if any(not producer.is_empty for producer in others):
            return False
        return not (self._has_delivered and not self._producer.is_empty)

    def _do_without(self, error: BridgeError) -> None:
        """None could be built. One that was closed reports what it purges, and is heard no more."""
        delay = _REST
        if isinstance(error, NoThread):
            self._say_no_thread(error)
            delay = self._rebuild_delay
        else:
            log(Event.KAFKA_FILES_UNUSABLE, reason=str(error))
        self._producer = NoProducer(str(error))
        self._rest(str(error), delay)

    def _rest(self, why: str, delay: float = _REST) -> None:
        """Do without a producer until it is time to `rebuild`, `delay` seconds from now."""
        self._refused = why
        self._rests = self._fatal = True
        self._rebuilt_at, self._rebuild_delay = time.monotonic(), delay
        self.close()

    def _say_no_thread(self, error: NoThread) -> None:
        if self._is_due(error_verdicts.NO_RESOURCE):
            log(Event.SERVICE_NO_THREAD, reason=str(error))

    def _look(self) -> None:
        """What is looked at now and then, and not at each turn."""
        self._look_at = time.monotonic() + _LOOK_EVERY
        if self._expiry:
            self._expiry.start()
        if self._files:
            self._look_at_files()

    def _look_at_files(self) -> None:
        """librdkafka reads them once, so a new producer is needed where one was replaced."""
        found = tls.stamp(self._files)
        if found == self._files_read:
            return
        self._files_read = found
        self._files_changed = not self._rests
        if self._rests:
            self._rebuilt_at -= _REST  # it may be what was waited for

    def _read_password_again(self) -> None:
        username = self._settings.sasl_username
        try:
            password = read_kafka_password(self._settings)
        except BridgeError as error:
            log(Event.KAFKA_FILES_UNUSABLE, reason=str(error))
            return
        if username and password:
            for producer in (self._producer, *self._others):
                producer.new_password(username, password)


def _nothing() -> None:
    """Posted only to wake the loop: the reports are in the producer's lists."""
