"""The Kafka cluster as the pipeline uses it in the mode exactly-once: produces in transactions.

It has the methods of cluster.Cluster. A message counts as delivered once its transaction's commit has
returned, or was found in Kafka. transactions.py decides, transactional_producer.py talks to Kafka in a thread
of its own, and the disk thread writes the intents.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Self
from uuid import uuid4

from bridge import program
from bridge.delivery.clock import WallClock
from bridge.delivery.intent import IntentLog, IntentVerdict, Memory, Rows, rows_of
from bridge.delivery.results import Failure, NoTopicAnswer, TopicAnswer, Verdict
from bridge.delivery.segment import Segment
from bridge.errors import BridgeError, NoThread
from bridge.kafka import error_verdicts, listeners, tls
from bridge.kafka.broker_watch import BrokerWatch
from bridge.kafka.brokers import Brokers
from bridge.kafka.error_log import ErrorLog, password_again
from bridge.kafka.options import BATCH_SIZE
from bridge.kafka.topic_questions import TopicQuestions
from bridge.kafka.transaction_thread import TransactionThread
from bridge.kafka.transactional_producer import PROMPT, Found, Lost, Refused, TransactionalProducer
from bridge.kafka.transactions import Open, Run, Settle, State, Transactions
from bridge.loop import Loop
from bridge.message import Message
from bridge.observe.events import Event, log
from bridge.observe.observations import SHORT, Observations
from bridge.settings import KafkaSettings

_SMALLEST_BATCH = 1_000  # bytes
_LOOK_EVERY = 2.0  # seconds between two looks at files and the clock
_LOST, _FENCED = -3000, -3001  # beside the codes of librdkafka's errors, in the error log

_DOUBLES = (
    "the bridge produces again what is on disk, because loss is worse: Kafka may get these messages twice"
)
_UNEXPECTED = {
    IntentVerdict.GONE: "Kafka no longer knows this spool's number, although the spool has committed one: the"
    " group or its topic was deleted or is hidden from this user, or its offsets have expired (7 days without"
    f" the bridge), or another bridge uses the group; {_DOUBLES}",
    IntentVerdict.BEHIND: "Kafka's number is lower than one that Kafka has confirmed: does another bridge use"
    f" this group, or is this another cluster, or one that was restored? {_DOUBLES}",
    IntentVerdict.AHEAD: "Kafka has a number of this spool that the spool does not know: the spool was"
    f" restored from a backup, or another bridge runs with a copy of it; {_DOUBLES}",
    IntentVerdict.OTHER: "Kafka has the number of another spool, and this one is new: was the spool deleted,"
    " swapped, or set aside? What the other one holds is delivered once it is back; nothing is duplicated",
}
_AGAIN = "its messages are produced again"
_OPEN: dict[IntentVerdict | None, str] = {
    IntentVerdict.COMMITTED: "committed",
    IntentVerdict.NOT_COMMITTED: f"not committed: {_AGAIN}",
}
_UNKNOWN = f"unknown: {_AGAIN}"
_WAYS_OUT = {
    30: "allow the group: kafka-acls.sh --add --allow-principal User:NAME --operation Read --group {group}",
    53: "allow the id: kafka-acls.sh --add --allow-principal User:NAME --operation Write --operation Describe"
    " --transactional-id {id}",
    29: "allow to read the topics that the bridge writes, for the offset: kafka-acls.sh --add"
    " --allow-principal User:NAME --operation Read --topic TOPIC",
}


class TransactionalCluster:
    """The transactional producer for one Kafka cluster, and the topic lookup.

    `answers`: as in cluster.Cluster. `commits`: how long the commits took. `rebuilds`: producers after the
    first one.
    """

    only_reports = True  # all that happens here is posted to the loop, and so makes a turn
    is_broken = False
    wants_successor = False
    rests = False

    def __init__(self, settings: KafkaSettings, loop: Loop, transactional_id: str, group: str) -> None:
        """Call `use` with the spool before the loop runs."""
        self._settings = settings
        self._loop = loop
        self._id, self._group = transactional_id, group
        self._errors = ErrorLog(settings)
        self._questions = TopicQuestions(settings, loop, self._look_at_answer)
        self.answers = self._questions.answers
        self.commits = Observations(SHORT)
        self._delivered: list[Message] = []
        self._failures: list[Failure] = []
        self._machine = Transactions(uuid4().hex[:8], _rows_of)
        self._opened = 0  # producers
        self._tells = True  # log the next producer: it is the first one, or a log line said that one was lost
        self._spool: IntentLog | None = None
        self._waits_until = 0.0  # monotonic seconds; until then the thread wakes the loop
        self._batch_size = BATCH_SIZE
        self._files = tls.files(settings)
        self._files_read = tls.stamp(self._files)
        self._look_at = 0.0
        self._clock = WallClock()
        self._expiry = tls.watch_expiry(settings)
        self.brokers = Brokers(listeners.addresses(settings.bootstrap_servers))
        self._watch = BrokerWatch(settings, self.brokers)
        self._producer = self._new_producer()
        self._thread: TransactionThread | None = None

    def use(self, spool: IntentLog) -> None:
        """Take the spool, which tells what the last run has left. Nothing is produced before that."""
        self._spool = spool
        spool.recall(self._remember)

    def _remember(self, memory: Memory) -> None:
        self._machine.remember(memory)

    # -- seen from outside ---------------------------------------------------------------------------

    @property
    def producer_queue(self) -> int:
        """Messages in the open transaction, and those that wait for the next one."""
        running = self._machine.running or self._machine.doubtful
        return len(self._machine.queue) + (len(running.messages) if running else 0)

    queued = producer_queue

    @property
    def rebuilds(self) -> int:
        return max(0, self._opened - 1)

    @property
    def transactional(self) -> Self:
        return self

    @property
    def certificates(self) -> dict[str, float]:
        return self._expiry.known() if self._expiry else {}

    @property
    def transactions(self) -> Transactions:
        """What is counted there may be shown."""
        return self._machine

    # -- messages ------------------------------------------------------------------------------------

    def produce(self, messages: Iterable[Message], failed: Callable[[Failure], None]) -> None:  # noqa: ARG002
        """Take messages that are on disk, synced, for the next transaction."""
        self._machine.produce(messages, time.monotonic())

    def probe(self, message: Message, failed: Callable[[Failure], None]) -> None:  # noqa: ARG002
        """Take a message that Kafka may refuse, for a transaction without topics that have not failed."""
        self._machine.probe(message, time.monotonic())

    def poll(self) -> int:
        """Do what is due. Returns 1 where messages were delivered since, else 0."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look(now)
        while command := self._machine.next(now):
            self._do(command)
        handed = self._machine.take_handed()
        self._delivered += handed.delivered
        self._failures += [self._failure(message, why) for message, why in handed.failed]
        return 1 if handed.delivered else 0

    def relay(self) -> None:
        """Between two turns nothing is reported."""

    def take_delivered(self) -> list[Message]:
        delivered, self._delivered = self._delivered, []
        return delivered

    def take_failures(self) -> list[Failure]:
        failures, self._failures = self._failures, []
        return failures

    def sleep(self) -> None:
        """The loop is about to sleep: have the thread wake it when something is due."""
        self._wait_for(self._machine.due, time.monotonic())

    def retire(self) -> None:
        """A new producer needs nothing of the pipeline: it is built between two transactions."""

    rebuild = retire

    def close(self) -> None:
        if self._thread:
            self._thread.close()

    def _failure(self, message: Message, why: tuple[int, str] | None) -> Failure:
        if why is None:
            return Failure(message, Verdict.RETURNED, "")
        code, text = why
        verdict = error_verdicts.verdict(code)
        reason = error_verdicts.reason(code, text, message.plan.kafka_topic)
        return Failure(message, verdict, reason, error_verdicts.hold(code))

    # -- commands and outcomes -------------------------------------------------------------------------

    def _do(self, command: Open | Run | Settle) -> None:
        spool = self._spool
        if spool is None:  # nothing is produced before `use`
            return
        if isinstance(command, Settle):
            spool.settle(command.is_committed, self._settled)
            return
        try:
            thread = self._thread = self._thread or TransactionThread(self._producer, self, self._loop.post)
        except NoThread as error:
            self.not_opened(error)
            return
        if isinstance(command, Open):
            self._files_read = tls.stamp(self._files)
            self._producer.batch_size = self._batch_size
            thread.open(self._machine.memory.offset_topic)
        else:
            thread.run(command)
            spool.intend(command.intent, partial(self._intended, thread, command))

    def _wait_for(self, due: float, now: float) -> None:
        """Have the thread wake the loop. It has nothing else to do then."""
        if self._machine.state not in (State.READY, State.CLOSED) or due == float("inf") or not self._thread:
            return
        if self._waits_until <= now or due < self._waits_until:
            self._waits_until = due
            self._thread.wait(due - now)

    def is_due(self) -> None:
        self._waits_until = 0.0

    def _intended(self, thread: TransactionThread, run: Run, spool: str) -> None:
        if spool:
            self._machine.intended(run, spool)
        thread.intended(run, spool)

    def _settled(self) -> None:
        self._machine.settled(time.monotonic())

    def opened(self, found: Found) -> None:
        self._opened += 1
        machine = self._machine
        spool, was_open = machine.memory.spool, machine.has_open
        command = machine.opened(
            found.numbers, found.topics.get(spool, ""), time.monotonic(), hides=found.hides
        )
        verdict = machine.verdict
        if verdict and verdict.is_loud:
            log(Event.KAFKA_NUMBER_UNEXPECTED, group=self._group, reason=_UNEXPECTED[verdict])
        if self._tells:
            self._tells = False
            log(
                Event.KAFKA_TRANSACTIONAL,
                transactional_id=self._id,
                group=self._group,
                open_transaction=_OPEN.get(verdict, _UNKNOWN) if was_open else "none",
            )
        if command:
            self._do(command)
        elif self._spool and machine.memory.confirmed:  # perhaps that of a doubtful transaction
            self._spool.confirm(machine.memory.confirmed)

    def not_opened(self, error: BridgeError | Lost) -> None:
        if isinstance(error, Lost):
            self.lost(error)
            return
        self._machine.lost(time.monotonic())
        if isinstance(error, NoThread):
            self._errors.say(error_verdicts.NO_RESOURCE, Event.SERVICE_NO_THREAD, reason=str(error))
        else:
            self._errors.say(_LOST, Event.KAFKA_FILES_UNUSABLE, reason=str(error))

    def committed(self, run: Run, seconds: float) -> None:
        self.commits.observe(seconds)
        self._machine.committed(time.monotonic(), may_be_sent_twice=seconds >= PROMPT)
        if self._spool:
            self._spool.confirm(run.number)

    def refused(self, refused: Refused) -> None:
        self._machine.refused(refused.failures, time.monotonic())

    def lost(self, lost: Lost) -> None:
        now = time.monotonic()
        before = self._machine.fenced_count
        self._machine.lost(
            now,
            lost.reason,
            may_have_committed=lost.may_have_committed,
            is_fenced=lost.is_fenced,
            may_be_late=lost.may_be_late,
            is_slow=lost.is_slow,
        )
        if self._machine.fenced_count > before:
            seconds = round(self._machine.due - now)
            was_logged = self._errors.say(
                _FENCED,
                Event.KAFKA_FENCED,
                transactional_id=self._id,
                again_in_seconds=seconds,
                reason=lost.reason,
            )
        else:
            way_out = _WAYS_OUT.get(lost.code, "nothing, if this stops; else sudo mqtt-kafka-bridge check")
            way_out = program.typed(way_out.format(group=self._group, id=self._id))
            was_logged = self._errors.say(
                _LOST, Event.KAFKA_TRANSACTION_LOST, reason=lost.reason, way_out=way_out
            )
        self._tells = self._tells or was_logged

    def _new_producer(self) -> TransactionalProducer:
        return TransactionalProducer(
            self._settings,
            self._id,
            self._group,
            lambda code, text: self._loop.post(partial(self._error, code, text)),
        )

    def _give_up(self) -> None:
        """A call of librdkafka does not return. Another producer, in another thread, fences this one."""
        if self._thread:
            self._thread.abandon()
        self._thread, self._producer = None, self._new_producer()
        self._waits_until = 0.0
        self.lost(Lost("a call of librdkafka does not return", may_have_committed=True))

    # -- topics --------------------------------------------------------------------------------------

    def look_up(self, topic: str) -> None:
        """Ask Kafka about `topic`. The answer comes later, in `answers`."""
        self._questions.ask(topic)

    def _look_at_answer(self, answer: TopicAnswer | NoTopicAnswer) -> None:
        if isinstance(answer, TopicAnswer):
            if answer.exists:
                self._watch.use_topic(answer.topic)
            if answer.limit is not None and answer.limit < self._batch_size:
                # If a batch is larger than the topic's limit, Kafka refuses all records of the batch.
                self._batch_size = max(_SMALLEST_BATCH, answer.limit)
                self._machine.replace_producer(time.monotonic())

    # -- errors that are not of one message ------------------------------------------------------------

    def _error(self, code: int, text: str) -> None:
        kind = error_verdicts.kind(code, text)
        self.brokers.suspect(listeners.address_in(text))
        if kind == error_verdicts.FATAL and not listeners.explain_words(text):
            return  # `lost` tells
        was_logged = self._errors.report(kind, text)
        if was_logged and kind == error_verdicts.AUTHENTICATION and (found := password_again(self._settings)):
            self._producer.new_password(*found)

    # -- what is looked at now and then ----------------------------------------------------------------

    def _look(self, now: float) -> None:
        self._look_at = now + _LOOK_EVERY
        self._look_at_clock()
        if self._producer.is_stuck:
            self._give_up()
        self._watch.turn(now, self._producer)
        if self._expiry:
            self._expiry.start()
        if self._files and tls.stamp(self._files) != self._files_read:
            self._files_read = tls.stamp(self._files)
            self._producer.is_outdated = True  # it may be opening, for as long as the old file is refused
            self._machine.replace_producer(now)
            log(Event.KAFKA_FILES_READ)

    def _look_at_clock(self) -> None:
        """Look whether the wall clock was set back, which lengthens librdkafka's waits by as much."""
        if not (seconds := self._clock.set_back_by()):
            return
        try:
            self._producer.end_waits()
        except NoThread:  # the next look tries again
            return
        self._clock.note()
        log(Event.CLOCK_SET_BACK, seconds=round(seconds))
        self._questions.give_up("this machine's clock was set back")


def _rows_of(messages: Iterable[Message]) -> Rows:
    return rows_of(messages, _row_of)


def _row_of(message: Message) -> Segment | None:
    found: Segment | None = message.plan.lane.rows.row_of(message)
    return found
