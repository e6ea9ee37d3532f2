"""How long to wait before the next attempt to connect. Pure."""

import random
from collections.abc import Callable

from bridge.settings import ReconnectSettings

_MOMENT = 2.0  # seconds; a connection that was LIVE for less does not count as LIVE


class Backoff:
    """Exponential delays with full jitter: when a balancer comes back, its clients connect at random times.

    The first attempt after a LIVE connection has no delay: while the bridge is away, EMQ's queue fills, and
    a full queue drops what devices publish. A connection that was LIVE for less than 2 s does not count:
    two clients that take the session from each other have only such connections. The delays start again at
    the shortest only after a connection was LIVE for `stable_after`.
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
        """Seconds to wait when only a person can help: long, with jitter so that clients retry apart."""
        return self._uniform(0.5, 1.0) * self._settings.refused_delay

    def was_live_for(self, seconds: float) -> None:
        """A connection has ended. It was LIVE for `seconds`; 0: it never became LIVE."""
        self._at_once = seconds >= _MOMENT
        if seconds >= self._settings.stable_after:
            self._attempts = 0
