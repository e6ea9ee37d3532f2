"""Parsing of durations and sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.units import DURATION, SIZE, Unit


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("60s", 60), ("200ms", 0.2), ("5min", 300), ("3h", 10800), ("7d", 604800), ("1.5h", 5400), ("60", 60)],
)
def test_a_duration_is_read(written: str, seconds: float) -> None:
    assert DURATION.parse(written) == seconds


@pytest.mark.parametrize(
    ("written", "size"),
    [("16MB", 16_000_000), ("64KiB", 65536), ("1GB", 10**9), ("512B", 512), ("1.5mb", 1_500_000), ("7", 7)],
)
def test_a_size_is_read(written: str, size: int) -> None:
    assert SIZE.parse(written) == size


@pytest.mark.parametrize("number", [60, 0.25])
def test_a_bare_number_means_itself(number: float) -> None:
    assert DURATION.parse(number) == number


@pytest.mark.parametrize(
    "written", ["", "s", "-5s", "1h30m", "60 seconds", "nan", "5m", "1e3s", "٣s", True, None, [5]]
)
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="a duration is a number and a unit, such as 200ms"):
        DURATION.parse(written)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(60.0, "60s"), (75, "75s"), (0.2, "200ms"), (10800, "3h"), (604800, "7d"), (5400, "5400s"), (0, "0")],
)
def test_a_duration_is_written_as_people_write_it(seconds: float, written: str) -> None:
    assert DURATION.format(seconds) == written


@pytest.mark.parametrize(
    ("size", "written"), [(16_000_000, "16MB"), (65536, "64KiB"), (1 << 30, "1GiB"), (1_000_001, "1000001B")]
)
def test_a_size_is_written_as_people_write_it(size: int, written: str) -> None:
    assert SIZE.format(size) == written


@given(st.sampled_from([DURATION, SIZE]), st.integers(0, 10**12))
def test_what_is_written_can_be_read_again(unit: Unit, amount: int) -> None:
    assert unit.parse(unit.format(amount)) == amount
