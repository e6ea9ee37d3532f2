"""How long to wait before the next attempt to connect. Pure."""

import random
from collections.abc import Callable

from bridge.settings import ReconnectSettings

_MOMENT = 2.0  # seconds


class Backoff:
    """Full jitter, so that all clients of a balancer that comes back do not come back in step.

    The first attempt after a connection that was LIVE is at once: while the bridge is away EMQ's queue
    fills, or drops what devices publish. Two clients that take a session from each other are LIVE for a
    moment only, and do not count. The delays of further attempts start anew only after a session was
    LIVE for `stable_after`.
    """

    def __init__(
        self, settings: ReconnectSettings, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._settings = settings
        self._uniform = uniform
        self._attempts = 0  # since the connection was last stable
        self._at_once = True

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt."""
        if self._at_once:
            self._at_once = False
            return 0.0
        attempts, self._attempts = self._attempts, self._attempts + 1
        ceiling = self._settings.min_delay * 2.0 ** min(attempts, 32)
        return self._uniform(0.0, min(self._settings.max_delay, ceiling))

    def refused_delay(self) -> float:
        """Seconds to wait where only a person can help: long, and not all at once either."""
        return self._uniform(0.5, 1.0) * self._settings.refused_delay

    def was_live_for(self, seconds: float) -> None:
        """A connection has ended that was LIVE for so long; 0: it never was."""
        self._at_once = seconds >= _MOMENT
        if seconds >= self._settings.stable_after:
            self._attempts = 0
