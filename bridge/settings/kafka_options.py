"""[kafka.options]: any librdkafka setting, but for those that break the guarantee or do nothing here.

Names and meanings: CONFIGURATION.md of librdkafka. Whether a name exists at all only librdkafka knows;
it is asked when the producer is built.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

Option = str | int | float | bool | SecretStr


@dataclass(frozen=True)
class Refusal:
    """`names` (aliases of one setting) may only be what `allows` lets pass; `only` says it in words."""

    names: tuple[str, ...]
    reason: str
    only: str = ""  # empty: not at all
    allows: Callable[[str], bool] = lambda _: False


def _one_of(*texts: str) -> Callable[[str], bool]:
    return lambda text: text in texts


_FOREVER = 2147483647  # librdkafka's own default for retries

REFUSALS = (
    Refusal(
        ("bootstrap.servers", "metadata.broker.list"),
        "it is kafka.bootstrap_servers",
    ),
    Refusal(
        ("acks", "request.required.acks"),
        "EMQ forgets a message once Kafka has acknowledged it, so all in-sync replicas must hold it by then",
        "all or -1",
        _one_of("all", "-1"),
    ),
    Refusal(
        ("enable.idempotence",),
        "without it a retry inside librdkafka doubles messages and breaks their order",
        "true",
        _one_of("true"),
    ),
    Refusal(
        ("message.timeout.ms", "delivery.timeout.ms"),
        "a message that times out in an idempotent producer comes back doubled or out of order; the bridge"
        " holds it instead",
        "0, which means never",
        _one_of("0"),
    ),
    Refusal(
        ("retries", "message.send.max.retries"),
        "a message that the producer gives up comes back doubled or out of order; the bridge holds it"
        " instead",
        str(_FOREVER),
        _one_of(str(_FOREVER)),
    ),
    Refusal(
        ("max.in.flight.requests.per.connection", "max.in.flight"),
        "of several requests the later ones fail with the first, and what is sent again then may be doubled",
        "1",
        _one_of("1"),
    ),
    Refusal(
        ("queuing.strategy",),
        "anything else breaks the order",
        "fifo",
        _one_of("fifo"),
    ),
    Refusal(
        ("enable.gapless.guarantee",),
        "one message that Kafka refuses would then end the producer, again and again",
        "false",
        _one_of("false"),
    ),
    Refusal(
        ("delivery.report.only.error",),
        "the bridge acknowledges a message to EMQ when its delivery is reported; with this none ever"
        " would be",
    ),
    Refusal(
        ("message.max.bytes",),
        "what is too large is for the topic's max.message.bytes to say, and Kafka is asked for it",
    ),
    Refusal(
        ("transactional.id", "transaction.timeout.ms"),
        "the bridge opens no transactions, and such a producer takes nothing outside of one",
    ),
    Refusal(
        ("test.mock.num.brokers", "test.mock.broker.rtt"),
        "librdkafka would acknowledge everything from a Kafka in its own memory",
    ),
    Refusal(
        ("statistics.interval.ms",),
        "nobody listens to librdkafka's statistics here: it would cost time and show nothing",
        "0",
        _one_of("0"),
    ),
    Refusal(
        ("log.queue", "enabled_events", "opaque", "default.topic.config", "internal.termination.signal"),
        "this one is the bridge's own",
    ),
)

_BY_NAME = {name: refusal for refusal in REFUSALS for name in refusal.names}

# What librdkafka would ignore in a producer with no more than a line in its log.
CONSUMER_ONLY = frozenset(
    {
        "auto.commit.enable",
        "auto.commit.interval.ms",
        "auto.offset.reset",
        "check.crcs",
        "consume.callback.max.messages",
        "coordinator.query.interval.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "group.protocol.type",
        "group.remote.assignor",
        "heartbeat.interval.ms",
        "isolation.level",
        "max.partition.fetch.bytes",
        "max.poll.interval.ms",
        "offset.store.method",
        "offset.store.path",
        "offset.store.sync.interval.ms",
        "partition.assignment.strategy",
        "session.timeout.ms",
    }
)
_CONSUMER_PREFIXES = ("fetch.", "queued.")


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Join what TOML takes apart: `linger.ms = 5` without quotes is a table `linger` that holds `ms`."""
    joined: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            joined |= flat(value, f"{prefix}{name}.")
        else:
            joined[prefix + name] = value
    return joined


def is_secret(name: str) -> bool:
    """Whether the value of such a name must never be shown. In doubt it is a secret."""
    name = name.lower()
    return any(
        part in name
        for part in ("password", "secret", "passphrase", "key.pem", "token", "oauthbearer.config")
    )


def why_refused(name: str, value: Option) -> str | None:
    """One sentence about what is wrong with `name = value`, or None."""
    if name.endswith("_cb") or name == "on_delivery":
        return "not allowed: this one is the bridge's own"
    if name in CONSUMER_ONLY or name.startswith(_CONSUMER_PREFIXES):
        return "not allowed: it is for consumers, and a producer ignores it"
    refusal = _BY_NAME.get(name)
    if refusal is None or refusal.allows(str(value).strip().lower()):
        return None
    return f"{f'only {refusal.only} is allowed' if refusal.only else 'not allowed'}: {refusal.reason}"
