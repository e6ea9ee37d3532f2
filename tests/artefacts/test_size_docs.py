"""Every figure of docs/how-to/size.md is one of docs/explanation/performance.md, in the row of the bridge."""

import re

import pytest

from tests.harness.kit import ROOT

SIZE = (ROOT / "docs/how-to/size.md").read_text()
OURS = [
    row
    for row in (ROOT / "docs/explanation/performance.md").read_text().splitlines()
    if row.startswith(("| mqtt-kafka-bridge, as shipped |", "| into the spool |", "| out of it |"))
]
PEAK = re.search(r"The peak memory was (\d+) MB", (ROOT / "docs/explanation/performance.md").read_text())
FIGURES = re.findall(r"^\|[^|]+\| ([\d.,]+) \|", SIZE, re.MULTILINE) + re.findall(r" ([\d.]+) ms[,\s]", SIZE)


def test_there_are_figures() -> None:
    assert len(FIGURES) >= 12


@pytest.mark.parametrize("figure", [each for each in FIGURES if each != "10"])  # 10 ms: an example
def test_a_figure_is_one_that_the_bench_has_printed(figure: str) -> None:
    cells = {cell.strip().split(" ")[0] for row in OURS for cell in row.split("|")}
    assert PEAK
    assert figure in cells | {PEAK[1]}
