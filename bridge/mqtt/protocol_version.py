"""Which MQTT the broker speaks: 5 first, 3.1.1 where there is nothing newer. Pure.

A broker that knows only 3.1.1 answers a CONNECT of MQTT 5 with CONNACK 1 or 0x84, or just closes, as
RabbitMQ 3.10 does. But HAProxy closes too when no EMQ is up, and a session that is resumed with 3.1.1
loses what MQTT 5 carries. So after a mere close 3.1.1 is believed only when it got its CONNACK and MQTT 5,
tried once more right after, was closed again. Even that may have been an EMQ that was just starting, so
after a long connection it has to be proved again.
"""

from enum import Enum, auto
from typing import Literal

_LONG = 3600.0  # seconds; the proof takes two connections more, which is nothing beside that


class _Belief(Enum):
    NOTHING = auto()
    CLOSED_ON_5 = auto()  # try 3.1.1
    PROVING = auto()  # 3.1.1 works; try 5 once more
    ONLY_3_1_1 = auto()
    SPEAKS_5 = auto()


class ProtocolVersion:
    """Told how each attempt ended, it says which version the next one uses."""

    def __init__(self, setting: Literal["auto", "5", "3.1.1"]) -> None:
        self._setting = setting
        self._belief = _Belief.NOTHING
        self._was_told = False  # by the broker itself

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
        """CONNACK says that MQTT 5 is not spoken. True: 3.1.1 is worth trying."""
        if self._setting != "auto" or not self.mqtt5:
            return False
        self._belief = _Belief.ONLY_3_1_1
        self._was_told = True
        return True

    def was_live_for(self, seconds: float) -> None:
        """A connection has ended that was LIVE for so long."""
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
        """CONNACK 0. False: do not keep this connection, it was only to learn the version."""
        if self._setting != "auto":
            return True
        if self._belief is _Belief.CLOSED_ON_5:
            self._belief = _Belief.PROVING
            return False
        if self.mqtt5:
            self._belief = _Belief.SPEAKS_5
        return True
