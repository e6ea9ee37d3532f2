"""What each Kafka error means for the bridge. Pure: codes in, verdicts out, one table.

`retriable()` of a delivery report's error is False for every error, so they are told apart by code:
those above 0 come from the broker (Kafka protocol guide, "Error Codes"), those below from librdkafka
(rdkafka.h, rd_kafka_resp_err_t).
"""

from bridge.delivery.results import Verdict

FATAL = -150
DEFECT = -1000  # the bridge's own; librdkafka's codes end at -200
NO_RESOURCE = -194  # a thread could not be started
TRANSPORT = -195
RESOLVE = -193
AUTHENTICATION = -169
TLS = -181
ALL_BROKERS_DOWN = -187

_TABLE = {
    10: (Verdict.TOO_LARGE, "larger than the topic's max.message.bytes"),
    18: (Verdict.TOO_LARGE, "larger than a segment of the topic"),
    32: (Verdict.BAD_TIMESTAMP, "the topic refuses its timestamp"),
    87: (Verdict.INVALID, "the topic refuses it as invalid (a compacted topic wants a key)"),
    3: (Verdict.NOT_NOW, "the topic does not exist"),
    17: (Verdict.NOT_NOW, "the topic can't be written by clients"),
    29: (
        Verdict.NOT_NOW,
        "no permission to write the topic; allow it: kafka-acls.sh --add --allow-principal User:NAME"
        " --producer --topic {topic}",
    ),
    31: (Verdict.NOT_NOW, "no permission on the cluster; allow it: kafka-acls.sh --add --cluster"),
    -184: (Verdict.NOT_NOW, "librdkafka's queue is full"),
    76: (Verdict.NOT_NOW, "the brokers do not know this compression.type"),
    DEFECT: (Verdict.INVALID, "the bridge can make no Kafka record of it: {text}"),
    FATAL: (Verdict.PRODUCER_LOST, "the producer can do no more: {text}"),
    -144: (Verdict.PRODUCER_LOST, "the producer was fenced"),
    -151: (Verdict.PRODUCER_LOST, "purged"),
    -152: (Verdict.PRODUCER_LOST, "purged"),
}


def kind(code: int, text: str) -> int:
    """`code`, or TLS where librdkafka calls it a mere loss of the connection.

    With TLS 1.3 a broker refuses a certificate after the handshake; only the text tells.
    """
    tls = "certificate verify failed" in text or "SSL alert number" in text
    return TLS if code == TRANSPORT and tls else code


def is_without_brokers(code: int, text: str) -> bool:
    """The client could start no thread for any bootstrap broker. It has sent nothing, and it never will."""
    return code == ALL_BROKERS_DOWN and text == "No brokers configured"


def verdict(code: int) -> Verdict:
    """What a delivery report with this error says. In doubt: not now, so nothing is given up."""
    return _TABLE[code][0] if code in _TABLE else Verdict.NOT_NOW


def reason(code: int, text: str, topic: str) -> str:
    """For people. `text` is librdkafka's own."""
    return _TABLE[code][1].format(topic=topic, text=text) if code in _TABLE else f"{text} (error {code})"
