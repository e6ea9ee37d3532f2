"""Escapes text from outside for a terminal, so that it can't move the cursor or rewrite a line."""

from io import TextIOWrapper
from typing import TextIO

from rich.console import Console

from bridge.observe.printable import printable
from bridge.units import size as size

PREVIEW_CHARACTERS = 80  # of a value
PREVIEW_BYTES = 16  # of a value that is not text


def preview(data: bytes, whole: bool = False, most: int = PREVIEW_CHARACTERS) -> str:
    """Bytes for a person to read: text escaped and shortened, other bytes as `0x…` with their length."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        shown = f"0x{data[:PREVIEW_BYTES].hex()}"
        return shown if len(data) <= PREVIEW_BYTES else f"{shown}… ({len(data)} bytes)"
    if whole or len(text) <= most:
        return printable(text)
    return f"{printable(text[:most])}… ({len(data)} bytes)"


def console(stream: TextIO) -> Console:
    """A rich console with colours on a terminal only, regardless of the environment, and no highlighting."""
    if isinstance(stream, TextIOWrapper):  # a terminal without UTF-8 gets escapes, not a traceback
        stream.reconfigure(errors="backslashreplace")
    return Console(file=stream, force_terminal=stream.isatty(), highlight=False, markup=False, emoji=False)
