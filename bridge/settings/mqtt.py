"""[mqtt]: the session with EMQ, and how long each hop may be silent.

docs/explanation/timeouts.md derives the numbers from each other and from the balancer's 3 h.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from bridge.settings.host import why_bad_host
from bridge.settings.section import Section, Wrong
from bridge.units import DURATION, Count, Duration, Size

Seconds = Annotated[Duration, Field(multiple_of=1)]
"""A duration that MQTT or the kernel counts in whole seconds."""

# A late or retransmitted ping makes the silence longer than `keepalive`.
_PING_MARGIN = 1.5

# While one EMQ node hangs, the healthy node sends its CONNACK after this many seconds.
_CONNACK_BESIDE_A_HUNG_NODE = 60

# Settings that the bridge sends in CONNECT's properties, which MQTT 3.1.1 does not have; what applies there.
_MQTT_5_ONLY = {
    "session_expiry": "the broker's own session expiry applies, which is 2 h in EMQX",
    "max_packet_size": "only the broker's own limit bounds a message",
}

_LONGEST = 65_535  # bytes of a string in MQTT: its length goes in two bytes (MQTT 5, 1.5.4)


class TlsSettings(Section):
    enabled: bool = Field(default=False, description="Speak TLS with the broker.")
    ca_file: Path | None = Field(
        default=None,
        description="Certificate authorities to trust, PEM. Without it the bridge trusts"
        " those of the system.",
    )
    cert_file: Path | None = Field(default=None, description="Certificate to show to the broker, PEM.")
    key_file: Path | None = Field(
        default=None,
        description="Private key of cert_file, PEM. Not needed if cert_file contains the key too.",
    )
    server_name: str | None = Field(
        default=None,
        min_length=1,
        description="Name to expect in the broker's certificate. The default is mqtt.host; the certificates"
        " of nodes behind a balancer often have another name.",
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
        description="Silence after which the kernel probes the connection (TCP_KEEPIDLE). The kernel"
        " notices within keepalive_idle + keepalive_interval x keepalive_count that the balancer's power"
        " was cut.",
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
        description="How long the peer's kernel may leave sent data unconfirmed (TCP_USER_TIMEOUT). The"
        " kernel sends no probes while data is in flight: without this limit it noticed a dead peer after"
        " 932 s.",
    )


class ReconnectSettings(Section):
    min_delay: Duration = Field(
        default=0.1,
        ge=0.01,
        le=60,
        description="Shortest wait before the second attempt. The wait is random between that and five times"
        " that, and doubles with each further attempt up to max_delay; the first attempt after a live session"
        " is made at once.",
    )
    max_delay: Duration = Field(
        default=2.0,
        ge=0.1,
        le=3600,
        description="Longest wait while the broker is away. While the bridge waits, EMQ's queue fills: its"
        " 1,000 messages are 5s at 200 messages/s.",
    )
    refused_delay: Duration = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="Wait after a refusal that time does not cure. Such as a wrong password, a missing"
        " permission, or a client id that another client takes again and again.",
    )

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.min_delay > self.max_delay:
            yield "min_delay", f"is more than max_delay, which is {DURATION.format(self.max_delay)}"


# A host as people copy it from a URL, or with its port; of each the part that belongs into `host`.
_WITH_MORE = re.compile(
    r"(?:(?P<scheme>[A-Za-z0-9+.-]+)://)?(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^:/\[\]@]+))"
    r"(?::(?P<port>\d{1,5}))?(?P<path>/[^@]*)?"
)
_WITH_TLS = ("mqtts", "ssl", "tls")


def _host(value: str) -> str:
    instead = f"; write {alone}" if (alone := _host_alone(value)) else ""
    if "://" in value or "/" in value:
        without = "without mqtt:// before it or a path behind it"
        raise Wrong(((), f"must be a name or an address alone, {without}{instead}"))
    if instead:
        raise Wrong(((), f"must be a name or an address alone{instead}"))
    if why := why_bad_host(value):
        raise Wrong(((), f"{why}; must be a name or an address alone, and the port is mqtt.port"))
    return value


def _host_alone(value: str) -> str:
    """The settings that say the same as a host with a scheme, brackets, a port or a path. Empty: none do."""
    found = _WITH_MORE.fullmatch(value)
    if not found or found["name"] == value:
        return ""
    host = found["address"] or found["name"]
    if why_bad_host(host) or ("%" in host and not found["address"]):
        return ""
    instead = [f'host = "{host}"']
    if found["port"]:
        instead.append(f"port = {int(found['port'])}")
    said = " and ".join(instead) + " under [mqtt]"
    return f"{said}, and enabled = true under [mqtt.tls]" if found["scheme"] in _WITH_TLS else said


def _mqtt_text(value: str) -> str:
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in value):
        raise Wrong(
            ((), "holds a control character, for which a broker may close the connection; leave it out")
        )
    if len(value.encode()) > _LONGEST:
        raise Wrong(((), f"is longer than {_LONGEST} bytes, which MQTT does not allow"))
    return value


BALANCERS_PORTS = (1884, 8884)  # of the shipped haproxy.cfg, without and with TLS

MqttText = Annotated[str, AfterValidator(_mqtt_text)]
"""A UTF-8 Encoded String of CONNECT (MQTT 5, 1.5.4)."""


class MqttSettings(Section):
    host: Annotated[str, Field(min_length=1), AfterValidator(_host)] = Field(
        description="Name or address of EMQ, or of the balancer in front of EMQ. The bridge tries all"
        " addresses of a name."
    )
    port: Count = Field(
        default=1884, ge=1, le=65535, description="TCP port. The balancer has port 1884 for subscribers."
    )
    client_id: MqttText = Field(
        default="mqtt-kafka-bridge",
        min_length=1,
        max_length=256,
        description="MQTT client id, which names the session at the broker. Never change it, and give each"
        " bridge its own: of two clients with one id, the broker disconnects the older each time the other"
        " connects.",
    )
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        default="auto",
        description="MQTT version. With auto the bridge uses 5, or 3.1.1 if the broker does not speak 5.",
    )
    keepalive: Seconds = Field(
        default=60.0,
        ge=2,
        le=65535,
        description="Time between two PINGREQ. The bridge ends the connection if no PINGRESP comes within"
        " the same time again. These pings reset the balancer's timers; TCP probes do not.",
    )
    idle_limit: Duration = Field(
        default=10800.0,
        ge=3,
        le=7 * 86400,
        description="The shortest time after which a hop ends a silent connection. In HAProxy these are"
        " timeout client and timeout server. The bridge only checks keepalive against this value.",
    )
    session_expiry: Seconds = Field(
        default=604800.0,
        ge=60,
        le=0xFFFFFFFE,
        description="How long the broker keeps the session while the bridge is disconnected (MQTT 5). Make"
        " it longer than any outage that must not lose messages. With $share a dead member of the group"
        " keeps getting its share for this long.",
    )
    receive_maximum: Count = Field(
        default=100,
        ge=1,
        le=65535,
        description="Most messages of QoS 1 and 2 that may be unacknowledged. This bounds memory, and how"
        " many messages may be duplicated when a connection breaks. EMQ's own limit is 32.",
    )
    max_packet_size: Size = Field(
        default=16_000_000,
        ge=1024,
        le=256_000_000,
        description="The largest packet that the broker may send (Maximum Packet Size, MQTT 5 only). The"
        " broker drops a larger message without a word, so set the broker's own limit to that or less: it"
        " then refuses the message to the device. Bounds memory: a message takes up to seven times its size"
        " until it is in Kafka or on disk, so that one of 16MB takes 170 of the unit's 256MB.",
    )
    connack_timeout: Duration = Field(
        default=75.0,
        ge=5,
        le=3600,
        description="How long to wait for CONNACK. Should be more than 60s: while one EMQ node hangs, the"
        " healthy node answers after 60 s, and a bridge that gives up earlier connects only after EMQ has"
        " dropped the hung node.",
    )
    username: MqttText | None = Field(default=None, min_length=1, description="User name.")
    password: SecretStr | None = Field(
        default=None,
        description="Password. Prefer password_file. The bridge refuses a password given as a flag, because"
        " everybody on the machine can read flags.",
    )
    password_file: Path | None = Field(
        default=None,
        description="File with the password. The bridge reads the file at every connect. Without this"
        " setting the bridge uses $CREDENTIALS_DIRECTORY/mqtt-password, if systemd provides that file.",
    )
    qos0_messages: Count = Field(
        default=10_000,
        ge=0,
        le=10_000_000,
        description="Most messages of QoS 0 that may wait for Kafka. The bridge drops and counts any"
        " further ones.",
    )
    qos0_bytes: Size = Field(
        default=16_000_000,
        ge=0,
        le=4_000_000_000,
        description="The same limit in bytes of topics and payloads.",
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
                f"must be at most {DURATION.format(self.idle_limit // _PING_MARGIN)}: a hop ends a silent"
                f" connection after {DURATION.format(self.idle_limit)} (mqtt.idle_limit). Only MQTT's pings"
                " reset the balancer's timers, TCP probes do not, and a ping may be late",
            )
        probes = self.tcp.keepalive_idle + self.tcp.keepalive_interval * self.tcp.keepalive_count
        if probes >= self.keepalive:
            yield (
                "keepalive",
                f"must be more than keepalive_idle + keepalive_interval x keepalive_count of [mqtt.tcp],"
                f" which is {DURATION.format(probes)}: otherwise a PINGREQ is in flight before the probes"
                " have ended, and the kernel sends no probes while data is in flight",
            )
        if self.password and self.password_file:
            yield "password", "is set beside password_file; keep one of them"
        if self.username is None:
            for name in ("password", "password_file"):
                if getattr(self, name) is not None:
                    yield name, "does nothing without username"

    @property
    def is_balancers_port(self) -> bool:
        """Whether `port` is one of the shipped haproxy.cfg, where a broker alone seldom listens."""
        return self.port in BALANCERS_PORTS

    @property
    def brokers_port(self) -> int:
        """The port at which a broker without a balancer usually listens."""
        return 8883 if self.tls.enabled else 1883

    def session_name(self, client_id: str) -> str:
        """The name under which the bridge records what it has subscribed in this session at this broker."""
        return f"{client_id} at {self.host}:{self.port}"

    def warnings(self) -> Iterator[str]:
        """Yield one sentence for each setting that is allowed but has an easily overlooked cost."""
        if self.connack_timeout <= _CONNACK_BESIDE_A_HUNG_NODE:
            yield (
                f"mqtt.connack_timeout = {DURATION.format(self.connack_timeout)}: while one node of an EMQ"
                f" cluster hangs, the healthy one answers after {_CONNACK_BESIDE_A_HUNG_NODE} s; a bridge"
                " that gives up earlier connects only after the cluster has dropped the hung node"
            )
        if self.protocol == "3.1.1":
            for name, instead in _MQTT_5_ONLY.items():
                if name in self.model_fields_set:
                    yield (
                        f'mqtt.{name} does nothing with mqtt.protocol = "3.1.1": {instead} (set'
                        ' mqtt.protocol = "auto", or leave the setting out)'
                    )
        elif self.session_expiry < 3600:
            yield (
                f"mqtt.session_expiry = {DURATION.format(self.session_expiry)}: if the bridge is away"
                " for longer, EMQ drops the session with all its waiting messages (7d is the default)"
            )
