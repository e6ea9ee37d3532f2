"""What librdkafka is told. Names and units are those of its CONFIGURATION.md."""

from contextlib import suppress
from logging import getLogger
from typing import Any

from bridge.errors import ConfigurationError
from bridge.settings import KafkaSettings, read_kafka_password

BATCH_SIZE = 500_000  # bytes; below Kafka's default limit of a record batch, 1,048,588
MAX_REQUEST = 100_000_000  # bytes; beyond Kafka's socket.request.max.bytes the broker just hangs up

_OPTIONS: dict[str, str | int | bool] = {
    # The guarantee. Settings that would break it are refused in settings/kafka_options.py.
    "acks": "all",
    "enable.idempotence": True,
    # With more, a request that fails makes the ones behind it fail too (out of order), and librdkafka
    # answers that with a new producer epoch, in which Kafka no longer recognises what another partition
    # sends again (librdkafka issue 4953). What comes meanwhile fills the next request, which costs less.
    "max.in.flight.requests.per.connection": 1,
    # A message that times out in an idempotent producer comes back doubled or out of order. So nothing
    # times out there; what can't be delivered yet is held.
    "message.timeout.ms": 0,
    # Java clients put the same key into the same partition.
    "partitioner": "murmur2_random",
    # A leader that hangs is left after 6 s; with the defaults it takes 46 s and more.
    "request.timeout.ms": 4000,
    "socket.timeout.ms": 5000,
    "reconnect.backoff.max.ms": 500,
    # Bounded by the bridge: at QoS 1 and 2 by the window, at QoS 0 by mqtt.qos0_messages and qos0_bytes.
    "queue.buffering.max.messages": 0,
    "queue.buffering.max.kbytes": 2_147_483_647,
    "message.max.bytes": MAX_REQUEST,
    # A record that is refused takes its batch with it, so what is too large for a batch goes alone.
    "batch.size": BATCH_SIZE,
    "compression.type": "lz4",
    # The window of EMQ is small (32): a wait for more to come would be a wait for nothing.
    "linger.ms": 0,
    "socket.keepalive.enable": True,
    "log.connection.close": False,  # brokers close idle connections; that is no news
    "client.id": "mqtt-kafka-bridge",
}


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """What any client needs to reach the cluster. Raises BridgeError when the password can't be read, and
    ConfigurationError where none is set.
    """
    options: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "logger": getLogger("librdkafka"),
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


def producer_options(settings: KafkaSettings, batch_size: int) -> dict[str, Any]:
    """`batch_size` in bytes, where a topic's limit asks for less than the settings do."""
    return producer_options_of({**client_options(settings), **settings.client_options()}, batch_size)


def producer_options_of(given: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """The same for options as they are. One that librdkafka refuses is left to it to refuse."""
    options = {**_OPTIONS, **given}
    with suppress(ValueError):  # no number
        options["batch.size"] = min(int(str(options["batch.size"])), batch_size)
    return options
