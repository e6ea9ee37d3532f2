"""Draws a snapshot of the lab as text of a terminal, 80 columns wide or more. Pure.

The colours are readable on a dark and on a light background, and never the only sign: each state has a word
and a symbol too. Lines without traffic are dotted.
"""

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.harness.lab.keys import HOSTS, QUIT, SEND
from tests.harness.lab.snapshot import Seat, Snapshot, clock

WIDTH, HEIGHT = 80, 24

_STATES = {
    "up": ("● up", Style(color="green")),
    "down": ("○ down", Style(color="red", bold=True)),
    "hung": ("■ hung", Style(color="magenta", bold=True)),
    "starts": ("… starts", Style(color="cyan")),
    "unknown": ("? unknown", Style()),
}
_PLAIN, _BOLD, _FAINT = Style(), Style(bold=True), Style(dim=True)
_KEY = Style(color="cyan", bold=True)
_BAD = Style(color="red", bold=True)

# The columns of the chain, and the row of single hosts.
_DEVICES, _HAPROXY, _EMQ, _BRIDGE, _KAFKA = 1, 19, 35, 56, 71
_MIDDLE = 3
_ROWS = {"haproxy": 3, "emq1": 1, "emq2": 5, "bridge": 3, "kafka1": 1, "kafka2": 3, "kafka3": 5}  # of states
_COLUMNS = {"haproxy": _HAPROXY, "emq": _EMQ, "bridge": _BRIDGE, "kafka": _KAFKA}
_CHAIN_HEIGHT = 8


def draw(now: Snapshot, width: int = WIDTH, height: int = HEIGHT) -> Text:
    """The whole view, of exactly `height` lines. The latest events get the remaining room."""
    if width < WIDTH or height < HEIGHT:
        return _too_small(now, width, height)
    head = [
        _title(now),
        Text(" " + now.stand_in),
        Text(),
        *_chain(now),
        Text(),
        _score(now),
        _duplicated(now),
        _meaning(now),
        Text(),
    ]
    foot = [
        Text(),
        Text.assemble((" bridge     ", _FAINT), now.page, ("   dashboards ", _FAINT), now.dashboards),
        Text.assemble((" console    ", _FAINT), now.console),
        _keys(now),
    ]
    room = height - len(head) - len(foot)
    told = _latest(now.told, width, room)
    lines = [*head, *told, *[Text()] * (room - len(told)), *foot]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True, end="").join(lines)


def _title(now: Snapshot) -> Text:
    ends = "" if now.ends_in is None else f", ends in {clock(now.ends_in)}"
    return Text.assemble(
        " ", ("The lab of mqtt-kafka-bridge", _BOLD), f"   up for {clock(now.elapsed)}{ends}"
    )


def _score(now: Snapshot) -> Text:
    score = now.score
    return Text.assemble(
        " published ",
        (f"{score.published}", _BOLD),
        " = delivered ",
        (f"{score.delivered}", _BOLD),
        " + in flight ",
        (f"{score.in_flight}", _BOLD),
        " + on disk ",
        (f"{score.on_disk}", _BOLD),
        " + ",
        # `warning` says who has taken them.
        (f"{'taken' if score.is_shared else 'lost'} {score.lost}", _BAD if score.lost else _BOLD),
    )


def _duplicated(now: Snapshot) -> Text:
    count = now.score.duplicated
    waits = "     on disk: at the bridge, which delivers it once Kafka is back" if now.score.on_disk else ""
    return Text.assemble(" ", (f"duplicated {count}", _BAD if count else _BOLD), waits)


def _meaning(now: Snapshot) -> Text:
    if now.warning:
        return Text(f" {now.warning}", _BAD)
    return Text(" published: acknowledged by EMQ to a device     delivered: read out of Kafka")


def _keys(now: Snapshot) -> Text:
    if now.keys:
        return Text.assemble(f" {now.keys}   ", (QUIT, _KEY), " quit")
    first, last = min(HOSTS), max(HOSTS)
    return Text.assemble(
        " ",
        (f"{first}-{last}", _KEY),
        " kill or start a host   ",
        (f"{first.upper()}-{last.upper()}", _KEY),
        " hang or resume it   ",
        (SEND, _KEY),
        " send a message   ",
        (QUIT, _KEY),
        " quit",
    )


def _latest(told: Sequence[str], width: int, room: int) -> list[Text]:
    """As many of the last entries as fit. An entry is cut only if it is the only one."""
    lines: list[Text] = []
    for entry in reversed(told):
        before = list(_told(entry, width))
        if lines and len(lines) + len(before) > room:
            break
        lines = [*before, *lines]
    return lines[:room]


def _told(entry: str, width: int) -> Iterator[Text]:
    """One entry, wrapped; continuation lines begin under its first word."""
    time, _, words = entry.partition(" ")
    words = "".join(character if character.isprintable() else "?" for character in words.split("\n")[0])
    measure = Console(width=width, file=io.StringIO(), color_system=None)
    for number, line in enumerate(Text(words).wrap(measure, width - len(time) - 3)):
        line.rstrip()
        yield Text.assemble(" ", (time if not number else " " * len(time), _FAINT), " ", line)


def _too_small(now: Snapshot, width: int, height: int) -> Text:
    text = (
        f"This terminal is {width}x{height}: the view needs {WIDTH}x{HEIGHT}. "
        f"The lab goes on: {now.score}. {QUIT} quits."
    )
    return Text(text, overflow="fold")


