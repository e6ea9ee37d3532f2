"""The whole configuration. Its fields are the tables of the file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bridge.settings.http import HttpSettings
from bridge.settings.kafka import KafkaSettings
from bridge.settings.mqtt import MqttSettings
from bridge.settings.neighbours import EmqxSettings, HaproxySettings
from bridge.settings.routes import RouteSettings, unique
from bridge.settings.section import Section, Wrong, unexpanded
from bridge.settings.spool import DeadLetterSettings, SpoolSettings
from bridge.units import SIZE, Duration

_EMPTY_SPOOL = 1_000_000  # bytes; more than the database and a message's row take beside the message


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that the bridge logs."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="Form of the log. With auto it has colours on a terminal, and elsewhere one line of"
        " JSON for each event.",
    )


class Settings(BaseSettings):
    """All settings. load.load() builds them; `Settings(...)` itself reads nothing but its arguments."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False, case_sensitive=True
    )

    state_directory: Path = Field(
        default=Path("/var/lib/mqtt-kafka-bridge"),
        description="Directory for the record of subscriptions and for the spool. Under systemd the default"
        " is $STATE_DIRECTORY.",
    )
    stop_timeout: Duration = Field(
        default=20.0,
        ge=0,
        le=600,
        description="How long a stop waits for Kafka to confirm the messages in flight. A stop waits only 5"
        " s if Kafka confirms nothing and all these messages are on disk. EMQ resends messages that are"
        " neither confirmed nor on disk by then.",
    )
    mqtt: MqttSettings = Field(description="The session with EMQ")
    kafka: KafkaSettings = Field(description="The Kafka cluster")
    routes: Annotated[list[RouteSettings], AfterValidator(unique)] = Field(
        description="Which messages go to which Kafka topic. The first route whose filter matches takes a"
        " message."
    )
    spool: SpoolSettings = Field(
        default_factory=lambda: SpoolSettings(), description="Messages that wait on disk while Kafka is late"
    )
    dead_letters: DeadLetterSettings = Field(
        default_factory=lambda: DeadLetterSettings(), description="Messages that Kafka can never take"
    )
    haproxy: HaproxySettings = Field(
        default_factory=lambda: HaproxySettings(),
        description="HAProxy's statistics: which EMQ nodes are up, for the page and the metrics",
    )
    emqx: EmqxSettings = Field(
        default_factory=lambda: EmqxSettings(),
        description="EMQX's API: what waits for the bridge, and what EMQX has dropped",
    )
    http: HttpSettings = Field(
        default_factory=lambda: HttpSettings(),
        description="The page that shows the bridge's state, and the same for programs",
    )
    log: LogSettings = Field(default_factory=lambda: LogSettings(), description="The bridge's own log")

    @property
    def spool_directory(self) -> Path:
        """The directory of the spool and the dead letters."""
        return self.spool.directory or self.state_directory

    @property
    def transactional_id(self) -> str:
        return self.kafka.transactional_id or self.mqtt.client_id

    @property
    def transaction_group(self) -> str:
        """The consumer group in which the bridge keeps the number of its last transaction."""
        return self.kafka.transaction_group or f"{self.mqtt.client_id}-transactions"

    def warnings(self) -> Iterator[str]:
        """Yield one sentence for each setting that is allowed but has an easily overlooked cost."""
        yield from self.mqtt.warnings()
        yield from self.kafka.warnings()
        yield from self.http.warnings()

    @model_validator(mode="after")
    def _letters_fit_into_the_spool(self) -> "Settings":
        if self.dead_letters.max_bytes > self.spool.max_bytes:
            most = SIZE.format(self.spool.max_bytes)
            text = f"must be at most spool.max_bytes, which is {most}: dead letters are kept in the spool"
            raise Wrong((("dead_letters", "max_bytes"), text))
        return self

    @model_validator(mode="after")
    def _each_message_fits_into_the_spool(self) -> "Settings":
        """In that mode a message that never fits would keep all later ones off the disk, and so off Kafka."""
        least = self.mqtt.max_packet_size + _EMPTY_SPOOL
        if self.kafka.is_exactly_once and self.spool.max_bytes < least:
            text = (
                f"must be at least {SIZE.format(least)} with kafka.delivery exactly-once: each message goes"
                f" through the spool, and one may have {SIZE.format(self.mqtt.max_packet_size)}"
                " (mqtt.max_packet_size)"
            )
            raise Wrong((("spool", "max_bytes"), text))
        return self

    @model_validator(mode="after")
    def _state_directory_is_a_path(self) -> "Settings":
        if problems := [((name,), why) for name, why in unexpanded(self)]:
            raise Wrong(*problems)
        return self

    @model_validator(mode="before")
    @classmethod
    def _tables_exist(cls, values: Any) -> Any:
        """Add missing tables as empty ones, so that each missing setting is reported under its own name."""
        return {"mqtt": {}, "kafka": {}, "routes": [], **values}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings passes all by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
