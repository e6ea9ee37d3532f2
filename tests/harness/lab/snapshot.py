"""What the live view shows, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.harness.lab.score import Score


@dataclass
class Told:
    """Something that was told at `at` s. Its text grows while what it tells of goes on."""

    at: float
    text: str
    goes_on: bool = False

    def __str__(self) -> str:
        return f"{clock(self.at)} {self.text}{' ...' if self.goes_on else ''}"


@dataclass(frozen=True)
class Seat:
    """An EMQ node as HAProxy knows it: "UP" or "DOWN", and how many sessions it carries."""

    state: str
    devices: int
    bridge: int


def checked(seat: Seat | None) -> str:
    """The condition of a broker that is not ours, as HAProxy's checks have it."""
    return {"UP": "up", "DOWN": "down"}.get(seat.state if seat else "", "unknown")


@dataclass(frozen=True)
class Snapshot:
    """A moment of the lab. What HAProxy knows (`seats`) is None while it does not answer."""

    elapsed: int  # s
    ends_in: int | None  # s; None: when somebody ends it
    stand_in: str  # what plays EMQ
    devices: int
    conditions: Mapping[str, str]  # host -> up, down, hung, starts, unknown
    beyond_reach: frozenset[str]  # hosts that can't be killed or hung from here
    seats: Mapping[str, Seat] | None
    score: Score
    published_rate: float  # messages/s
    delivered_rate: float
    dashboards: str
    console: str
    told: tuple[str, ...]
    warning: str  # what is about to be lost, if anything is
    keys: str  # why they do nothing now; empty: they work


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"
