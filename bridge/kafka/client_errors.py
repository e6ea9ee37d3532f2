"""Why a client does not reach Kafka, in a sentence with the way out, for commands that ask Kafka."""

import time
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]

from bridge.kafka import error_verdicts, listeners, tls
from bridge.kafka.error_verdicts import plain
from bridge.kafka.listeners import Listener
from bridge.settings import KafkaSettings

REFUSES_FOR = 2.0  # seconds after which a broker that has refused is not waited for
_POLL = 0.1
_UNREACHED = {error_verdicts.TRANSPORT, error_verdicts.RESOLVE, error_verdicts.ALL_BROKERS_DOWN}


class ClientErrors:
    """The errors that librdkafka has given to a client's error_cb, which is `note`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._errors: dict[str, dict[int, str]] = {}  # by address, "" for all others; by kind
        self._found: dict[str, Listener | None] = {}  # by address, of those that were asked what they are

    def note(self, error: KafkaError) -> None:
        code, text = error.code(), error.str()
        address = listeners.address_in(text)
        self._errors.setdefault(address, {})[error_verdicts.kind(code, text)] = text

    def metadata(
        self,
        client: Producer | Consumer | AdminClient,
        poll: Callable[[float], object],
        seconds: float,
        is_enough: Callable[[], bool] = lambda: False,
    ) -> ClusterMetadata:
        """Ask Kafka for its brokers and topics. It blocks, and creates no topic.

        Raises KafkaException after `seconds`; sooner where each bootstrap server has refused for a while, or
        the caller knows enough. `poll` lets librdkafka call `note`.
        """
        until, patience = time.monotonic() + seconds, REFUSES_FOR
        while True:
            try:
                return client.list_topics(timeout=min(patience, max(_POLL, until - time.monotonic())))
            except KafkaException:
                poll(_POLL)
                if self._all_refuse() or self.fatal or is_enough() or time.monotonic() >= until:
                    raise
            patience *= 2  # the way may be slow

    def _all_refuse(self) -> bool:
        """librdkafka notes no error where a port takes its connections and closes them, so this asks, too."""
        found = listeners.look_at_all(address for address in self._servers if not self.has(address))
        self._found |= found
        for address, listener in found.items():
            if not listener:
                self._errors[address] = {error_verdicts.TRANSPORT: f"{address} does not answer as Kafka does"}
        return not any(found.values())

    @property
    def _servers(self) -> list[str]:
        return listeners.addresses(self._settings.bootstrap_servers)

    def has(self, address: str) -> bool:
        """Whether the broker at host:port has refused, or could not be reached."""
        return address in self._errors

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
        self._found |= listeners.look_at_all(each for each in self._servers if each not in self._found)
        if wrong := listeners.why(self._settings, self._found):
            return wrong
        reason = self._explained(said)
        if said.keys() <= _UNREACHED:  # then the reason is one broker's alone
            reason = "; ".join(text for errors in self._errors.values() for text in _told(errors))
        if reason.endswith(")") and not said.keys() <= _UNREACHED:
            return reason
        if not reason:
            reason = f"{self._settings.bootstrap_servers}: {plain(error.str())}"
        return f"{reason} (do the brokers run, and is the way to them open?)"

    def _explained(self, errors: dict[int, str]) -> str:
        """The most telling of them, in a sentence with its way out; empty: there is none."""
        for text in errors.values():
            if way_out := listeners.explain_words(text):
                return f"{plain(text)} ({way_out})"
        if error_verdicts.TLS in errors:
            return tls.why(self._settings, errors[error_verdicts.TLS]).sentence
        if error_verdicts.AUTHENTICATION in errors:
            return f"{plain(errors[error_verdicts.AUTHENTICATION])} ({listeners.LOG_IN})"
        return next(iter(_told(errors)), "")


def _told(errors: Mapping[int, str]) -> list[str]:
    """The errors in plain words, without the one that adds nothing."""
    return [plain(text) for kind, text in errors.items() if kind != error_verdicts.ALL_BROKERS_DOWN]
