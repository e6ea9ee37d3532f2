"""The table of the fault suite's rounds."""

from dataclasses import replace

from tests.faults.table import Outcome, markdown

ROUND = Outcome(
    published=1000,
    lost=0,
    doubled=3,
    bound=100,
    inversions=0,
    stall=1.0,
    seconds_to_live=0.25,
    peak_mb=55.4,
    qos_1=400,
    qos_2=300,
)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def test_counts_are_added_up_and_times_are_median_and_worst() -> None:
    text = markdown({"it dies": [ROUND, ROUND, replace(ROUND, stall=7.0, peak_mb=60.0)]}, {})
    row = ["it dies", "3", "3,000", "1,200", "900", "0", "9", "300", "0", "1.0 (7.0)", "0.2 (0.2)", "60"]
    assert rows(text) == [row]


def test_a_session_that_was_never_cut_has_no_time_to_live() -> None:
    assert rows(markdown({"it dies": [replace(ROUND, seconds_to_live=0.0)]}, {}))[0][10] == "-"


def test_rounds_that_failed_are_told() -> None:
    text = markdown({"it dies": [ROUND]}, {"it dies": 1, "it hangs": 2})
    assert [row[:2] for row in rows(text)] == [["it dies", "1, 1 failed"], ["it hangs", "0, 2 failed"]]
