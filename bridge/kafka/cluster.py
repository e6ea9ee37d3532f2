"""The Kafka cluster as the pipeline uses it: produces, reports, looks up topics, replaces producers."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from weakref import ref

from bridge.delivery.clock import WallClock
from bridge.delivery.results import Failure, NoTopicAnswer, TopicAnswer, Verdict
from bridge.errors import BridgeError, ConfigurationError, NoThread
from bridge.kafka import error_verdicts, listeners, tls
from bridge.kafka.broker_watch import BrokerWatch
from bridge.kafka.brokers import Brokers
from bridge.kafka.error_log import ErrorLog, password_again
from bridge.kafka.error_verdicts import plain
from bridge.kafka.options import BATCH_SIZE, producer_options
from bridge.kafka.producer import NoProducer, Producer, taken
from bridge.kafka.topic_questions import TopicQuestions
from bridge.loop import Loop
from bridge.message import Message
from bridge.observe.events import Event, log
from bridge.settings import KafkaSettings

_SMALLEST_BATCH = 1_000  # bytes
_FIRST_REBUILD, _LAST_REBUILD = 1.0, 30.0  # seconds between two producers; the delay doubles each time
_RETIRE_AGAIN = 10.0  # seconds until `retire` is tried again after no producer could be built
# With statistics librdkafka keeps histograms for each topic, 30 KB and more, and writes all of it as JSON. So
# a producer with more topics than this makes none, and the round trips to the brokers are not known.
_MOST_WITH_STATISTICS = 500
_REST = 60.0  # seconds until the next producer when only a person can help
_LOOK_EVERY = 2.0  # seconds between two looks at files, and at threads that could not be started
_REFUSES_STILL = 60.0  # seconds after which a refusal no longer counts
_PROBER_STAYS = 60.0  # seconds without a probe, then the prober is closed
_CALM = 60.0  # seconds without a fatal error, then the delay is the shortest again

_LISTENERS_ASKED = -2001  # beside the codes of librdkafka's errors, in the error log


class Cluster:
    """The producers for one Kafka cluster, and the topic lookup.

    `answers`: Kafka's answers about topics, appended between two turns of the loop. The cluster rests while
    it has no producer: a file can't be used, or no broker lets a producer in.
    """

    transactional: None = None

    def __init__(self, settings: KafkaSettings, loop: Loop) -> None:
        """Raises ConfigurationError when librdkafka refuses an option.

        A certificate, key or password file that can't be used does not prevent the start. If the service
        failed and restarted for ever, the broker's queue would overflow; a running bridge writes the messages
        to disk until a person has corrected the file.
        """
        self._settings = settings
        self._loop = loop
        self._batch_size = self._batch_made = BATCH_SIZE
        self._errors = ErrorLog(settings)
        self._fatal = False
        self._rebuild_delay = _FIRST_REBUILD
        self._rebuilt_at = time.monotonic()
        self._questions = TopicQuestions(settings, loop, self._look_at_answer)
        self.answers = self._questions.answers
        self._topics: set[str] = set()  # those that exist; any of them may have messages
        self._has_statistics = False  # the newest producer makes them
        self._retiring: list[Producer] = []  # replaced producers that still have records in flight
        self._prober: Producer | None = None
        self._prober_is_in = False  # Kafka has answered the prober
        self._probed_at = 0.0
        self._has_delivered = False  # Kafka has confirmed a message of the newest producer
        self._refused = ""  # why no broker lets the producer in until a person has acted
        self._refused_at = 0.0
        self._rests = False  # there is no producer, until it is time to `rebuild`
        self._files = tls.files(settings)
        self._files_read = tls.stamp(self._files)
        self._files_changed = False
        self._look_at = 0.0
        self._clock = WallClock()
        self._retire_at = 0.0
        self._expiry = tls.watch_expiry(settings)
        self.brokers = Brokers(listeners.addresses(settings.bootstrap_servers))
        self._watch = BrokerWatch(settings, self.brokers)
        self.rebuilds = 0
        try:
            self._producer = self._build()
        except ConfigurationError:
            raise
        except BridgeError as error:
            self._do_without(error)

    # -- seen from outside ---------------------------------------------------------------------------

    @property
    def rests(self) -> bool:
        """No broker lets the producer in, or a file can't be used, until a person acts."""
        return self._rests

    @property
    def producer_queue(self) -> int:
        """Messages that librdkafka holds."""
        return sum(producer.queued for producer in (self._producer, *self._others))

    @property
    def certificates(self) -> dict[str, float]:
        return self._expiry.known() if self._expiry else {}

    # -- messages ------------------------------------------------------------------------------------

    def produce(self, messages: Iterable[Message], failed: Callable[[Failure], None]) -> None:
        """Produce messages. `failed` gets a failure that is known at once, before the next message."""
        if self._rests:
            for message in messages:
                failed(Failure(message, Verdict.PRODUCER_LOST, self._refused))
            return
        self._producer.produce_all(messages, lambda report: failed(self._failure(*report)))

    def probe(self, message: Message, failed: Callable[[Failure], None]) -> None:
        """Produce a message that may be too large. No other message of its topic may be in flight.

        After each refused record librdkafka begins a new epoch for all partitions of the producer, and sends
        unconfirmed records again. In the new epoch Kafka does not recognise a record that it has stored
        already: the record is duplicated. So probes have their own producer, the prober: docs/decisions/0015.
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
            except BridgeError as error:  # perhaps a half-written file: use the main producer
                log(Event.KAFKA_FILES_UNUSABLE, reason=str(error))
                self.produce((message,), failed)
                return
        self._probed_at = time.monotonic()
        if report := self._prober.produce(message):
            failed(self._failure(*report))

    def poll(self) -> int:
        """Take the delivery reports that have come, and look whether files were replaced.

        Returns how many reports have come. Each is of a batch of messages.
        """
        if time.monotonic() >= self._look_at:
            self._look()
        if self._rests:
            return 0
        producer = self._producer
        reports = producer.poll()
        if producer.delivered:
            self._has_delivered = True
            self._refused = ""
        if self._retiring or self._prober:
            self._poll_others()
        return reports

    def _poll_others(self) -> None:
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
    def only_reports(self) -> bool:
        """One producer is there, works, rings the bell, and has failed no message: it can but deliver."""
        producer = self._producer
        if producer.failed or producer.is_broken or self._fatal or self._retiring or self._prober:
            return False
        return producer.rings

    @property
    def queued(self) -> int:
        """Messages of the newest producer of which no report has come."""
        return self._producer.queued

    @property
    def _others(self) -> list[Producer]:
        return [*self._retiring, self._prober] if self._prober else self._retiring.copy()

    def relay(self) -> tuple[int, list[Message]] | None:
        """Take the delivery reports that have come, while `only_reports`. None: something else has come.

        Then nothing is taken, and a turn must follow. Between two turns nobody looks for replaced files.
        Returns how many reports have come, as `poll` does, and the messages that they confirm.
        """
        producer = self._producer
        reports = producer.poll()
        if not self.only_reports:
            return None
        delivered = producer.delivered
        if delivered:
            producer.delivered = []
            self._has_delivered = True
            self._refused = ""
        return reports, delivered

    def take_delivered(self) -> list[Message]:
        return taken(self._producer.delivered)

    def take_failures(self) -> list[Failure]:
        return [self._failure(*report) for report in taken(self._producer.failed)]

    def _failure(self, message: Message, code: int, text: str) -> Failure:
        verdict = error_verdicts.verdict(code)
        if verdict is Verdict.PRODUCER_LOST:
            self._fatal = True
        reason = error_verdicts.reason(code, text, message.plan.kafka_topic)
        return Failure(message, verdict, reason, error_verdicts.hold(code))

    def sleep(self) -> None:
        """The loop is about to sleep: let the producers wake it when there are reports."""
        self._producer.sleep()
        for producer in self._others if self._retiring or self._prober else ():
            producer.sleep()

    # -- topics --------------------------------------------------------------------------------------

    def look_up(self, topic: str) -> None:
        """Ask Kafka about `topic`. The answer comes later, in `answers`."""
        if self._rests:
            self.answers.append(NoTopicAnswer(topic, self._refused))
            return
        self._questions.ask(topic)

    def _look_at_answer(self, answer: TopicAnswer | NoTopicAnswer) -> None:
        if isinstance(answer, TopicAnswer) and answer.exists:
            self._topics.add(answer.topic)
            self._watch.use_topic(answer.topic)
        if isinstance(answer, TopicAnswer) and answer.limit is not None:
            # If a batch is larger than the topic's limit, Kafka refuses all records of the batch.
            self._batch_size = max(_SMALLEST_BATCH, min(self._batch_size, answer.limit))
        if isinstance(answer, NoTopicAnswer):
            self._ask_listeners()

    # -- the producer's life -------------------------------------------------------------------------

    @property
    def wants_successor(self) -> bool:
        """Whether to `retire` the producer.

        True when its batches are larger than a topic's limit, when a file that it has read was replaced, or
        when it makes statistics of too many topics.
        """
        has_reason = (
            self._batch_size < self._batch_made
            or self._files_changed
            or (self._has_statistics and self._has_many_topics)
        )
        if self._rests or not has_reason:
            return False
        return time.monotonic() >= self._retire_at

    def retire(self) -> None:
        """Build a new producer. The old producer still reports its messages in flight."""
        for_files = self._files_changed
        old = self._producer
        try:
            self._producer = self._build()
        except NoThread as error:  # the old one goes on, with what it has, until a successor can be built
            self._say_no_thread(error)
            self._retire_at = time.monotonic() + _RETIRE_AGAIN
            return
        except BridgeError as error:  # perhaps a half-written file: keep the old producer
            log(Event.KAFKA_FILES_UNUSABLE, reason=str(error))
            self._batch_made, self._files_changed = self._batch_size, False
            if self._has_many_topics:  # no reason any more; the next producer makes none
                self._has_statistics = False
                self.brokers.forget_trips()
            return
        self._retiring = [*self._others, old]
        self._prober = None
        if for_files:
            log(Event.KAFKA_FILES_READ)

    @property
    def is_broken(self) -> bool:
        """A producer has failed fatally, or the cluster rests, and it is time to `rebuild`."""
        producers = (self._producer, *self._others)
        broken = self._fatal or any(producer.is_broken for producer in producers)
        return broken and time.monotonic() >= self._rebuilt_at + self._rebuild_delay

    def rebuild(self) -> None:
        """Replace all producers by a new one. The old producers report nothing after this call."""
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
            self.rebuilds += 1
            log(Event.KAFKA_REBUILT)

    def close(self) -> None:
        for producer in (self._producer, *self._others):
            producer.close()
        self._retiring.clear()
        self._prober = None

    def _build(self) -> Producer:
        """Build the main producer. Raises BridgeError for a bad file, ConfigurationError for a bad option."""
        files = tls.stamp(self._files)
        producer = self._new(None if self._has_many_topics else self._take_statistics)
        self._has_statistics = not self._has_many_topics
        if not self._has_statistics:
            self.brokers.forget_trips()
        self._batch_made, self._files_read = self._batch_size, files
        self._files_changed = self._has_delivered = self._rests = False
        self._refused = ""
        return producer

    def _take_statistics(self, statistics: str) -> None:
        if self._has_statistics:  # else a replaced producer still makes some
            self.brokers.take(statistics)

    @property
    def _has_many_topics(self) -> bool:
        return len(self._topics) > _MOST_WITH_STATISTICS

    def _new(self, on_statistics: Callable[[str], None] | None = None) -> Producer:
        """Build a producer. Raises the same errors as `_build`."""
        tls.require_usable(self._settings)
        producer = Producer(
            producer_options(self._settings, self._batch_size),
            wake=self._loop.ring,
            on_error=lambda code, text: self._loop.post(partial(self._error, built(), code, text)),
            on_statistics=on_statistics,
            bell=self._loop.bell,
        )
        built = ref(producer)  # a strong reference would keep a replaced producer until the collector runs
        return producer

    # -- errors that are not of one message ------------------------------------------------------------

    def _error(self, producer: Producer | None, code: int, text: str) -> None:
        if self._rests:
            return  # a late error of the producer that was closed
        kind = error_verdicts.kind(code, text)
        self.brokers.suspect(listeners.address_in(text))
        if error_verdicts.is_without_brokers(code, text):
            self._fatal = True  # it has sent nothing, and never will
            return
        if kind == error_verdicts.NO_RESOURCE:
            self._say_no_thread(NoThread())
            return
        if kind in (error_verdicts.TLS, error_verdicts.AUTHENTICATION):
            if producer in self._retiring:
                self._fatal = True  # no broker lets it in again: the new producer gets its messages
            elif producer is self._producer:
                self._refused, self._refused_at = plain(text), time.monotonic()
        was_logged = self._errors.report(kind, text)
        if kind == error_verdicts.AUTHENTICATION:
            if was_logged:
                self._read_password_again()
        elif kind != error_verdicts.TLS and listeners.explain_words(text):
            if producer is self._producer:
                self._refused, self._refused_at = plain(text), time.monotonic()
            if kind == error_verdicts.FATAL and producer is self._producer and self._may_rest:
                self._rest(plain(text))
        elif was_logged and kind == error_verdicts.ALL_BROKERS_DOWN:
            self._ask_listeners()
        if kind == error_verdicts.ALL_BROKERS_DOWN and producer is self._producer and self._may_rest:
            self._rest(self._refused)

    def _ask_listeners(self) -> None:
        """Nobody is reached, and librdkafka has not said why: is it the wrong port?"""
        if not self._has_delivered and not self._refused and self._errors.is_due(_LISTENERS_ASKED):
            listeners.report_in_background(self._settings)

    @property
    def _may_rest(self) -> bool:
        """Whether to close the producer because no broker lets it in.

        An open producer would try to log in several times a second, for hours. False where a producer may
        have sent records that Kafka has not confirmed: a new producer would duplicate them. False also where
        the last refusal is over a minute old: brokers refuse each attempt, so these may just be down.
        """
        if not self._refused or time.monotonic() >= self._refused_at + _REFUSES_STILL:
            return False
        others = self._others if self._prober_is_in else self._retiring
        if any(not producer.is_empty for producer in others):
            return False
        return not (self._has_delivered and not self._producer.is_empty)

    def _do_without(self, error: BridgeError) -> None:
        """Rest, because no producer could be built. NoProducer hides late reports of a closed producer."""
        delay = _REST
        if isinstance(error, NoThread):
            self._say_no_thread(error)
            delay = self._rebuild_delay
        else:
            log(Event.KAFKA_FILES_UNUSABLE, reason=str(error))
        self._producer = NoProducer(str(error))
        self._rest(str(error), delay)

    def _rest(self, why: str, delay: float | None = None) -> None:
        """Close all producers and wait until it is time to `rebuild`: after `delay` seconds, or _REST."""
        self._refused = why
        self._rests = self._fatal = True
        self._rebuilt_at = time.monotonic()
        self._rebuild_delay = _REST if delay is None else delay
        self.close()

    def _say_no_thread(self, error: NoThread) -> None:
        self._errors.say(error_verdicts.NO_RESOURCE, Event.SERVICE_NO_THREAD, reason=str(error))

    def _look(self) -> None:
        """What is looked at now and then, and not at each turn."""
        now = time.monotonic()
        self._look_at = now + _LOOK_EVERY
        self._look_at_clock()
        self._watch.turn(now, None if self._rests else self._producer)
        if self._expiry:
            self._expiry.start()
        if self._files:
            self._look_at_files()

    def _look_at_clock(self) -> None:
        """Look whether the wall clock was set back, which lengthens librdkafka's waits by as much."""
        if not (seconds := self._clock.set_back_by()):
            return
        try:
            for producer in (self._producer, *self._others):
                producer.end_waits()
        except NoThread as error:  # the next look tries again
            self._say_no_thread(error)
            return
        self._clock.note()
        log(Event.CLOCK_SET_BACK, seconds=round(seconds))
        self._questions.give_up("this machine's clock was set back")

    def _look_at_files(self) -> None:
        """Look whether a file was replaced. librdkafka reads files once: a new file needs a new producer."""
        found = tls.stamp(self._files)
        if found == self._files_read:
            return
        self._files_read = found
        self._files_changed = not self._rests
        if self._rests:
            self._rebuilt_at -= _REST  # rebuild now: the new file may cure the refusal

    def _read_password_again(self) -> None:
        if found := password_again(self._settings):
            for producer in (self._producer, *self._others):
                producer.new_password(*found)
