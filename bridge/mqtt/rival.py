"""Another client with the same client id, found by what happens to this bridge's connections. Pure.

A broker gives the session to the client that connected last, and ends the connection of the other one.
EMQX says so on MQTT 5 (DISCONNECT 0x8E). Nobody says so on MQTT 3.1.1, and mosquitto before 2.1 closes
without DISCONNECT on MQTT 5 too.

Such a close looks like that of a balancer that is restarted, but for what follows: the balancer's port then
refuses the next attempt, or closes it before CONNACK. After a take-over the broker answers the next
attempt at once. So two things are told:

* A fight: another client keeps taking the session back. The bridge's connections end soon after they
  were LIVE, several times in a row, and the broker answers each attempt in between.
* A doubt: another client may have had the session since this bridge last had it, and may have changed its
  subscriptions. That is so at the start, for another host may have had its turn, or a backup was put back;
  after each end that may have been a take-over; and after a time in which nothing was heard of the broker.
"""

from enum import Enum, auto

_SHORT_LIFE = 5.0  # seconds
_SHORT_LIVES = 3  # this many in a row are a fight; where the broker names the cause, two are

AWAY_TOO_LONG = 10.0  # seconds without the session, after which another client may have had it


class End(Enum):
    """How a connection ended that had its CONNACK."""

    TAKEN_OVER = auto()  # DISCONNECT 0x8E
    CLOSED = auto()  # the peer closed it without DISCONNECT: FIN or RST
    SILENT = auto()  # the peer was not heard for long: keepalive, TCP's time-outs
    OTHER = auto()  # DISCONNECT with another reason, or the bridge ended it itself


class Rival:
    """Is told how each connection ended and how each attempt was answered. Times are monotonic, in s."""

    def __init__(self) -> None:
        self._end: End | None = None  # of the last connection that had its CONNACK
        self._ended_at = 0.0
        self._first_attempt = False  # none has failed since that end
        self._short_lives = 0  # in a row, each answered at once

    def lost(self, end: End, lived: float, now: float) -> str:
        """A connection ended that was LIVE for `lived` s; 0: it never was.

        Returns the evidence of a fight; empty: there is none.
        """
        said_before = self._end is End.TAKEN_OVER
        if lived >= _SHORT_LIFE or end not in (End.TAKEN_OVER, End.CLOSED):
            self._short_lives = 0
        elif lived:
            self._short_lives += 1
        self._end, self._ended_at, self._first_attempt = end, now, True
        if end is End.TAKEN_OVER and said_before and self._short_lives > 1:
            return "the broker says so, again and again"
        if self._short_lives >= _SHORT_LIVES:
            return (
                f"closed {self._short_lives} times in a row within {_SHORT_LIFE:.0f} s, while the broker"
                " answers each new connection at once"
            )
        return ""

    def failed(self) -> None:
        """An attempt ended before CONNACK: the broker or the way to it is down, which explains the close."""
        self._first_attempt = False
        if self._end is not End.TAKEN_OVER:
            self._short_lives = 0

    def doubt(self, now: float) -> str:
        """A CONNACK came. Why another client may have had the session in between; empty: no reason."""
        if self._end is None:
            return "the bridge has just started"
        if self._end is End.TAKEN_OVER:
            return "another client took the session"
        if self._end is End.SILENT:
            return "the connection before was silent until it ended"
        if self._end is End.CLOSED and self._first_attempt:
            return "the connection before was closed by a broker that answers, as after a take-over"
        if now - self._ended_at > AWAY_TOO_LONG:
            return f"the bridge was without the session for more than {AWAY_TOO_LONG:.0f} s"
        return ""
