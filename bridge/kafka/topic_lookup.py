"""Asks Kafka whether a topic exists and how large a record may be. This blocks, so a thread does it."""

from collections.abc import Callable, Iterable, Mapping
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from bridge import program
from bridge.delivery.results import NoTopicAnswer, TopicAnswer
from bridge.errors import NoThread
from bridge.kafka import error_verdicts
from bridge.kafka.options import client_options, not_built
from bridge.loop import require_threads, start_thread
from bridge.settings import KafkaSettings
from bridge.units import DURATION

_THREADS = 8  # librdkafka's own three, one for each bootstrap broker, and some to spare
_TIMEOUT = 5.0  # seconds for an answer
_NO_BOUND = 2**63 - 1  # ms; Kafka's default for a timestamp's age
_HOUR = 3_600_000  # ms; Kafka's default for how far ahead of its clock a timestamp may be
_LIMIT_TIMEOUT = 2.0  # seconds; shorter, because the bridge works without the limit

_MISSING = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)

# The command's long name: /usr/sbin/bridge, which root finds first, is iproute2's.
_CREATE = "sudo mqtt-kafka-bridge topics --create"

# Bytes. max.message.bytes limits a batch: the record, a batch header of 61 bytes and the record's length
# fields (Kafka protocol guide, "Record Batch").
_BATCH_OVERHEAD = 128


class TopicLookup:
    """Looks up topics in a thread.

    The thread calls `tell` with a TopicAnswer or NoTopicAnswer for each topic. The thread and its client
    exist only while there are topics to look up.
    """

    def __init__(self, settings: KafkaSettings, tell: Callable[[TopicAnswer | NoTopicAnswer], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._questions: SimpleQueue[str] = SimpleQueue()
        self._lock = Lock()
        self._running = False

    def look_up(self, topic: str) -> None:
        self._questions.put(topic)
        with self._lock:
            if self._running:
                return
            self._running = True
        try:
            start_thread(self._work, "topics")
        except NoThread as error:  # each lane looks its topic up again later
            with self._lock:
                self._running = False
            while not self._questions.empty():
                self._tell(NoTopicAnswer(self._questions.get_nowait(), str(error)))

    def _work(self) -> None:
        admin: AdminClient | None = None
        while True:
            try:
                topic = self._questions.get_nowait()
            except Empty:
                with self._lock:
                    if self._questions.empty():
                        self._running = False
                        return
                continue
            try:
                if admin is None:  # a client is false: its length is what it has queued
                    admin = new_admin(self._settings)
                answer: TopicAnswer | NoTopicAnswer = look_up(admin, topic)
            except KafkaException as error:
                answer = NoTopicAnswer(topic, error_verdicts.plain(error.args[0].str()))
            except Exception as error:
                answer = NoTopicAnswer(topic, str(error) or type(error).__name__)
            self._tell(answer)


def new_admin(settings: KafkaSettings, **more: Any) -> AdminClient:
    """`more` are options too. Raises ConfigurationError when librdkafka refuses an option, NoThread without
    room for threads, BridgeError when the password or another file can't be used.
    """
    options = admin_options(settings) | more
    require_threads(_THREADS)
    try:
        return AdminClient(options)
    except KafkaException as error:
        raise not_built(error) from None


def admin_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the options of a client that only asks. Raises BridgeError when the password can't be read."""
    return {**client_options(settings), **_without_producing(settings.client_options())}


def look_up(admin: AdminClient, topic: str) -> TopicAnswer | NoTopicAnswer:
    """Ask Kafka about one topic. Raises KafkaException where the cluster does not answer."""
    # With auto.create.topics.enable the brokers create the missing topic on this request.
    found = admin.list_topics(topic, timeout=_TIMEOUT).topics[topic]
    if found.error is not None:
        if found.error.code() not in _MISSING:
            return _no_answer(topic, found.error)
        return missing(topic, admin.list_topics(timeout=_TIMEOUT).topics)
    config = _config(admin, topic)
    limit = config.get("max.message.bytes")
    return TopicAnswer(
        topic,
        exists=True,
        limit=None if limit is None else int(limit) - _BATCH_OVERHEAD,
        timestamps=_timestamps(config),
    )


def look_only(admin: AdminClient, topic: str) -> TopicAnswer | NoTopicAnswer:
    """The same as `look_up`, but it never makes a broker create the topic."""
    known = admin.list_topics(timeout=_TIMEOUT).topics  # of those that the bridge's user may see
    if topic not in known:
        future = admin.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT)[topic]
        try:
            future.result(_TIMEOUT + 1)
        except KafkaException as error:
            if error.args[0].code() in _MISSING:
                return missing(topic, known)
            return _no_answer(topic, error.args[0])
    return look_up(admin, topic)


def _no_answer(topic: str, error: KafkaError) -> NoTopicAnswer:
    return NoTopicAnswer(topic, error_verdicts.plain(error.str()), error_verdicts.hold(error.code()))


def missing(topic: str, others: Iterable[str]) -> TopicAnswer:
    """The answer about a topic that does not exist beside `others`."""
    return TopicAnswer(topic, exists=False, way_out=why_refused(topic, others) or program.typed(_CREATE))


def why_refused(topic: str, others: Iterable[str]) -> str:
    """Why Kafka will not create the topic, where a name that it takes for the same exists; or nothing."""
    alike = topic.replace(".", "_")
    for other in others:
        if other != topic and other.replace(".", "_") == alike:
            return (
                f"Kafka refuses to create {topic} beside {other}, since . and _ are the same in its metrics'"
                " names: give the route another topic"
            )
    return ""


def _config(admin: AdminClient, topic: str) -> dict[str, str]:
    """The topic's settings; empty: no permission, or a cluster that does not tell."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        future = admin.describe_configs([resource], request_timeout=_LIMIT_TIMEOUT)[resource]
        return {name: str(entry.value) for name, entry in future.result(_LIMIT_TIMEOUT + 1).items()}
    except (KafkaException, TimeoutError, KeyError, TypeError):
        return {}


def _timestamps(config: Mapping[str, str]) -> str:
    """Which timestamps the topic refuses, as far as it is more than what any topic of Kafka 3.6 does."""
    if config.get("message.timestamp.type") == "LogAppendTime":
        return ""
    names = ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms")
    before, after = (int(config.get(name, _NO_BOUND)) for name in names)
    found = []
    if before < _NO_BOUND:
        found.append(f"older than {DURATION.format(before / 1000)} ({names[0]})")
    if after < _HOUR:
        found.append(f"more than {DURATION.format(after / 1000)} ahead of Kafka's clock ({names[1]})")
    return f"refuses timestamps {' or '.join(found)}" if found else ""


def _without_producing(options: dict[str, Any]) -> dict[str, Any]:
    """Keep the options for connections: a client that produces nothing would warn of the other options."""
    parts = ("security.", "sasl.", "ssl.", "socket.", "broker.", "client.", "enable.ssl", "https.")
    return {name: value for name, value in options.items() if name.startswith(parts)}
