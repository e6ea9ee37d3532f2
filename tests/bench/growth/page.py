"""Puts the figures of a JSON file into the documentation: a picture and a table for each curve.

A page has `<!-- growth: NAME -->` before these and `<!-- end -->` after it. The rest of the page stays as
it is: a person writes about a curve around these.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.bench.growth import figures
from tests.bench.growth.curves import CURVES, Curve
from tests.bench.growth.figures import Measured
from tests.harness.kit import ROOT

PAGE = ROOT / "docs" / "explanation" / "performance.md"
PICTURES = ROOT / "docs" / "images"


def insert(file: Path, page: Path = PAGE, pictures: Path = PICTURES) -> list[str]:
    """Returns the names of the inserted curves. Raises RuntimeError if the page has no place for one."""
    from tests.bench import plot  # its package is large, and needed only here

    measured = figures.load(file)
    curves = [curve for curve in CURVES if curve.name in measured]
    text = page.read_text()
    for curve in curves:
        text = with_table(text, curve, measured)
        if measured[curve.name].points:
            plot.curve(
                curve.title, curve.grows, measured[curve.name], curve.panels, pictures / picture(curve.name)
            )
    page.write_text(text)
    return [curve.name for curve in curves]


def picture(name: str) -> str:
    return f"growth-{name}.svg"


def with_table(page: str, curve: Curve, measured: Mapping[str, Measured]) -> str:
    """The page with this curve's picture and table in their place."""
    one = measured[curve.name]
    text = f"{one.heading}\n\n{figures.table(curve.grows, one)}"
    if one.points:
        text = f"![{curve.title}](../images/{picture(curve.name)})\n\n{text}"
    place = re.compile(rf"(<!-- growth: {re.escape(curve.name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    changed, places = place.subn(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)
    if places != 1:
        raise RuntimeError(
            f"the page has {places} places for {curve.name}: it needs one <!-- growth: ... -->"
        )
    return changed
