"""How long to wait before the next attempt to connect. Pure."""

import random
from collections.abc import Callable

from bridge.settings import ReconnectSettings

_MOMENT = 1.0  # seconds


class Backoff:
    """Short delays: while the bridge waits, EMQ's queue for its session fills, and then drops messages.

    The first attempt after a connection that was LIVE for a moment is made at once. Further attempts wait
    0.1 to 0.5 s (with the default settings), twice as long each time, and 2 s at most. The delays are
    random, so that several bridges behind one balancer do not connect in step.

    A connection that was LIVE for less than a moment does not reset the delays: a broker that ends each
    connection right after SUBACK must not cause a tight loop.
    """

    def __init__(
        self, settings: ReconnectSettings, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._settings = settings
        self._uniform = uniform
        self._attempts = 0  # that waited, since a connection was last LIVE for a moment
        self._at_once = True

    def next_delay(self) -> float:
        """Seconds to wait before the next attempt."""
        if self._at_once:
            self._at_once = False
            return 0.0
        attempts, self._attempts = self._attempts, self._attempts + 1
        least = self._settings.min_delay * 2.0 ** min(attempts, 32)
        most = self._settings.max_delay
        return self._uniform(min(least, most / 2), min(5 * least, most))

    def refused_delay(self) -> float:
        """Seconds to wait when only a person can help: long, with jitter so that clients retry apart."""
        return self._uniform(0.5, 1.0) * self._settings.refused_delay

    def was_live_for(self, seconds: float) -> None:
        """A connection has ended. It was LIVE for `seconds`; 0: it never became LIVE."""
        self._at_once = seconds >= _MOMENT
        if self._at_once:
            self._attempts = 0
