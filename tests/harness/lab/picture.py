"""deploy/lab picture: the live view as an SVG, from a real lab in which emq1 was killed."""

import io
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from tests.harness.lab.chain import Plan
from tests.harness.lab.draw import HEIGHT, WIDTH, draw
from tests.harness.lab.run import lab
from tests.harness.lab.snapshot import Snapshot

_Colour = tuple[int, int, int]
_BLACK, _WHITE = (13, 17, 23), (230, 237, 243)
_RED, _GREEN, _YELLOW = (255, 123, 114), (86, 211, 100), (210, 153, 34)
_BLUE, _MAGENTA, _CYAN = (121, 192, 255), (210, 168, 255), (86, 212, 221)
_THEME = TerminalTheme(_BLACK, _WHITE, [_BLACK, _RED, _GREEN, _YELLOW, _BLUE, _MAGENTA, _CYAN, _WHITE])

# rich's own template loads a font from the web. Texts are stretched to their cells: any monospaced font
# works.
_FORMAT = """\
<svg class="{unique_id}" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
    font-size: {char_height}px;
    line-height: {line_height}px;
}}
.{unique_id}-title {{ font: bold 18px sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""

_ROWS = HEIGHT + 4  # so that both entries fit


def picture(file: Path) -> int:
    """Start the lab, kill emq1, send a message, save the view as an SVG. Returns the exit code."""
    with lab(Plan()) as running:
        running.keys = ""
        running.do("kill", "emq1")
        running.publish("garden/gate", "open")
        file.write_text(as_svg(running.snapshot()))
        return int(not running.judge().is_good)


def as_svg(now: Snapshot, theme: TerminalTheme = _THEME) -> str:
    console = Console(
        width=WIDTH,
        height=_ROWS,
        file=io.StringIO(),
        record=True,
        force_terminal=True,
        color_system="standard",
        legacy_windows=False,
    )
    console.print(draw(now, WIDTH, _ROWS))
    return console.export_svg(
        title="deploy/lab up", theme=theme, code_format=_FORMAT, font_aspect_ratio=0.6, unique_id="lab"
    )
