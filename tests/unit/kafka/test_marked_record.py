"""bridge check --send: why a Kafka topic can't be read."""

from confluent_kafka import KafkaError

from bridge.kafka.marked_record import why_unreadable


def test_a_missing_topic_is_no_question_of_rights() -> None:
    missing = why_unreadable("iot.attic", KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    assert missing.startswith("the Kafka topic iot.attic does not exist (create it first")
    denied = why_unreadable("iot.attic", KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    assert "can't be read" in denied
    assert "let the bridge's Kafka user read this topic" in denied
