"""[mqtt]: the session with EMQ, and how long each hop may be silent.

How the numbers follow from each other and from the balancer's 3 h: docs/explanation/timeouts.md.
"""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from bridge.settings.section import Section, Wrong
from bridge.units import DURATION, Count, Duration, Size

Seconds = Annotated[Duration, Field(multiple_of=1)]
"""A duration that MQTT or the kernel counts in whole seconds."""

# A connection that pings every `keepalive` is silent for longer where a ping is late or sent again.
_PING_MARGIN = 1.5

# While one EMQ node hangs the healthy one sends its CONNACK after this many seconds.
_CONNACK_BESIDE_A_HUNG_NODE = 60


class TlsSettings(Section):
    enabled: bool = Field(default=False, description="Speak TLS with the broker.")
    ca_file: Path | None = Field(
        default=None, description="Certificate authorities to trust, PEM. Without it those of the system."
    )
    cert_file: Path | None = Field(default=None, description="Certificate to show to the broker, PEM.")
    key_file: Path | None = Field(
        default=None,
        description="Private key of cert_file, PEM. Not needed where cert_file holds the key too.",
    )
    server_name: str | None = Field(
        default=None,
        min_length=1,
        description="Name to expect in the broker's certificate. Without it mqtt.host; behind a balancer the"
        " nodes' certificates often bear another name.",
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.key_file and not self.cert_file:
            yield "key_file", "does nothing without cert_file"
        if not self.enabled:
            for name in ("ca_file", "cert_file", "key_file", "server_name"):
                if getattr(self, name) is not None:
                    yield name, "does nothing without enabled = true"


class TcpSettings(Section):
    connect_timeout: Duration = Field(
        default=10.0,
        ge=0.1,
        le=120,
        description="How long to wait for TCP and TLS, for each address of mqtt.host.",
    )
    keepalive_idle: Seconds = Field(
        default=20.0,
        ge=1,
        le=3600,
        description="Silence after which the kernel probes the connection (TCP_KEEPIDLE). A balancer whose"
        " power was cut is noticed within keepalive_idle + keepalive_interval x keepalive_count.",
    )
    keepalive_interval: Seconds = Field(
        default=5.0, ge=1, le=600, description="Time between two probes (TCP_KEEPINTVL)."
    )
    keepalive_count: Count = Field(
        default=3, ge=1, le=20, description="Unanswered probes that end the connection (TCP_KEEPCNT)."
    )
    user_timeout: Duration = Field(
        default=35.0,
        ge=1,
        le=3600,
        description="How long what was sent may stay unconfirmed by the peer's kernel (TCP_USER_TIMEOUT). The"
        " kernel sends no probes while data is in flight: without this limit a dead peer was noticed after"
        " 932 s.",
    )


class ReconnectSettings(Section):
    min_delay: Duration = Field(
        default=0.2,
        ge=0.01,
        le=60,
        description="Longest wait before the second attempt, doubled for each further one. The waits are"
        " random between 0 and that; the first attempt after a live session is made at once.",
    )
    max_delay: Duration = Field(
        default=30.0, ge=0.1, le=3600, description="Where the doubling of min_delay ends."
    )
    refused_delay: Duration = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="Wait after a refusal that time doesn't cure. A wrong password, a missing permission, a"
        " client id that someone else uses.",
    )
    stable_after: Duration = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="How long a session must be live before waits begin at min_delay again. The balancer"
        " accepts connections and closes them at once while no node is up, so a mere connection proves"
        " nothing.",
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.min_delay > self.max_delay:
            yield "min_delay", f"is more than max_delay, which is {DURATION.format(self.max_delay)}"


def _host(value: str) -> str:
    if "://" in value or "/" in value:
        raise Wrong(((), "must be a name or an address alone, without mqtt:// before it or a path behind it"))
    if ":" in value:
        try:
            ipaddress.IPv6Address(value.partition("%")[0])
        except ValueError:
            raise Wrong(((), "must be a name or an address alone; the port is mqtt.port")) from None
    return value


