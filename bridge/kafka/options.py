"""The options that librdkafka gets. Names and units are those of librdkafka's CONFIGURATION.md."""

from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaException

from bridge.errors import BridgeError, ConfigurationError, NoThread
from bridge.kafka import error_verdicts, library_log
from bridge.settings import KafkaSettings, read_kafka_password

BATCH_SIZE = 500_000  # bytes; below Kafka's default limit of a record batch, 1,048,588
MAX_REQUEST = 100_000_000  # bytes; a broker just closes the connection beyond its socket.request.max.bytes

_OPTIONS: dict[str, str | int | bool] = {
    # These two make the guarantee. settings/kafka_options.py refuses settings that would break it.
    "acks": "all",
    "enable.idempotence": True,
    # With more, a request that fails makes the requests behind it fail too (out of order). librdkafka then
    # begins a new producer epoch, in which Kafka does not recognise records that another partition sends
    # again (librdkafka issue 4953). With one, messages that come meanwhile fill the next request: cheaper.
    "max.in.flight.requests.per.connection": 1,
    # If a message timed out in an idempotent producer, producing it again would duplicate or reorder it. So
    # messages never time out in librdkafka; the bridge holds messages that can't be delivered yet.
    "message.timeout.ms": 0,
    # As Java clients do: both put the same key into the same partition.
    "partitioner": "murmur2_random",
    # librdkafka leaves a hanging leader after 6 s; with the defaults after 46 s or more.
    "request.timeout.ms": 4000,
    "socket.timeout.ms": 5000,
    "reconnect.backoff.max.ms": 500,
    # The bridge limits the queue: QoS 1 and 2 by the window, QoS 0 by mqtt.qos0_messages and qos0_bytes.
    "queue.buffering.max.messages": 0,
    "queue.buffering.max.kbytes": 2_147_483_647,
    "message.max.bytes": MAX_REQUEST,
    # With a bad record Kafka refuses its whole batch; a record larger than this gets a batch of its own.
    "batch.size": BATCH_SIZE,
    "compression.type": "lz4",
    # EMQ's window is small (32): EMQ sends no more before an acknowledgement, so waiting gains nothing.
    "linger.ms": 0,
    "socket.keepalive.enable": True,
    "log.connection.close": False,  # brokers close idle connections, which is normal
    "client.id": "mqtt-kafka-bridge",
}


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """The options that any client needs to connect. Raises BridgeError when the password can't be read, and
    ConfigurationError when none is set.
    """
    options: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "logger": library_log.of_the_service(),
        **{name: _OPTIONS[name] for name in ("socket.keepalive.enable", "log.connection.close", "client.id")},
    }
    if password := read_kafka_password(settings):
        options["sasl.password"] = password
    elif settings.sasl_username and "sasl.password" not in settings.options:
        raise ConfigurationError(
            "kafka.options: sasl.username wants a password: name its file in kafka.password_file, or put it"
            " where systemd provides it (/etc/credstore/mqtt-kafka-bridge.kafka-password)"
        )
    return options


def not_built(error: KafkaException) -> BridgeError:
    """Why librdkafka has built no client: no thread, a file that may still come, or else a wrong option."""
    problem = error.args[0]
    if problem.code() == error_verdicts.NO_RESOURCE:
        return NoThread()
    text = str(problem.str()).strip().removeprefix("Failed to create producer: ")
    if name := error_verdicts.unusable_file(text):
        return BridgeError(f"{text} (put the right file where kafka.options.{name} names it)")
    return ConfigurationError(f"kafka.options: librdkafka refuses them: {text}")


def producer_options(settings: KafkaSettings, batch_size: int) -> dict[str, Any]:
    """All options of a producer. `batch_size`: bytes; an upper limit for the settings' batch.size."""
    return producer_options_of({**client_options(settings), **settings.client_options()}, batch_size)


def producer_options_of(given: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """The same for options as they are. One that librdkafka refuses is left to it to refuse."""
    options = {**_OPTIONS, **given}
    with suppress(ValueError):  # no number
        options["batch.size"] = min(int(str(options["batch.size"])), batch_size)
    return options
