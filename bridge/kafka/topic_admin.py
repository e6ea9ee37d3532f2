"""Describes and creates Kafka topics for `bridge topics`. It blocks, and decides nothing."""

import time
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

from bridge.errors import BridgeError
from bridge.kafka import library_log, tls, topic_description
from bridge.kafka.client_errors import ClientErrors
from bridge.kafka.error_verdicts import DENIED, NO_TOPIC, plain
from bridge.kafka.topic_description import Description
from bridge.kafka.topic_lookup import new_admin
from bridge.settings import KafkaSettings

_TIMEOUT = 10.0  # seconds
_LOOK_EVERY = 0.2
# After these answers the topic may exist: another client creates it, or the answer came too late.
_MAYBE_CREATED = (KafkaError.TOPIC_ALREADY_EXISTS, KafkaError.REQUEST_TIMED_OUT, KafkaError._TIMED_OUT)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a new topic gets."""

    partitions: int
    replicas: int
    min_insync: int  # min.insync.replicas


@dataclass(frozen=True, slots=True)
class Cluster:
    """The brokers that Kafka names, and the topics that it shows to the bridge's user.

    `brokers`: how many are up or hold a replica. A broker that is down and holds none is not known.
    """

    brokers: int
    topics: frozenset[str]


class TopicAdmin:
    """A client that asks Kafka about topics, and creates them.

    Raises BridgeError when librdkafka refuses the options, or a file can't be read.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._errors = ClientErrors(settings)
        tls.require_usable(settings)
        self._admin = new_admin(settings, error_cb=self._errors.note, logger=library_log.silent("topics"))

    def cluster(self) -> Cluster:
        """Return brokers and topics. Raises BridgeError with the cause if Kafka does not answer."""
        try:
            # With auto.create.topics.enable a request for one topic would create it. This one creates none.
            found = self._errors.metadata(self._admin, self._admin.poll, _TIMEOUT)
        except KafkaException as error:
            raise BridgeError(self._why(error.args[0])) from None
        holders = (
            replica
            for topic in found.topics.values()
            for partition in topic.partitions.values()
            for replica in partition.replicas
        )
        return Cluster(len({*found.brokers, *holders}), frozenset(found.topics))

    def describe(self, name: str) -> Description | None:
        """Return what Kafka tells of a topic; None: it does not exist. Creates none. Raises BridgeError."""
        try:
            return topic_description.describe(self._admin, name)
        except KafkaException as error:
            code = error.args[0].code()
            if code in NO_TOPIC:
                return None
            if code in DENIED:
                raise BridgeError(
                    denied(self._settings, "see whether the topic exists", "Describe", name)
                ) from None
            raise BridgeError(self._why(error.args[0])) from None
        except NoAnswer:
            raise BridgeError("Kafka does not answer; try again") from None

    def create(self, name: str, shape: Shape) -> bool:
        """Create a topic and wait until each partition has a leader. Raises BridgeError.

        Returns False if another client has created the topic meanwhile; that topic stays as it is.
        """
        topic = NewTopic(
            name,
            num_partitions=shape.partitions,
            replication_factor=shape.replicas,
            config={"min.insync.replicas": str(shape.min_insync)},
        )
        code = None
        try:
            future = self._admin.create_topics(
                [topic], operation_timeout=_TIMEOUT, request_timeout=2 * _TIMEOUT
            )[name]
            future.result(2 * _TIMEOUT + 1)
        except KafkaException as error:
            code = error.args[0].code()
            if code not in _MAYBE_CREATED:
                raise BridgeError(self._why_not_created(error.args[0], name)) from None
        except NoAnswer:
            pass
        self._wait(name)
        return code != KafkaError.TOPIC_ALREADY_EXISTS

    def _wait(self, name: str) -> None:
        """Wait until the topic has its leaders: brokers learn of a new topic from the controller."""
        until = time.monotonic() + _TIMEOUT
        while not (found := self.describe(name)) or not found.partitions or found.leaderless:
            if time.monotonic() < until:
                time.sleep(_LOOK_EVERY)
            elif found:
                return  # a broker that holds the only replica has died: the description says so
            else:
                raise BridgeError(
                    f"Kafka does not show the new topic within {_TIMEOUT:.0f} s; run bridge topics again"
                )

    def _why_not_created(self, error: KafkaError, name: str) -> str:
        said = plain(error.str())
        if error.code() in DENIED:
            return denied(self._settings, "create the topic", "Create", name)
        if error.code() == KafkaError.INVALID_REPLICATION_FACTOR:
            return f"Kafka refuses: {said} (start the other brokers, or choose fewer with --replicas)"
        if error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            return self._why(error)
        return f"Kafka refuses: {said}"

    def _why(self, error: KafkaError) -> str:
        while self._admin.poll(0):  # calls error_cb
            pass
        return self._errors.why(error)


def denied(settings: KafkaSettings, what: str, operation: str, topic: str) -> str:
    """A sentence with the way out, where the bridge's user lacks a right. Pure."""
    user = settings.sasl_username or "NAME"
    server = settings.bootstrap_servers.partition(",")[0]
    return (
        f"Kafka does not allow the bridge's user to {what}; allow it: kafka-acls.sh --bootstrap-server"
        f" {server} --add --allow-principal User:{user} --operation {operation} --topic {topic}"
    )
