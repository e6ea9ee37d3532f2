"""The calls that a session makes to its owner: the pipeline, or the dry run."""

from collections.abc import Collection, Sequence
from typing import Protocol

from bridge.message import Packet
from bridge.routing.topics import Subscription


class Handler(Protocol):
    """The session calls all of these methods in the loop's thread."""

    def subscriptions(self, refused: Collection[str]) -> Sequence[Subscription]:
        """Return the subscriptions wanted while the broker refuses `refused`. Raises ConfigurationError."""

    def connecting(self) -> None:
        """CONNECT is about to be sent. Raises SpoolUnusable: then it must not be sent now."""

    def connected(self, session_present: bool, mqtt5: bool) -> None:
        """The broker sent CONNACK 0: a new epoch begins. Raises SpoolUnusable: then the connection must end
        before anything more is sent.
        """

    def subscribed(self) -> None:
        """The broker answered SUBSCRIBE: it granted the last `subscriptions`, except those it refused."""

    def session_lost(self) -> None:
        """The broker no longer has the session that the bridge expected."""

    def receive(self, packets: list[Packet]) -> None:
        """PUBLISH and PUBREL packets have come, in this order."""

    def handed_over(self, acknowledgements: int) -> None:
        """The kernel has taken this many more of the acknowledgements that `Session.acknowledge` sends."""

    def taken_over(self) -> None:
        """Another client has taken the session over, and may still have it. Called before `disconnected`."""

    def disconnected(self) -> None:
        """The connection has ended: the handler can acknowledge nothing more on it."""
