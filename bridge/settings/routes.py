"""[[routes]]: which messages go to which Kafka topic. bridge/routing interprets filters and templates."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bridge.settings.section import Allowed, Section, Wrong, nearest

# The first four are named as in Confluent's MQTT source connector, the others as MQTT 5's properties.
STANDARD_HEADERS = (
    "mqtt.topic",
    "mqtt.qos",
    "mqtt.retained",
    "mqtt.duplicate",
    "content-type",
    "response-topic",
    "correlation-data",
    "user-properties",
)


def _header(value: str) -> str:
    name, is_own, _ = value.partition("=")
    if not name or (not is_own and name not in STANDARD_HEADERS):
        meant = nearest(value, STANDARD_HEADERS)
        question = f"; did you mean {meant}?" if meant else ""
        raise Wrong(((), f'must be {", ".join(STANDARD_HEADERS)} or "name={{level}}"{question}'))
    return value


class RouteSettings(Section):
    name: Annotated[str, Allowed("1 to 64 letters, digits, dots, dashes and underscores")] = Field(
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Name of the route in logs and tables. No two routes may share one.",
    )
    filter: str = Field(
        min_length=1,
        description="MQTT topic filter. Levels can have names: sensors/{site}/{device}/temp subscribes"
        " sensors/+/+/temp. A name can take a part of a level: {app}@{tenant}. A final # can have a name too."
        " The filter may begin with $share/<group>/.",
    )
    qos: Literal[0, 1, 2] = Field(default=1, description="Highest QoS at which the broker delivers.")
    topic: str | None = Field(
        default=None,
        min_length=1,
        description='Kafka topic, built from the named levels: "iot.{site}". Required unless action ='
        ' "drop".',
    )
    key: str | None = Field(
        default=None,
        description='Key of the Kafka record, built like topic: "{device}". The default is the MQTT topic.',
    )
    retained: Literal["keep", "skip"] = Field(
        default="keep",
        description="Whether to produce retained messages. The broker sends them again for each new"
        " subscription.",
    )
    empty: Literal["keep", "tombstone", "skip"] = Field(
        default="keep",
        description="What the bridge produces for a message with an empty payload, which in MQTT deletes a"
        " retained message: an empty value, Kafka's null (a compacted topic forgets the key), or nothing.",
    )
    action: Literal["produce", "drop"] = Field(
        default="produce",
        description="With drop the bridge acknowledges the messages to EMQ and discards them.",
    )
    envelope: Literal["none", "json"] = Field(
        default="none",
        description="Form of the record's value. With none it is the unchanged payload, with json an object"
        " that contains the payload.",
    )
    headers: Annotated[list[Annotated[str, AfterValidator(_header)]], Allowed("a list of text")] = Field(
        default_factory=lambda: list(STANDARD_HEADERS),
        description='Headers of the Kafka record: standard headers by name, your own as "name={level}".',
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.action == "produce" and self.topic is None:
            yield "topic", 'is required, unless action = "drop"'
        if self.action == "drop":
            for name in ("topic", "key", "retained", "empty", "envelope", "headers"):
                if name in self.model_fields_set:
                    yield name, 'does nothing where action = "drop"'


_EXAMPLE = """
    [[routes]]
    name = "temperatures"
    filter = "sensors/{site}/{device}/temp"
    topic = "iot.{site}\""""


def unique(routes: list[RouteSettings]) -> list[RouteSettings]:
    """Refuse an empty list, and two routes with one name."""
    if not routes:
        raise Wrong(((), f"at least one is required, for example:{_EXAMPLE}"))
    first: dict[str, int] = {}
    twins = [
        ((number, "name"), f"is the name of routes[{first[route.name]}] already")
        for number, route in enumerate(routes)
        if first.setdefault(route.name, number) != number
    ]
    if twins:
        raise Wrong(*twins)
    return routes