# -- the chain ---------------------------------------------------------------------------------


class _Canvas:
    """Rows of characters; any position can be written."""

    def __init__(self, rows: int) -> None:
        self._rows: list[list[tuple[str, Style]]] = [[(" ", _PLAIN)] * WIDTH for _ in range(rows)]

    def put(self, row: int, column: int, text: str, style: Style = _PLAIN) -> None:
        for place, character in enumerate(text, column):
            self._rows[row][place] = character, style

    def lines(self) -> Iterator[Text]:
        for row in self._rows:
            runs = itertools.groupby(row, key=lambda cell: cell[1])
            line = Text.assemble(*(("".join(cell[0] for cell in run), style) for style, run in runs))
            line.rstrip()
            yield line


def _chain(now: Snapshot) -> Iterable[Text]:
    canvas = _Canvas(_CHAIN_HEIGHT)
    _lines(canvas, now)
    _devices(canvas, now)
    for key, name in HOSTS.items():
        row, column = _ROWS[name], _COLUMNS[name.rstrip("123")]
        if name not in now.beyond_reach:
            canvas.put(row - 1, column, key, _KEY)
        canvas.put(row - 1, column + 2, name, _BOLD)
        canvas.put(row, column, *_STATES[now.conditions[name]])
    _sessions(canvas, now)
    canvas.put(_MIDDLE + 1, _BRIDGE, "delivers")
    canvas.put(_MIDDLE + 2, _BRIDGE, f"{now.delivered_rate:.0f} msg/s")
    return canvas.lines()


def _devices(canvas: _Canvas, now: Snapshot) -> None:
    canvas.put(_MIDDLE, _DEVICES, _devices_of(now.devices))
    canvas.put(_MIDDLE + 1, _DEVICES, "publish")
    canvas.put(_MIDDLE + 2, _DEVICES, f"{now.published_rate:.0f} msg/s")


def _devices_of(count: int) -> str:
    return f"{count} device{'' if count == 1 else 's'}"


def _sessions(canvas: _Canvas, now: Snapshot) -> None:
    """Draw which clients are connected to HAProxy, and through HAProxy to each EMQ node."""
    if now.seats is None:
        canvas.put(_MIDDLE + 1, _HAPROXY, "sessions ?")
        return
    places = [(_ROWS[name], _EMQ, seat) for name, seat in now.seats.items()]
    places.append((_MIDDLE, _HAPROXY, _sum(now)))
    for row, column, seat in places:
        canvas.put(row + 1, column, _devices_of(seat.devices))
        if seat.bridge:
            canvas.put(row + 2, column, "the bridge")


def _sum(now: Snapshot) -> Seat:
    seats = (now.seats or {}).values()
    return Seat("", sum(seat.devices for seat in seats), sum(seat.bridge for seat in seats))


def _lines(canvas: _Canvas, now: Snapshot) -> None:
    seats = now.seats or {}
    up = {name for name, condition in now.conditions.items() if condition == "up"}
    fork, join, split = _EMQ - 4, _EMQ + 13, _KAFKA - 4
    carries = _sum(now).bridge > 0

    _line(canvas, _MIDDLE, _DEVICES + 11, _HAPROXY - 2, "haproxy" in up, "►")
    canvas.put(_MIDDLE - 1, _DEVICES + 11, ":1883", _FAINT)
    _line(canvas, _MIDDLE, _HAPROXY + 9, fork, "haproxy" in up)
    _line(canvas, _MIDDLE, join + 1, _BRIDGE - 2, carries, "►")
    canvas.put(_MIDDLE - 2, join + 2, "haproxy", _FAINT)
    canvas.put(_MIDDLE - 1, join + 2, ":1884", _FAINT)
    _line(canvas, _MIDDLE, _BRIDGE + 9, split, "bridge" in up)

    for row in range(_ROWS["emq1"], _ROWS["emq2"] + 1):
        canvas.put(row, fork, "│", _FAINT)
        canvas.put(row, join, "│", _FAINT)
    for name, left, right in (("emq1", "┌", "┐"), ("emq2", "└", "┘")):
        seat = seats.get(name, Seat("", 0, 0))
        row = _ROWS[name]
        canvas.put(row, fork, left, _FAINT)
        _line(canvas, row, fork + 1, _EMQ - 2, bool(seat.devices or seat.bridge), "►")
        _line(canvas, row, _EMQ + 11, join, bool(seat.bridge))
        canvas.put(row, join, right, _FAINT)
    canvas.put(_MIDDLE, fork, "┤", _FAINT)
    canvas.put(_MIDDLE, join, "├", _FAINT)

    for row in range(_ROWS["kafka1"], _ROWS["kafka3"] + 1):
        canvas.put(row, split, "│", _FAINT)
    for name, corner in (("kafka1", "┌"), ("kafka2", "┼"), ("kafka3", "└")):
        canvas.put(_ROWS[name], split, corner, _FAINT)
        _line(canvas, _ROWS[name], split + 1, _KAFKA - 2, {"bridge", name} <= up, "►")


def _line(canvas: _Canvas, row: int, start: int, end: int, flows: bool, tip: str = "") -> None:
    """Draw a line from column `start` to column `end`, where the tip is."""
    canvas.put(row, start, ("─" if flows else "┄") * (end - start), _FAINT)
    if tip:
        canvas.put(row, end, tip if flows else "┄", _FAINT)
