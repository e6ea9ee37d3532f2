"""How long to wait before the next attempt to connect. Pure."""

import random
from collections.abc import Callable

from bridge.settings import ReconnectSettings


class Backoff:
    """Full jitter, so that all clients of a balancer that comes back do not come back in step.

    The first attempt after a connection that was LIVE is at once: while no subscription exists, EMQ
    acknowledges what devices publish and drops it. The count starts anew only after a session was LIVE
    for `stable_after`: HAProxy accepts connections, and closes them, when no EMQ is up.
    """

    def __init__(
        self, settings: ReconnectSettings, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._settings = settings
        self._uniform = uniform
        self._attempts = 0  # since the connection was last stable

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt."""
        attempts, self._attempts = self._attempts, self._attempts + 1
        if attempts == 0:
            return 0.0
        ceiling = self._settings.min_delay * 2.0 ** min(attempts - 1, 32)
        return self._uniform(0.0, min(self._settings.max_delay, ceiling))

    def refused_delay(self) -> float:
        """Seconds to wait where only a person can help: long, and not all at once either."""
        return self._uniform(0.5, 1.0) * self._settings.refused_delay

    def was_live_for(self, seconds: float) -> None:
        if seconds >= self._settings.stable_after:
            self._attempts = 0
