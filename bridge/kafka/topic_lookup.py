"""Asks Kafka whether a topic exists and how large a record may be. This blocks, so a thread does it."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from bridge.delivery.results import NoTopicAnswer, TopicAnswer
from bridge.kafka.options import client_options
from bridge.settings import KafkaSettings

_TIMEOUT = 5.0  # seconds for an answer
_LIMIT_TIMEOUT = 2.0  # seconds; shorter, because the bridge works without the limit

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
        Thread(target=self._work, name="topics", daemon=True).start()

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
                admin = admin or AdminClient(admin_options(self._settings))
                answer: TopicAnswer | NoTopicAnswer = look_up(admin, topic, self._settings.bootstrap_servers)
            except KafkaException as error:
                answer = NoTopicAnswer(topic, str(error.args[0].str()))
            except Exception as error:
                answer = NoTopicAnswer(topic, str(error) or type(error).__name__)
            self._tell(answer)


def admin_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the options of a client that only asks. Raises BridgeError when the password can't be read."""
    return {**client_options(settings), **_without_producing(settings.client_options())}


def look_up(admin: AdminClient, topic: str, bootstrap_servers: str) -> TopicAnswer | NoTopicAnswer:
    """Ask Kafka about one topic. Raises KafkaException where the cluster does not answer."""
    # With auto.create.topics.enable the brokers create the missing topic on this request.
    found = admin.list_topics(topic, timeout=_TIMEOUT).topics[topic]
    if found.error is not None:
        missing = found.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
        if not missing:
            return NoTopicAnswer(topic, found.error.str())
        way_out = (
            f"kafka-topics.sh --bootstrap-server {bootstrap_servers.partition(',')[0]} --create"
            f" --topic {topic} --partitions 3 --replication-factor 3"
        )
        return TopicAnswer(topic, exists=False, way_out=way_out)
    return TopicAnswer(topic, exists=True, limit=_limit(admin, topic))


def _limit(admin: AdminClient, topic: str) -> int | None:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        future = admin.describe_configs([resource], request_timeout=_LIMIT_TIMEOUT)[resource]
        config = future.result(_LIMIT_TIMEOUT + 1)
        return int(config["max.message.bytes"].value) - _BATCH_OVERHEAD
    except (KafkaException, TimeoutError, KeyError, TypeError):
        return None  # no permission, or the cluster does not answer


def _without_producing(options: dict[str, Any]) -> dict[str, Any]:
    """Keep the options for connections: a client that produces nothing would warn of the other options."""
    parts = ("security.", "sasl.", "ssl.", "socket.", "broker.", "client.", "enable.ssl", "https.")
    return {name: value for name, value in options.items() if name.startswith(parts)}
