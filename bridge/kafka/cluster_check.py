"""What `bridge check` asks of Kafka: who is there, can the bridge reach each of them, does a topic exist.

The clients are built with the options of the service, and each broker is connected to at the address that it
advertises, as the service does it: TLS, SASL and all. It blocks.
"""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from bridge.delivery.results import NoTopicAnswer, TopicAnswer
from bridge.errors import BridgeError
from bridge.kafka import library_log, listeners, tls, topic_description, topic_lookup
from bridge.kafka.client_errors import REFUSES_FOR, ClientErrors
from bridge.kafka.listeners import Listener
from bridge.kafka.options import BATCH_SIZE, not_built, producer_options
from bridge.kafka.topic_description import Description
from bridge.settings import KafkaSettings

_TIMEOUT = 10.0  # seconds
_LOOK_EVERY = 0.2
_UP = ("UP", "UPDATE")  # librdkafka's states of a broker that a client is connected and logged in to


@dataclass(frozen=True)
class Reached:
    """A broker at its advertised address. `why_not` is empty where the bridge gets in there."""

    address: str
    why_not: str


class ClusterCheck:
    """A client for `bridge check`.

    Raises BridgeError when librdkafka refuses the options, or a file can't be read.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._errors = ClientErrors(settings)
        self._states: dict[str, str] = {}  # by address
        self._may_produce = False
        logger = library_log.silent("check")
        tls.require_usable(settings)
        own: dict[str, Any] = {
            "enable.sparse.connections": False,  # to all brokers at once
            "statistics.interval.ms": round(_LOOK_EVERY * 1000),
            "stats_cb": self._look,
            "error_cb": self._errors.note,
            "logger": logger,
        }
        try:
            self._producer = Producer(producer_options(settings, BATCH_SIZE) | own)
        except KafkaException as error:
            raise not_built(error) from None
        self._admin = topic_lookup.new_admin(settings, error_cb=self._errors.note, logger=logger)

    def close(self) -> None:
        with suppress(KafkaException):  # a fatal error: brokers() has told of it
            self._producer.close()

    def brokers(self) -> list[Reached]:
        """Return each broker of the cluster, at the address that it advertises. Raises BridgeError."""
        try:
            found = self._errors.metadata(
                self._producer, self._poll, _TIMEOUT, lambda: bool(self._states)
            ).brokers.values()
        except KafkaException as error:
            # librdkafka leaves the bootstrap connection as soon as it knows the advertised addresses. If it
            # reaches none of these, it may have nobody to ask any more; its statistics name them then.
            known_by = time.monotonic() + 5 * _LOOK_EVERY
            while not self._states and time.monotonic() < known_by:
                self._poll(_LOOK_EVERY)
            if not self._states:
                raise BridgeError(self._why(error.args[0])) from None
            addresses = sorted(self._states)
        else:
            addresses = sorted(f"{broker.host}:{broker.port}" for broker in found)
        began = time.monotonic()
        while not self._is_decided(addresses, time.monotonic() - began):
            self._poll(_LOOK_EVERY)
        looked = listeners.look_at_all(address for address in addresses if not self._is_up(address))
        return [Reached(address, self._why_not(address, looked.get(address))) for address in addresses]

    def _is_decided(self, addresses: list[str], waited: float) -> bool:
        """Whether waiting longer shows no more: each broker is up, or has refused for a while."""
        away = [address for address in addresses if not self._is_up(address)]
        if waited >= _TIMEOUT or (self._may_produce and not away):
            return True
        refused = waited >= REFUSES_FOR and all(map(self._errors.has, away))
        return bool(away) and refused and (self._may_produce or len(away) == len(addresses))

    def why_no_producer_id(self) -> str:
        """Return why the bridge could produce nothing although brokers let it in; empty: it could.

        Call brokers() first, which waits for the id. An idempotent producer sends nothing before Kafka
        has given it a producer id.
        """
        if self._may_produce:
            return ""
        if self._errors.fatal:
            user = self._settings.sasl_username or "ANONYMOUS"
            return (
                f"Kafka gives the bridge no producer id: {self._errors.fatal} (allow User:{user} to write to"
                f" the topics; before Kafka 2.8 also: kafka-acls.sh ... --add --allow-principal User:{user}"
                " --operation IdempotentWrite --cluster)"
            )
        return (
            f"Kafka has given the bridge no producer id within {_TIMEOUT:.0f} s, so it can produce nothing"
            f" ({library_log.START_CONTROLLERS})"
        )

    def topic(self, name: str) -> TopicAnswer | NoTopicAnswer:
        try:
            return topic_lookup.look_only(self._admin, name)
        except KafkaException as error:
            return NoTopicAnswer(name, self._why(error.args[0]))
        except TimeoutError:
            return NoTopicAnswer(name, "Kafka does not answer")

    def describe(self, name: str) -> Description | None:
        """Return what Kafka tells of an existing topic; None: it tells nothing."""
        try:
            return topic_description.describe(self._admin, name)
        except KafkaException:
            return None

    def _poll(self, seconds: float) -> int:
        try:
            return self._producer.poll(seconds)
        except (KafkaException, SystemError) as fatal:  # it is raised instead of being told to error_cb
            cause = fatal if isinstance(fatal, KafkaException) else fatal.__cause__
            self._errors.note_fatal(cause.args[0].str() if isinstance(cause, KafkaException) else str(fatal))
            return 0

    # -- what librdkafka tells -------------------------------------------------------------------------

    def _look(self, statistics: str) -> None:
        found = json.loads(statistics)
        self._may_produce = found.get("eos", {}).get("idemp_state") == "Assigned"
        for broker in found["brokers"].values():
            if broker["nodeid"] >= 0:
                self._states[broker["name"].rpartition("/")[0]] = broker["state"]

    def _is_up(self, address: str) -> bool:
        return self._states.get(address) in _UP

    def _why_not(self, address: str, found: Listener | None) -> str:
        if self._is_up(address):
            return ""
        if found and (wrong := listeners.explain(address, found, self._settings.client_options())):
            return wrong
        reason = self._errors.of(address).removeprefix(f"{address}: ") or "it does not answer"
        return (
            f"{reason}. The bridge uses the address that the broker advertises: advertised.listeners in its"
            " server.properties must name one that this machine reaches"
        )

    def _why(self, error: KafkaError) -> str:
        """Return the cause of `error`. `error` is a mere time-out; librdkafka gives the cause to error_cb."""
        while self._admin.poll(0) or self._poll(0):  # nothing else calls error_cb
            pass
        return self._errors.why(error)
