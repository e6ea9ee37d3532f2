"""[kafka.options]: refuses the librdkafka settings that break the guarantee or have no effect here.

CONFIGURATION.md of librdkafka lists names and meanings. Only librdkafka knows whether a name exists;
librdkafka reports an unknown name when the bridge builds the producer.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from bridge.settings.section import why_unexpanded

Option = str | int | float | bool | SecretStr


@dataclass(frozen=True)
class Refusal:
    """A setting with aliases `names`. `allows` accepts the allowed values, `only` describes them."""

    names: tuple[str, ...]
    reason: str
    only: str = ""  # empty: no value is allowed
    allows: Callable[[str], bool] = lambda _: False


def _one_of(*texts: str) -> Callable[[str], bool]:
    return lambda text: text in texts


_FOREVER = 2147483647  # librdkafka's own default for retries

REFUSALS = (
    Refusal(
        ("bootstrap.servers", "metadata.broker.list"),
        "set kafka.bootstrap_servers instead",
    ),
    Refusal(
        ("acks", "request.required.acks"),
        "the bridge acknowledges a message to EMQ when Kafka has confirmed it; all in-sync replicas must"
        " hold it by then",
        "all or -1",
        _one_of("all", "-1"),
    ),
    Refusal(
        ("enable.idempotence",),
        "without idempotence a retry inside librdkafka duplicates and reorders messages",
        "true",
        _one_of("true"),
    ),
    Refusal(
        ("message.timeout.ms", "delivery.timeout.ms"),
        "a message that times out in an idempotent producer is duplicated or reordered later; the bridge"
        " holds late messages itself",
        "0, which means never",
        _one_of("0"),
    ),
    Refusal(
        ("retries", "message.send.max.retries"),
        "a message that the producer gives up is duplicated or reordered later; the bridge holds late"
        " messages itself",
        str(_FOREVER),
        _one_of(str(_FOREVER)),
    ),
    Refusal(
        ("max.in.flight.requests.per.connection", "max.in.flight"),
        "with several requests in flight the later ones fail with the first, and their retry may duplicate"
        " messages",
        "1",
        _one_of("1"),
    ),
    Refusal(
        ("queuing.strategy",),
        "any other strategy reorders messages",
        "fifo",
        _one_of("fifo"),
    ),
    Refusal(
        ("enable.gapless.guarantee",),
        "with it a message that Kafka refuses would end each producer in turn",
        "false",
        _one_of("false"),
    ),
    Refusal(
        ("delivery.report.only.error",),
        "the bridge acknowledges a message to EMQ when librdkafka reports its delivery; with this setting"
        " librdkafka reports only failures",
    ),
    Refusal(
        ("message.max.bytes",),
        "the topic's max.message.bytes is the limit, and the bridge asks Kafka for it",
    ),
    Refusal(
        ("transactional.id", "transaction.timeout.ms"),
        "the bridge sets them itself where kafka.delivery is exactly-once; kafka.transactional_id is the id",
    ),
    Refusal(
        ("test.mock.num.brokers", "test.mock.broker.rtt"),
        "librdkafka would confirm every message from a simulated Kafka in its own memory",
    ),
    Refusal(
        ("statistics.interval.ms",),
        "the bridge sets it: it needs the brokers' round trips, but not of over 500 topics",
        "0",
        _one_of("0"),
    ),
    Refusal(
        ("sasl.jaas.config",),
        "only Java clients have it; set sasl.mechanism, sasl.username and kafka.password_file instead",
    ),
    Refusal(
        (
            "ssl.truststore.location",
            "ssl.truststore.password",
            "ssl.truststore.type",
            "ssl.truststore.certificates",
        ),
        "only Java clients have it; name a PEM file of the authorities in ssl.ca.location instead",
    ),
    Refusal(
        ("ssl.keystore.type", "ssl.keystore.key", "ssl.keystore.certificate.chain"),
        "only Java clients have it; name a PKCS#12 file in ssl.keystore.location, or PEM files in"
        " ssl.certificate.location and ssl.key.location",
    ),
    Refusal(
        (
            "logger",
            "log.queue",
            "enabled_events",
            "opaque",
            "default.topic.config",
            "internal.termination.signal",
        ),
        "the bridge sets it itself",
    ),
)

_BY_NAME = {name: refusal for refusal in REFUSALS for name in refusal.names}

# A librdkafka producer ignores these settings, and only writes a line to its log.
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
    """Join the tables that TOML makes of dotted names: an unquoted `linger.ms = 5` is {linger: {ms: 5}}."""
    joined: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            joined |= flat(value, f"{prefix}{name}.")
        else:
            joined[prefix + name] = value
    return joined


def is_secret(name: str) -> bool:
    """Whether the value of an option with this name must never be shown. A doubtful name counts as secret."""
    name = name.lower()
    return any(
        part in name
        for part in ("password", "secret", "passphrase", "key.pem", "token", "oauthbearer.config")
    )


def why_refused(name: str, value: Option) -> str | None:
    """Why `name = value` is refused, in one sentence; None if it is allowed."""
    if name.endswith("_cb") or name == "on_delivery":
        return "not allowed: the bridge sets it itself"
    if name in CONSUMER_ONLY or name.startswith(_CONSUMER_PREFIXES):
        return "not allowed: it is for consumers, and a producer ignores it"
    if name.endswith((".location", ".file", ".paths")) and (why := why_unexpanded(str(value))):
        return why
    refusal = _BY_NAME.get(name)
    if refusal is None or refusal.allows(str(value).strip().lower()):
        return None
    return f"{f'only {refusal.only} is allowed' if refusal.only else 'not allowed'}: {refusal.reason}"


# What librdkafka's wheel can do. The names are compared as they are.
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_WITH_USER = _MECHANISMS[:3]


def without_effect(options: Mapping[str, Option]) -> Iterator[tuple[str, str]]:
    """Yield what is given and would not be used, or not work, since another option is missing.

    librdkafka says nothing of it, or says it in its own terms: a TLS or SASL that is set and not used is a
    connection in plain text.
    """
    text = {name: str(given).strip() for name, given in options.items() if not isinstance(given, SecretStr)}
    protocol = text.get("security.protocol", "plaintext").lower()
    tls = [name for name in options if name.startswith(("ssl.", "enable.ssl."))]
    sasl = [name for name in options if name.startswith(("sasl.", "enable.sasl."))]
    line = 'add security.protocol = "{}"'
    if protocol in ("plaintext", "sasl_plaintext"):
        wanted = "SASL_SSL" if sasl or protocol == "sasl_plaintext" else "SSL"
        now = "" if "security.protocol" in options else ", which is not set"
        for name in tls:
            yield name, f"does nothing: TLS is used only with security.protocol{now}; {line.format(wanted)}"
    if protocol in ("plaintext", "ssl"):
        wanted = "SASL_SSL" if tls or protocol == "ssl" else 'SASL_SSL", or "SASL_PLAINTEXT'
        now = "" if "security.protocol" in options else ", which is not set"
        for name in sasl:
            yield name, f"does nothing: SASL is used only with security.protocol{now}; {line.format(wanted)}"
    elif protocol in ("sasl_plaintext", "sasl_ssl"):
        yield from _wrong_mechanism(options, text)


def _wrong_mechanism(options: Mapping[str, Option], text: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    name = "sasl.mechanisms" if "sasl.mechanisms" in options else "sasl.mechanism"
    mechanism = text.get(name)
    known = f"{', '.join(_MECHANISMS[:-1])} or {_MECHANISMS[-1]}"
    if mechanism is None:
        yield (
            "security.protocol",
            f"wants a mechanism that the listener takes: {known}; add, for example,"
            ' sasl.mechanism = "SCRAM-SHA-512"',
        )
    elif mechanism not in _MECHANISMS:
        meant = f'; did you mean "{mechanism.upper()}"?' if mechanism.upper() in _MECHANISMS else ""
        yield name, f"must be {known}{meant}"
    elif mechanism in _WITH_USER:
        if not options.get("sasl.username", options.get("sasl.user")):
            yield name, "wants a sasl.username, and kafka.password_file"
        for other in options:
            if other.startswith(("sasl.oauthbearer.", "enable.sasl.oauthbearer.")):
                yield other, f'does nothing with {name} = "{mechanism}"'
    elif text.get("sasl.oauthbearer.method", "").lower() != "oidc" and not _is_unsecured(text):
        yield (
            name,
            'wants sasl.oauthbearer.method = "oidc", with sasl.oauthbearer.token.endpoint.url, .client.id and'
            " .client.secret: nothing else gets the bridge a token",
        )
    if mechanism == "OAUTHBEARER":
        for other in ("sasl.username", "sasl.user", "sasl.password"):
            if other in options:
                yield other, f'does nothing with {name} = "OAUTHBEARER"'
    for other in options:
        if other.startswith("sasl.kerberos."):
            yield other, "does nothing: librdkafka is built without Kerberos here"


def _is_unsecured(text: Mapping[str, str]) -> bool:
    return text.get("enable.sasl.oauthbearer.unsecure.jwt", "").lower() == "true"
