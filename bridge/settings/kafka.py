"""[kafka]: the brokers' addresses, the password file, and further options for librdkafka."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from bridge.settings.host import why_bad_host
from bridge.settings.kafka_options import Option, is_secret, why_refused, without_effect
from bridge.settings.section import Allowed, Key, Section, Wrong

_BROKER = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>\d+))?")

# With these librdkafka settings TLS encrypts, but no longer proves who the broker is.
_LOOSE = {
    "enable.ssl.certificate.verification": ("false",),
    "ssl.endpoint.identification.algorithm": ("none",),
}

_BROKERS = "host:port, separated by commas"
_PORT = 9092
_LAST_PORT = 65535  # librdkafka takes 99999 modulo 65536


def _joined(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _brokers(value: str) -> str:
    whole = []
    for broker in map(str.strip, value.split(",")):
        found = _BROKER.fullmatch(broker)
        if not found or (found["address"] and ":" not in found["address"]):
            raise Wrong(((), f'must be {_BROKERS}; "{broker}" is not'))
        if why := why_bad_host(found["address"] or found["name"]):
            raise Wrong(((), f'must be {_BROKERS}; the host of "{broker}" {why}'))
        if found["port"] and not 1 <= int(found["port"]) <= _LAST_PORT:
            raise Wrong(((), f'must be {_BROKERS}; the port of "{broker}" is not one of 1 to {_LAST_PORT}'))
        # librdkafka would add the port by itself; Kafka's own commands, which the bridge suggests, do not.
        whole.append(broker if found["port"] else f"{broker}:{_PORT}")
    return ",".join(whole)


def _options(value: dict[str, Option]) -> dict[str, Option]:
    refused = [((name,), why) for name, given in value.items() if (why := why_refused(name, given))]
    if refused:
        raise Wrong(*refused)
    return {
        name: SecretStr(str(given)) if is_secret(name) and not isinstance(given, SecretStr) else given
        for name, given in value.items()
    }


class KafkaSettings(Section):
    bootstrap_servers: Annotated[
        str, BeforeValidator(_joined), AfterValidator(_brokers), Allowed(_BROKERS)
    ] = Field(
        description='Some brokers of the cluster: "kafka1:9092,kafka2:9092", or a list.'
        " Without a port it is 9092. The bridge asks these for the other brokers."
    )
    password_file: Path | None = Field(
        default=None,
        description="File with the SASL password. The bridge reads the file again when Kafka refuses the"
        " password. Without this setting the bridge uses $CREDENTIALS_DIRECTORY/kafka-password, if systemd"
        " provides that file.",
    )
    delivery: Literal["at-least-once", "exactly-once"] = Field(
        default="at-least-once",
        description="With exactly-once every message goes through this machine's disk, and from there to"
        " Kafka in transactions. Consumers that read with isolation.level=read_committed then see each"
        " message once, after kill -9 and power cuts too. It costs latency and wears the disk:"
        " docs/explanation/exactly-once.md.",
    )
    transactional_id: str = Field(
        default="",
        description="The transactional.id of the bridge's transactions. Without this setting it is"
        " mqtt.client_id. Only with delivery exactly-once.",
    )
    transaction_group: str = Field(
        default="",
        description="The consumer group in which the bridge keeps the number of its last transaction. No"
        " consumer and no other bridge may use it: they would take the number for an offset. Without this"
        " setting it is mqtt.client_id with -transactions behind it. Only with delivery exactly-once.",
    )
    options: Annotated[
        dict[str, Option], AfterValidator(_options), Allowed("text, a number, true or false")
    ] = Field(
        default_factory=dict,
        description="Any librdkafka setting, under its librdkafka name, except those that would break the"
        " guarantee.",
    )

    def contradictions(self) -> Iterator[tuple[Key, str]]:
        if self.password_file:
            if "sasl.password" in self.options:
                yield ("password_file",), "is set beside sasl.password of [kafka.options]; keep one of them"
            if not self.sasl_username:
                yield ("password_file",), "does nothing without sasl.username in [kafka.options]"
        for name in ("transactional_id", "transaction_group"):
            if getattr(self, name) and not self.is_exactly_once:
                yield (name,), 'does nothing without delivery = "exactly-once"'
        for name, why in without_effect(self.options):
            yield ("options", name), why

    @property
    def is_exactly_once(self) -> bool:
        return self.delivery == "exactly-once"

    @property
    def sasl_username(self) -> str | None:
        name = self.options.get("sasl.username", self.options.get("sasl.user"))
        return str(name) if name else None

    def client_options(self) -> dict[str, str | int | float | bool]:
        """`options` with the secrets in clear text. Only for librdkafka."""
        return {
            name: given.get_secret_value() if isinstance(given, SecretStr) else given
            for name, given in self.options.items()
        }

    def warnings(self) -> Iterator[str]:
        """Yield one sentence for each setting that is allowed but has an easily overlooked cost."""
        for name, loose in _LOOSE.items():
            if str(self.options.get(name, "")).lower() in loose:
                yield (
                    f'kafka.options."{name}" = {self.options[name]}: an attacker between the bridge'
                    " and Kafka can pose as a broker, and read and change all messages"
                )
