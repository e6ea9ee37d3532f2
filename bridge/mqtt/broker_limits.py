"""What the broker's CONNACK restricts (MQTT 5, 3.2.2.3), and what of it weakens a guarantee. Pure.

Not here: Server Keep Alive, see client.py. Two restrictions bind only a client that publishes, which the
bridge never does: the broker's Receive Maximum, and Retain Available. Maximum QoS needs no action here:
the broker must accept any QoS in SUBSCRIBE (3.2.2.3.4), and SUBACK tells the QoS that it grants.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bridge.settings import MqttSettings
from bridge.units import DURATION, SIZE

_SESSION_NEVER_EXPIRES = 0xFFFFFFFF  # 3.1.2.11.2


@dataclass(frozen=True, slots=True)
class BrokerLimits:
    """The restrictions of one CONNACK. The defaults are those of MQTT 5, and hold for MQTT 3.1.1."""

    session_expiry: int | None = None  # seconds; None: as the CONNECT asked
    maximum_packet_size: int | None = None  # bytes of a packet that a client may send; None: any
    wildcards: bool = True
    subscription_identifiers: bool = True
    shared_subscriptions: bool = True

    @classmethod
    def of(cls, properties: Any) -> "BrokerLimits":
        """Of paho's Properties of a CONNACK; None: there are none."""

        def found(name: str, default: Any) -> Any:
            return getattr(properties, name, default)

        return cls(
            session_expiry=found("SessionExpiryInterval", None),
            maximum_packet_size=found("MaximumPacketSize", None),
            wildcards=bool(found("WildcardSubscriptionAvailable", 1)),
            subscription_identifiers=bool(found("SubscriptionIdentifierAvailable", 1)),
            shared_subscriptions=bool(found("SharedSubscriptionAvailable", 1)),
        )

    def forbids(self, filter_: str) -> str:
        """Why this filter must not be subscribed; empty: it may be.

        The broker would end the connection (3.2.2.3.11, 3.2.2.3.13).
        """
        if filter_.startswith("$share/") and not self.shared_subscriptions:
            return "CONNACK: Shared Subscription Available = 0"
        if not self.wildcards and any(level in ("+", "#") for level in filter_.split("/")):
            return "CONNACK: Wildcard Subscription Available = 0"
        return ""

    def weakens(self, settings: MqttSettings, identifiers_wanted: bool) -> Iterator[tuple[str, str]]:
        """What the broker's restriction is, and what it means for the bridge's guarantees."""
        expiry = self.session_expiry
        if expiry is not None and expiry < settings.session_expiry:
            yield (
                f"Session Expiry Interval = {DURATION.format(float(expiry))}",
                "the broker ends the session with each connection, so it loses what devices publish while the"
                " bridge is not connected"
                if expiry == 0
                else "the broker ends the session of a bridge that is away for longer, and loses what waits"
                f" in it; mqtt.session_expiry asks for {DURATION.format(settings.session_expiry)}",
            )
        if identifiers_wanted and not self.subscription_identifiers:
            yield (
                "Subscription Identifier Available = 0",
                "copies of one message for several overlapping routes can't be told apart, so each copy is"
                " produced; give the routes filters that do not overlap",
            )
        size = self.maximum_packet_size
        if size is not None and size > settings.max_packet_size:
            yield (
                f"Maximum Packet Size = {SIZE.format(size)}",
                "the broker takes larger messages from devices than mqtt.max_packet_size, which is"
                f" {SIZE.format(settings.max_packet_size)}, and drops them without a word to the bridge; set"
                " the broker's limit to that, so that it refuses such messages to the device",
            )
