"""Why a client does not reach Kafka, in a sentence with the way out, for commands that ask Kafka."""

from confluent_kafka import KafkaError

from bridge.kafka import error_verdicts, listeners, tls
from bridge.settings import KafkaSettings

_UNREACHED = {error_verdicts.TRANSPORT, error_verdicts.RESOLVE, error_verdicts.ALL_BROKERS_DOWN}


class ClientErrors:
    """The errors that librdkafka has given to a client's error_cb, which is `note`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._errors: dict[str, dict[int, str]] = {}  # by address, "" for all others; by kind

    def note(self, error: KafkaError) -> None:
        code, text = error.code(), error.str()
        address = listeners.address_in(text)
        self._errors.setdefault(address, {})[error_verdicts.kind(code, text)] = text

    def note_fatal(self, text: str) -> None:
        self._errors.setdefault("", {})[error_verdicts.FATAL] = text

    @property
    def fatal(self) -> str:
        """The error that has ended the client; empty: there is none."""
        return self._errors.get("", {}).get(error_verdicts.FATAL, "")

    def of(self, address: str) -> str:
        """Return the most telling error of the broker at host:port; empty: there is none."""
        return self._explained(self._errors.get(address, {}))

    def why(self, error: KafkaError) -> str:
        """Return the cause of `error`, which is often a mere time-out. Poll the clients first.

        This function blocks, because it asks each address which kind of listener answers there.
        """
        said = {kind: text for errors in self._errors.values() for kind, text in errors.items()}
        if wrong := listeners.why(self._settings):
            return wrong
        reason = self._explained(said)
        if reason.endswith(")") and not said.keys() <= _UNREACHED:
            return reason
        return (
            f"{self._settings.bootstrap_servers}: {reason or error.str()} (do the brokers run, and is the way"
            " to them open?)"
        )

    def _explained(self, errors: dict[int, str]) -> str:
        """The most telling of them, in a sentence with its way out; empty: there is none."""
        for text in errors.values():
            if way_out := listeners.explain_words(text):
                return f"{text} ({way_out})"
        if error_verdicts.TLS in errors:
            return tls.why(self._settings, errors[error_verdicts.TLS]).sentence
        if error_verdicts.AUTHENTICATION in errors:
            return f"{errors[error_verdicts.AUTHENTICATION]} ({listeners.LOG_IN})"
        others = [text for kind, text in errors.items() if kind != error_verdicts.ALL_BROKERS_DOWN]
        return others[0] if others else ""