class MqttSettings(Section):
    host: Annotated[str, Field(min_length=1), AfterValidator(_host)] = Field(
        description="Name or address of EMQ, or of the balancer before it. All addresses of a name are tried."
    )
    port: Count = Field(
        default=1884, ge=1, le=65535, description="TCP port. 1884 is the balancer's, for subscribers."
    )
    client_id: str = Field(
        default="mqtt-kafka-bridge",
        min_length=1,
        max_length=256,
        description="Names the session at the broker. It must stay the same for ever and be used only once:"
        " two bridges with one id throw each other off.",
    )
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        default="auto",
        description="MQTT version. auto is 5, and 3.1.1 where the broker speaks nothing newer.",
    )
    keepalive: Seconds = Field(
        default=60.0,
        ge=2,
        le=65535,
        description="Time between two PINGREQ. No answer for as long again ends the connection. Only these"
        " pings reset the balancer's timers, TCP's probes don't.",
    )
    idle_limit: Duration = Field(
        default=10800.0,
        ge=3,
        le=7 * 86400,
        description="The shortest time after which a hop on the way ends a silent connection. HAProxy's"
        " timeout client and timeout server. Nothing is set by it; keepalive is checked against it.",
    )
    session_expiry: Seconds = Field(
        default=604800.0,
        ge=60,
        le=0xFFFFFFFE,
        description="How long the broker keeps the session of a bridge that is away (MQTT 5). Longer than any"
        " outage that must not lose messages. With $share the price is that a dead member of the group keeps"
        " getting its share for that long.",
    )
    receive_maximum: Count = Field(
        default=100,
        ge=1,
        le=65535,
        description="Messages of QoS 1 and 2 that may be unacknowledged. Bounds memory, and how many may come"
        " twice when a connection breaks. EMQ's own limit is 32.",
    )
    connack_timeout: Duration = Field(
        default=75.0,
        ge=5,
        le=3600,
        description="How long to wait for CONNACK. More than 60s: while one EMQ node hangs, the healthy one"
        " answers after 60 s, and who gives up earlier never gets in.",
    )
    username: str | None = Field(default=None, min_length=1, description="User name.")
    password: SecretStr | None = Field(
        default=None,
        description="Password. Better in password_file. Refused as a flag: everybody on the machine can read"
        " those.",
    )
    password_file: Path | None = Field(
        default=None,
        description="File with the password, read again at every connect. Without it"
        " $CREDENTIALS_DIRECTORY/mqtt-password is used, where systemd provides it.",
    )
    qos0_messages: Count = Field(
        default=10_000,
        ge=0,
        le=10_000_000,
        description="Messages of QoS 0 that may wait for Kafka. What comes beyond is dropped and counted.",
    )
    qos0_bytes: Size = Field(
        default=16_000_000,
        ge=0,
        le=4_000_000_000,
        description="The same bound in bytes of topics and payloads.",
    )
    tls: TlsSettings = Field(default_factory=lambda: TlsSettings(), description="TLS to the broker")
    tcp: TcpSettings = Field(
        default_factory=lambda: TcpSettings(), description="The TCP connection below MQTT"
    )
    reconnect: ReconnectSettings = Field(
        default_factory=lambda: ReconnectSettings(), description="Waiting between attempts to connect"
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.keepalive * _PING_MARGIN > self.idle_limit:
            yield (
                "keepalive",
                f"at most {DURATION.format(self.idle_limit // _PING_MARGIN)} holds a connection that is cut"
                f" after {DURATION.format(self.idle_limit)} of silence (mqtt.idle_limit): MQTT's pings"
                " alone reset the balancer's timers, TCP's probes don't, and a ping may be late",
            )
        probes = self.tcp.keepalive_idle + self.tcp.keepalive_interval * self.tcp.keepalive_count
        if probes >= self.keepalive:
            yield (
                "keepalive",
                f"must be more than keepalive_idle + keepalive_interval x keepalive_count of [mqtt.tcp],"
                f" which is {DURATION.format(probes)}: otherwise a PINGREQ is in flight first, and the"
                " kernel probes no connection that has data in flight",
            )
        if self.password and self.password_file:
            yield "password", "is set beside password_file; keep one of them"
        if self.username is None:
            for name in ("password", "password_file"):
                if getattr(self, name) is not None:
                    yield name, "does nothing without username"

    def session_name(self, client_id: str) -> str:
        """What tells one broker's session from another, for what is remembered of it."""
        return f"{client_id} at {self.host}:{self.port}"

    def warnings(self) -> Iterator[str]:
        """What is allowed, but has a price that is easily overlooked. One sentence each."""
        if self.connack_timeout <= _CONNACK_BESIDE_A_HUNG_NODE:
            yield (
                f"mqtt.connack_timeout = {DURATION.format(self.connack_timeout)}: while one node of an EMQ"
                f" cluster hangs, the healthy one answers after {_CONNACK_BESIDE_A_HUNG_NODE} s; a bridge"
                " that gives up before that gets in only once the cluster has dropped the hung one"
            )
        if self.session_expiry < 3600:
            yield (
                f"mqtt.session_expiry = {DURATION.format(self.session_expiry)}: after that long without the"
                " bridge EMQ drops the session and all messages that wait in it (7d is the default)"
            )
