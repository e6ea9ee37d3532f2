"""What `bridge check` asks Kafka: which brokers there are, and whether a topic exists. The calls block."""

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from bridge.delivery.results import NoTopicAnswer, TopicAnswer
from bridge.errors import BridgeError
from bridge.kafka import error_verdicts, tls, topic_lookup
from bridge.settings import KafkaSettings

_TIMEOUT = 10.0  # seconds

_LOG_IN = "check sasl.username and the password against Kafka's users"


class ClusterCheck:
    """A client for `bridge check`.

    Raises BridgeError when librdkafka refuses the options, or a file can't be read.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._errors: dict[int, str] = {}
        tls.require_usable(settings)
        try:
            self._admin = AdminClient(topic_lookup.admin_options(settings) | {"error_cb": self._note})
        except KafkaException as error:
            raise BridgeError(f"librdkafka refuses kafka.options: {error.args[0].str()}") from None

    def brokers(self) -> list[str]:
        """Return host:port of each broker that the cluster reports. Raises BridgeError."""
        try:
            found = self._admin.list_topics(timeout=_TIMEOUT).brokers.values()
        except KafkaException as error:
            raise BridgeError(self._why(error.args[0])) from None
        return sorted(f"{broker.host}:{broker.port}" for broker in found)

    def topic(self, name: str) -> TopicAnswer | NoTopicAnswer:
        try:
            return topic_lookup.look_up(self._admin, name, self._settings.bootstrap_servers)
        except KafkaException as error:
            return NoTopicAnswer(name, self._why(error.args[0]))

    def _note(self, error: KafkaError) -> None:
        self._errors[error_verdicts.kind(error.code(), error.str())] = error.str()

    def _why(self, error: KafkaError) -> str:
        """Return the cause of `error`. `error` is a mere time-out; librdkafka gives the cause to error_cb."""
        while self._admin.poll(0):  # nothing else calls error_cb
            pass
        if error_verdicts.TLS in self._errors:
            return tls.why(self._settings, self._errors[error_verdicts.TLS]).sentence
        if error_verdicts.AUTHENTICATION in self._errors:
            return f"{self._errors[error_verdicts.AUTHENTICATION]} ({_LOG_IN})"
        reason = next(iter(self._errors.values()), error.str())
        return (
            f"{self._settings.bootstrap_servers}: {reason} (do the brokers run, and is the way to them open?)"
        )
