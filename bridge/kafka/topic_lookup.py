"""Asks Kafka whether topics exist and how large a record may be. This blocks, so a thread does it.

Questions that wait together are asked together: a few one by one, many in groups. A group is one request
about its topics and one about the settings of those that exist. Where topics are missing that were missing
before, one request about all topics of the cluster shows which of them exist now. So a thousand missing
topics cost little more than one, and all of them are noticed as soon as somebody has created them.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from random import sample
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

_FEW = 8  # questions that are asked one by one
_GROUP = 25  # topics in one request: the answer takes the interpreter for a few ms
_STAYS = 15.0  # seconds for which the thread and its client wait for questions while many topics are missing
_TOPICS_A_SECOND = 1000  # topics of the cluster that are looked at on average
_BY_NAME = 2  # of the topics that are missing still, so many are asked about by name in a group
_RULES_HOLD = 60.0  # seconds until the brokers are asked again whether they create topics

# The command's long name: /usr/sbin/bridge, which root finds first, is iproute2's.
_CREATE = "sudo mqtt-kafka-bridge topics --create"

# Bytes. max.message.bytes limits a batch: the record, a batch header of 61 bytes and the record's length
# fields (Kafka protocol guide, "Record Batch").
_BATCH_OVERHEAD = 128


class TopicLookup:
    """Looks up topics in a thread.

    The thread calls `tell` with a TopicAnswer or NoTopicAnswer for each topic, and also for topics that were
    missing and that it finds by the way. The thread and its client exist only while there are topics to look
    up, and a little longer while many are missing.
    """

    def __init__(self, settings: KafkaSettings, tell: Callable[[TopicAnswer | NoTopicAnswer], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._questions: SimpleQueue[str] = SimpleQueue()
        self._lock = Lock()
        self._running = False
        # Only the thread uses these.
        self._unanswered: dict[str, None] = {}  # of the questions that were taken from the queue
        self._absent: dict[str, TopicAnswer] = {}  # what was told of topics that are missing
        self._look_at_all = 0.0  # monotonic seconds: when to ask about all topics of the cluster again
        self._all: dict[str, str] = {}  # those topics, by their names with _ for .
        self._creates = True  # a broker creates a missing topic if it is asked about it by name
        self._creates_until = 0.0  # monotonic seconds until which that is known

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
        while topics := self._waiting():
            self._unanswered = dict.fromkeys(topics)
            try:
                if admin is None:  # a client is false: its length is what it has queued
                    admin = new_admin(self._settings)
                many = self._still_missing(admin, topics) if len(self._absent) > _FEW else topics
                if len(many) <= _FEW:
                    for topic in many:
                        self._answer(self._of_one(admin, topic))
                else:
                    self._look_up_many(admin, many)
            except Exception as error:
                for topic in list(self._unanswered):
                    self._answer(_failed(topic, error))

    def _waiting(self) -> list[str]:
        """Return all questions that wait. If there are none, the thread ends."""
        topics: list[str] = []
        if len(self._absent) > _FEW:
            with suppress(Empty):
                topics.append(self._questions.get(timeout=_STAYS))
        with self._lock:
            while not self._questions.empty():
                topics.append(self._questions.get_nowait())
            if not topics:
                self._running = False
        return topics

    def _answer(self, answer: TopicAnswer | NoTopicAnswer) -> None:
        if isinstance(answer, TopicAnswer) and not answer.exists:
            self._absent[answer.topic] = answer
        else:
            self._absent.pop(answer.topic, None)
        self._unanswered.pop(answer.topic, None)
        self._tell(answer)

    def _of_one(self, admin: AdminClient, topic: str) -> TopicAnswer | NoTopicAnswer:
        try:
            return look_up(admin, topic, lambda: self._alike(admin, topic))
        except Exception as error:
            return _failed(topic, error)

    def _still_missing(self, admin: AdminClient, topics: Sequence[str]) -> list[str]:
        """Answer for topics that are still missing. Returns those to look up, with others that exist now."""
        again = [topic for topic in topics if topic in self._absent]
        wanted = [topic for topic in topics if topic not in self._absent]
        if not again:
            return wanted
        known = set(self._known(admin).values())
        wanted += [topic for topic in self._absent if topic in known]
        missing_still = [topic for topic in again if topic not in known]
        # A broker may create it, or hide it from the list. The same topics come together again and again.
        by_name = set(sample(missing_still, min(_BY_NAME, len(missing_still))))
        for topic in missing_still:
            self._answer(self._of_one(admin, topic) if topic in by_name else self._absent[topic])
        return wanted

    def _alike(self, admin: AdminClient, topic: str) -> list[str]:
        """The topic of the cluster that Kafka takes for the same, if there is one."""
        name = self._known(admin).get(topic.replace(".", "_"))
        return [name] if name else []

    def _known(self, admin: AdminClient) -> dict[str, str]:
        """The topics of the cluster as of a moment ago, by their names with _ for dots."""
        now = time.monotonic()
        if now >= self._look_at_all:
            names = list(admin.list_topics(timeout=_TIMEOUT).topics)
            self._all = {name.replace(".", "_"): name for name in names}
            self._look_at_all = now + len(names) / _TOPICS_A_SECOND
        return self._all

    def _may_create(self, admin: AdminClient) -> bool:
        """Whether a broker may create a missing topic if it is asked about it by name."""
        now = time.monotonic()
        if now >= self._creates_until:
            self._creates, self._creates_until = _creates_topics(admin), now + _RULES_HOLD
        return self._creates

    def _look_up_many(self, admin: AdminClient, topics: Sequence[str]) -> None:
        for begin in range(0, len(topics), _GROUP):
            there: list[str] = []
            group = topics[begin : begin + _GROUP]
            for topic, future in admin.describe_topics(
                TopicCollection(list(group)), request_timeout=_TIMEOUT
            ).items():
                try:
                    future.result(_TIMEOUT + 1)
                    there.append(topic)
                except KafkaException as error:
                    if error.args[0].code() not in error_verdicts.NO_TOPIC:
                        self._answer(_no_answer(topic, error.args[0]))
                    elif topic not in self._absent and self._may_create(admin):
                        self._answer(self._of_one(admin, topic))
                    else:
                        self._answer(missing(topic, self._alike(admin, topic)))
            for topic, config in _configs(admin, there).items():
                self._answer(_exists(topic, config))


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


def look_up(
    admin: AdminClient, topic: str, others: Callable[[], Iterable[str]] | None = None
) -> TopicAnswer | NoTopicAnswer:
    """Ask Kafka about one topic. Raises KafkaException where the cluster does not answer.

    `others` returns topics that may have a name like this one; without it all of the cluster are asked for.
    """
    # With auto.create.topics.enable the brokers create the missing topic on this request.
    found = admin.list_topics(topic, timeout=_TIMEOUT).topics[topic]
    if found.error is not None:
        if found.error.code() not in error_verdicts.NO_TOPIC:
            return _no_answer(topic, found.error)
        return missing(topic, others() if others else admin.list_topics(timeout=_TIMEOUT).topics)
    return _exists(topic, _configs(admin, [topic])[topic])


def _failed(topic: str, error: Exception) -> NoTopicAnswer:
    why = error_verdicts.plain(error.args[0].str()) if isinstance(error, KafkaException) else str(error)
    return NoTopicAnswer(topic, why or type(error).__name__)


def _exists(topic: str, config: Mapping[str, str]) -> TopicAnswer:
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
            if error.args[0].code() in error_verdicts.NO_TOPIC:
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


def _configs(admin: AdminClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings of each topic; empty: no permission, or a cluster that does not tell."""
    found: dict[str, dict[str, str]] = {topic: {} for topic in topics}
    resources = {ConfigResource(ResourceType.TOPIC, topic): topic for topic in topics}
    if not resources:
        return found
    with suppress(KafkaException, TypeError):
        futures = admin.describe_configs(list(resources), request_timeout=_LIMIT_TIMEOUT)
        for resource, future in futures.items():
            with suppress(KafkaException, TimeoutError, KeyError, TypeError):
                entries = future.result(_LIMIT_TIMEOUT + 1)
                found[resource.name] = {name: str(entry.value) for name, entry in entries.items()}
    return found


def _creates_topics(admin: AdminClient) -> bool:
    """Whether the brokers have auto.create.topics.enable. True also where that is not known."""
    try:
        cluster = admin.describe_cluster(request_timeout=_LIMIT_TIMEOUT).result(_LIMIT_TIMEOUT + 1)
        resource = ConfigResource(ResourceType.BROKER, str(cluster.nodes[0].id))
        future = admin.describe_configs([resource], request_timeout=_LIMIT_TIMEOUT)[resource]
        entries = future.result(_LIMIT_TIMEOUT + 1)
        return bool(entries["auto.create.topics.enable"].value != "false")
    except (KafkaException, TimeoutError, LookupError, TypeError):
        return True


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
