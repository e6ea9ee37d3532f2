"""Who a session works for: the pipeline, or the dry run."""

from collections.abc import Collection, Sequence
from typing import Protocol

from bridge.message import Packet
from bridge.routing.topics import Subscription


class Handler(Protocol):
    """All of it is called in the loop's thread."""

    def subscriptions(self, refused: Collection[str]) -> Sequence[Subscription]:
        """What to subscribe when the broker refuses these filters. Raises ConfigurationError."""

    def connected(self, session_present: bool, mqtt5: bool) -> None:
        """CONNACK 0 came: a new epoch."""

    def session_lost(self) -> None:
        """The broker no longer knew a session that should have been there."""

    def receive(self, packets: list[Packet]) -> None:
        """PUBLISH and PUBREL, in the order they came."""

    def handed_over(self, acknowledgements: int) -> None:
        """The kernel took so many more of those that `Session.acknowledge` was given."""

    def taken_over(self) -> None:
        """Another client has the session, or had it. Called before `disconnected`."""

    def disconnected(self) -> None:
        """Nothing more can be acknowledged on this connection."""
