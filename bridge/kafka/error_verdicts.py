"""What each Kafka error means for the bridge: one table from error codes to verdicts. Pure.

In delivery reports `retriable()` is False for every error, so the code decides. Codes above 0 come from the
broker (Kafka protocol guide, "Error Codes"), codes below 0 from librdkafka (rdkafka.h, rd_kafka_resp_err_t).
"""

import re

from bridge.delivery.results import Hold, Verdict

FATAL = -150
DEFECT = -1000  # the bridge's own; librdkafka's codes end at -200
NO_RESOURCE = -194  # a thread could not be started
TRANSPORT = -195
RESOLVE = -193
AUTHENTICATION = -169
TLS = -181
ALL_BROKERS_DOWN = -187
NO_TOPIC = (3, -188)  # Kafka, or librdkafka, knows no such topic
DENIED = (29, 31)  # the rights on a topic, or on the cluster, do not suffice

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
    31: (
        Verdict.NOT_NOW,
        "no permission on the cluster; allow it: kafka-acls.sh --add --allow-principal User:NAME"
        " --operation IdempotentWrite --cluster",
    ),
    -184: (Verdict.NOT_NOW, "librdkafka's queue is full"),
    76: (Verdict.NOT_NOW, "the brokers do not know this compression.type"),
    DEFECT: (Verdict.INVALID, "the bridge can make no Kafka record of it: {text}"),
    FATAL: (Verdict.PRODUCER_LOST, "the producer no longer works: {text}"),
    -144: (Verdict.PRODUCER_LOST, "the producer was fenced"),
    -151: (Verdict.PRODUCER_LOST, "the producer was closed before it sent the message"),
    -152: (Verdict.PRODUCER_LOST, "the producer was closed before Kafka confirmed the message"),
}

_HOLDS = {3: Hold.MISSING, 29: Hold.FORBIDDEN, 31: Hold.FORBIDDEN}


_FILE = re.compile(
    r"(ssl\.(?:ca|crl|key|certificate)\.location) failed: "
    r"|(?:Failed to open|Error reading|Failed to parse) (ssl\.keystore\.location)"
    r"|`(https\.ca\.location)` must be an existing"
)

# Parts of librdkafka's texts (rdkafka_broker.c), for `plain`.
_PLACE = re.compile(r"^(?:\w+://)?(\S+)/(?:bootstrap|\d+): ")
_ASIDE = re.compile(r" ?\(after \d+ms(?: in state \w+)?(?:, \d+ identical error\(s\) suppressed)?\)")
_FAILED = re.compile(r"Current transaction failed in state \w+: (.+)")
_NOT_ADDED = re.compile(
    r'Failed to add partition "([^"]+)" \[\d+\] to transaction: (.*[Aa]uthorization failed.*)'
)
_DOWN = re.compile(r"(\d+)/(\d+) brokers are down")
_NAME = re.compile(r"Failed to resolve '([^']+)': (.+)")
_CONNECT = re.compile(r"Connect to ipv[46]#\S+ failed: ")
_ORIGIN = re.compile(r"(^|: )(?:Local|Broker): ")
# The connection ended before the broker named its SASL mechanisms (rdkafka_request.c).
_UNANSWERED = "mechanism handshake failed: Local: "


def unusable_file(text: str) -> str:
    """The option whose file librdkafka could not use when it was to build a client; empty: no file's.

    A person can cure a file while the service runs. All other refusals are wrong settings.
    """
    found = _FILE.search(text)
    return found[found.lastindex or 0] if found else ""


def kind(code: int, text: str) -> int:
    """Return `code`, or TLS where librdkafka reports a TLS failure as a lost connection.

    With TLS 1.3 a broker refuses a certificate after the handshake; then only the text names TLS.
    A broker that dies while it is asked for its SASL mechanisms has refused nothing: that is TRANSPORT.
    """
    if code == AUTHENTICATION and _UNANSWERED in text:
        return TRANSPORT
    tls = "certificate verify failed" in text or "SSL alert number" in text
    return TLS if code == TRANSPORT and tls else code


def plain(text: str) -> str:
    """librdkafka's text without its notation, for people: `kafka1:9092: Connection refused`.

    Leaves out the number of the broker, the address behind a name, the state of the connection and where in
    the code the error began.
    """
    if (found := _DOWN.fullmatch(text)) and found[1] != found[2]:
        return "no broker has a connection"  # librdkafka counts later than it decides: 0/4 brokers are down
    text = _ASIDE.sub("", text)
    if found := _NAME.search(text):
        return f"{found[1]} does not resolve: {found[2]}"
    text = _CONNECT.sub("", _PLACE.sub(r"\1: ", text))
    return _ORIGIN.sub(r"\1", text)


def not_added(line: str) -> tuple[str, str] | None:
    """The topic that could not be added to a transaction, and why, by a line of librdkafka's log."""
    found = _NOT_ADDED.search(line)
    return (found[1], plain(found[2])) if found else None


def why_failed(line: str) -> str:
    """Why a transaction can't go on, by a line of librdkafka's log; empty: the line says nothing of that."""
    found = _FAILED.search(line)
    return plain(found[1]) if found else ""


def is_without_brokers(code: int, text: str) -> bool:
    """The client could start no thread for any bootstrap broker. It has sent nothing, and it never will."""
    return code == ALL_BROKERS_DOWN and text == "No brokers configured"


def verdict(code: int) -> Verdict:
    """Return the verdict for a delivery report with this error. An unknown code is retried: NOT_NOW."""
    return _TABLE[code][0] if code in _TABLE else Verdict.NOT_NOW


def hold(code: int) -> Hold:
    """Why the topic's lane is held, if the verdict is NOT_NOW."""
    return _HOLDS.get(code, Hold.REFUSED)


def reason(code: int, text: str, topic: str) -> str:
    """Return the reason for people to read. `text`: librdkafka's text."""
    return (
        _TABLE[code][1].format(topic=topic, text=text) if code in _TABLE else f"{plain(text)} (error {code})"
    )
