"""Logs what librdkafka says that is not of one message, with the way out: each kind once a minute."""

import time

from bridge import program
from bridge.errors import BridgeError
from bridge.kafka import error_verdicts, listeners, tls
from bridge.kafka.error_verdicts import plain
from bridge.observe.events import Event, log
from bridge.settings import KafkaSettings, read_kafka_password

_SAY_AGAIN_AFTER = 60.0  # seconds between two log lines about the same kind of error
_LISTENER = -2000  # beside the codes of librdkafka's errors
_EVENTS = {
    error_verdicts.ALL_BROKERS_DOWN: Event.KAFKA_ALL_BROKERS_DOWN,
    error_verdicts.FATAL: Event.KAFKA_FATAL,
}
_IF_IT_LASTS = {
    error_verdicts.RESOLVE: "if this lasts, correct the name in kafka.bootstrap_servers or in the broker's"
    " advertised.listeners, or this machine's name resolution",
    error_verdicts.ALL_BROKERS_DOWN: "start Kafka, or correct kafka.bootstrap_servers;"
    " sudo mqtt-kafka-bridge check tries each address",
    error_verdicts.FATAL: "nothing: the bridge replaces the producer",
}
_NEEDED = "nothing while flow.minute shows `delivered`; else sudo mqtt-kafka-bridge check tries each broker"


class ErrorLog:
    """`again_at`: when a kind of error is logged again, in monotonic seconds."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.again_at: dict[int, float] = {}

    def report(self, kind: int, text: str) -> bool:
        """Log an error of librdkafka. Returns False if its kind was logged within the last minute."""
        if kind == error_verdicts.TLS:
            if is_due := self.is_due(kind):
                tls.report_in_background(self._settings, text)
            return is_due
        way_out = listeners.explain_words(text)
        if kind == error_verdicts.AUTHENTICATION:
            way_out = way_out or listeners.LOG_IN
            return self.say(kind, Event.KAFKA_AUTHENTICATION_FAILED, reason=plain(text), way_out=way_out)
        if way_out:
            return self.say(_LISTENER, Event.KAFKA_WRONG_LISTENER, reason=f"{plain(text)} ({way_out})")
        way_out = program.typed(_IF_IT_LASTS.get(kind, _NEEDED))
        return self.say(kind, _EVENTS.get(kind, Event.KAFKA_ERROR), reason=plain(text), way_out=way_out)

    def say(self, kind: int, event: Event, **fields: object) -> bool:
        """Log an event, unless one of its kind was logged within the last minute. Returns whether it was."""
        if is_due := self.is_due(kind):
            log(event, **fields)
        return is_due

    def is_due(self, kind: int) -> bool:
        """Whether to say something of this kind now: at most once a minute."""
        now = time.monotonic()
        if now < self.again_at.get(kind, 0.0):
            return False
        self.again_at[kind] = now + _SAY_AGAIN_AFTER
        return True


def password_again(settings: KafkaSettings) -> tuple[str, str] | None:
    """User and password, read anew; None: there are none, or the file can't be read, which is logged."""
    try:
        password = read_kafka_password(settings)
    except BridgeError as error:
        log(Event.KAFKA_FILES_UNUSABLE, reason=str(error))
        return None
    username = settings.sasl_username
    return (username, password) if username and password else None
