"""What `bridge check` asks of Kafka with delivery exactly-once. It blocks.

A transactional id is never tried as the service has it: Kafka would fence the running service.
"""

from concurrent.futures import TimeoutError as NoAnswer
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

from bridge.kafka import library_log
from bridge.kafka.error_verdicts import DENIED
from bridge.kafka.options import BATCH_SIZE, not_built, producer_options
from bridge.kafka.topic_lookup import admin_options, new_admin
from bridge.settings import KafkaSettings

_TIMEOUT = 10.0  # seconds
_FORBIDDEN = KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


def why_not_group(settings: KafkaSettings, group: str) -> str:
    """Why the bridge can't read its number in this group; empty: it can.

    Raises BridgeError when librdkafka refuses the options.
    """
    own = {"group.id": group, "enable.auto.commit": False, "logger": library_log.silent("check")}
    try:
        consumer = Consumer(admin_options(settings) | own)
    except KafkaException as error:
        raise not_built(error) from None
    try:  # not by an admin client, for the reason that transactional_producer.py gives
        topics = consumer.list_topics(timeout=_TIMEOUT).topics
        asked = [TopicPartition(topic, 0) for topic in topics]
        for each in consumer.committed(asked, timeout=_TIMEOUT) if asked else ():
            if each.error:
                return str(each.error.str())
    except KafkaException as error:
        told = consumer.poll(0.1)  # what is told there is the cause of a mere time-out
        cause = told.error() if told else None
        return str((cause or error.args[0]).str())
    finally:
        consumer.close()
    return ""


def why_no_transaction(settings: KafkaSettings, transactional_id: str) -> tuple[str, bool]:
    """Why Kafka opens no transaction for this id, and whether its access rules forbid it; empty: it does.

    Whoever uses the id is fenced. Raises BridgeError when librdkafka refuses the options.
    """
    own = {"transactional.id": transactional_id, "logger": library_log.silent("check")}
    try:
        producer = Producer(producer_options(settings, BATCH_SIZE) | own)
    except KafkaException as error:
        raise not_built(error) from None
    try:
        producer.init_transactions(_TIMEOUT)
    except KafkaException as error:
        return error.args[0].str(), error.args[0].code() == _FORBIDDEN
    finally:
        with suppress(KafkaException, RuntimeError):
            producer.close()
    return "", False


def settings_of_brokers(settings: KafkaSettings) -> dict[int, dict[str, str]] | str:
    """The settings of each broker that answers, by its number; or why Kafka does not tell them.

    librdkafka tells no program which version a broker has. Raises BridgeError when it refuses the options.
    """
    admin = new_admin(settings, logger=library_log.silent("check"))
    found = {}
    try:
        for number in sorted(admin.list_topics(timeout=_TIMEOUT).brokers):
            resource = ConfigResource(ResourceType.BROKER, str(number))
            future = admin.describe_configs([resource], request_timeout=_TIMEOUT)[resource]
            found[number] = {key: str(entry.value) for key, entry in future.result(_TIMEOUT + 1).items()}
    except KafkaException as error:
        if error.args[0].code() in DENIED:
            return "the bridge's user lacks DESCRIBE_CONFIGS on the cluster"
        return str(error.args[0].str())
    except NoAnswer:
        return "Kafka does not answer"
    return found
