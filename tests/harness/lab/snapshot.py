"""The content of the live view, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.harness.lab.score import Score


@dataclass
class Told:
    """An entry of the log, made at `at` s. Its text grows while its action goes on."""

    at: float
    text: str
    goes_on: bool = False

    def __str__(self) -> str:
        return f"{clock(self.at)} {self.text}{' ...' if self.goes_on else ''}"


@dataclass(frozen=True)
class Seat:
    """An EMQ node as HAProxy sees it: "UP" or "DOWN", and how many sessions the node carries."""

    state: str
    devices: int
    bridge: int  # of the lab's own bridge
    others: int = 0  # other clients at the bridges' port, such as a bridge of the user


def checked(seat: Seat | None) -> str:
    """The condition, by HAProxy's checks, of a broker that the lab did not start."""
    return {"UP": "up", "DOWN": "down"}.get(seat.state if seat else "", "unknown")


@dataclass(frozen=True)
class Snapshot:
    """The lab at one moment. `seats` (what HAProxy knows) is None while HAProxy does not answer."""

    elapsed: int  # s
    ends_in: int | None  # s; None: the lab runs until a user ends it
    stand_in: str  # which brokers simulate EMQ
    devices: int
    conditions: Mapping[str, str]  # host -> up, down, hung, starts, unknown
    beyond_reach: frozenset[str]  # hosts that the lab cannot kill or hang
    seats: Mapping[str, Seat] | None
    score: Score
    published_rate: float  # messages/s
    delivered_rate: float
    page: str  # the address of the bridge's page
    dashboards: str
    console: str
    told: tuple[str, ...]
    warning: str  # says that EMQ dropped messages or is about to, if so
    keys: str  # why the keys do nothing now; empty: they work


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"
