"""Finds out which MQTT version the broker speaks: MQTT 5, or 3.1.1 where the broker has no MQTT 5. Pure.

A broker that speaks only 3.1.1 answers an MQTT 5 CONNECT with CONNACK 1 or 0x84, or closes the connection
without a CONNACK, as RabbitMQ 3.10 does. But HAProxy closes the connection too while no EMQ node is up, and
a session that is resumed with 3.1.1 loses the properties of MQTT 5. So a close without CONNACK proves
nothing. The bridge tries 3.1.1; when the broker accepts 3.1.1, the bridge tries MQTT 5 once more at once.
Only when this attempt is closed too, the bridge uses 3.1.1. An EMQ node that was just starting may have
caused even this, so the bridge repeats the proof after a long connection.
"""

from enum import Enum, auto
from typing import Literal

_LONG = 3600.0  # seconds; the two extra connections of another proof cost little compared with this time


class _Belief(Enum):
    NOTHING = auto()
    CLOSED_ON_5 = auto()  # try 3.1.1 next
    PROVING = auto()  # 3.1.1 works; try MQTT 5 once more
    ONLY_3_1_1 = auto()
    SPEAKS_5 = auto()


class ProtocolVersion:
    """Decides the version of the next attempt. The session reports how each attempt ended."""

    def __init__(self, setting: Literal["auto", "5", "3.1.1"]) -> None:
        self._setting = setting
        self._belief = _Belief.NOTHING
        self._was_told = False  # a CONNACK of the broker refused MQTT 5

    @property
    def mqtt5(self) -> bool:
        if self._setting != "auto":
            return self._setting == "5"
        return self._belief not in (_Belief.CLOSED_ON_5, _Belief.ONLY_3_1_1)

    @property
    def name(self) -> str:
        return "5" if self.mqtt5 else "3.1.1"

    @property
    def fell_back(self) -> bool:
        return self._belief is _Belief.ONLY_3_1_1

    def version_refused(self) -> bool:
        """The broker's CONNACK refused the version. True: try 3.1.1."""
        if self._setting != "auto" or not self.mqtt5:
            return False
        self._belief = _Belief.ONLY_3_1_1
        self._was_told = True
        return True

    def was_live_for(self, seconds: float) -> None:
        """A connection has ended. It was LIVE for `seconds`."""
        if self.fell_back and not self._was_told and seconds >= _LONG:
            self._belief = _Belief.NOTHING

    def closed_before_connack(self) -> None:
        match self._belief:
            case _Belief.NOTHING:
                self._belief = _Belief.CLOSED_ON_5
            case _Belief.CLOSED_ON_5:
                self._belief = _Belief.NOTHING
            case _Belief.PROVING:
                self._belief = _Belief.ONLY_3_1_1

    def accepted(self) -> bool:
        """The broker sent CONNACK 0. False: close this connection, it served only to learn the version."""
        if self._setting != "auto":
            return True
        if self._belief is _Belief.CLOSED_ON_5:
            self._belief = _Belief.PROVING
            return False
        if self.mqtt5:
            self._belief = _Belief.SPEAKS_5
        return True
