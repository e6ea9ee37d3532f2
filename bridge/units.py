"""Reads and writes durations and sizes as people write them: `60s`, `200ms`, `3h`, `7d`, `16MB`, `64KiB`.

Inside the program a duration is a number of seconds, and a size is a number of bytes. A number without a unit
means the same. A unit is better style, because the reader must guess the unit of `keepalive = 60`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator

_NUMBER_AND_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)")


@dataclass(frozen=True)
class Unit:
    """One kind of quantity.

    A Unit is metadata of a setting's type, where --help, error messages and the reference find it.
    """

    noun: str
    example: str
    factors: Mapping[str, Decimal]  # the units that may follow the number
    written: tuple[str, ...]  # the units that the program itself writes, largest first

    def parse(self, value: Any) -> Any:
        """The seconds or bytes of a written value. Raises ValueError, which pydantic reports."""
        if isinstance(value, str):
            match = _NUMBER_AND_UNIT.fullmatch(value.strip())
            if match and (factor := self.factors.get(match[2].lower())):
                return float(Decimal(match[1]) * factor)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return value
        raise ValueError(f"{self.noun} is {self.example}")

    def format(self, value: float) -> str:
        """The shortest exact way to write it: 60.0 is 60s, 10800 is 3h, 16000000 is 16MB."""
        exact = Decimal(str(value))
        if not exact:
            return "0"
        for unit in self.written:
            amount = exact / self.factors[unit.lower()]
            if amount >= 1 and amount == amount.to_integral_value():
                return f"{amount:.0f}{unit}"
        return f"{exact.normalize():f}{self.written[-1]}"


DURATION = Unit(
    noun="a duration",
    example="a number and a unit, such as 200ms, 60s, 5min, 3h or 7d",
    factors={
        "": Decimal(1),
        "ms": Decimal("0.001"),
        "s": Decimal(1),
        "min": Decimal(60),
        "h": Decimal(3600),
        "d": Decimal(86400),
    },
    written=("d", "h", "s", "ms"),  # no minutes: configuration files usually contain 60s and 90s
)

SIZE = Unit(
    noun="a size",
    example="a number and a unit, such as 64KiB, 16MB or 1GB",
    factors={
        "": Decimal(1),
        "b": Decimal(1),
        "kb": Decimal(10**3),
        "mb": Decimal(10**6),
        "gb": Decimal(10**9),
        "kib": Decimal(2**10),
        "mib": Decimal(2**20),
        "gib": Decimal(2**30),
    },
    written=("GB", "GiB", "MB", "MiB", "KB", "KiB", "B"),
)

Duration = Annotated[float, BeforeValidator(DURATION.parse), DURATION]
"""Seconds."""

Size = Annotated[int, BeforeValidator(SIZE.parse), SIZE]
"""Bytes."""


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):  # Python, and so pydantic, takes a bool for 0 or 1
        raise ValueError("true and false are not numbers")  # noqa: TRY004
    return value


Count = Annotated[int, BeforeValidator(_no_truth)]
"""A whole number."""


def size(count: float) -> str:
    """A number of bytes with three digits, for people: 1.50 GB."""
    amount, unit = float(count), "B"
    for larger in ("KB", "MB", "GB"):
        if amount >= 999.5:
            amount, unit = amount / 1000, larger
    return f"{count} B" if unit == "B" else f"{amount:.3g} {unit}"
