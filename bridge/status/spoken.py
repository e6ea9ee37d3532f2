"""Durations, numbers and texts of other programs, as a sentence for people needs them. Pure."""

import math
from collections.abc import Sequence


def duration(seconds: float) -> str:
    """A duration in at most two units: 0.4 s, 40 s, 3 min, 2 h 5 min, 3 d 4 h."""
    if math.isnan(seconds) or seconds < 0:
        seconds = 0.0
    if math.isinf(seconds) or seconds > 1e10:
        return "centuries"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def count(number: int, noun: str) -> str:
    """1 message, 1,204 messages."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def rate(a_second: float) -> str:
    """Messages a second: 0.2 messages/s, 1,204 messages/s."""
    return f"{a_second:,.0f} messages/s" if a_second >= 9.95 else f"{a_second:.1f} messages/s"


def listed(names: Sequence[str], most: int = 3) -> str:
    """a, b and c; beyond `most` only their number: a, b, c and 4 more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def sentence(text: str) -> str:
    """`text` as a sentence of its own: a large letter in front, a full stop behind. "" stays ""."""
    text = text.strip()
    if not text:
        return ""
    # A path, a setting or an address keeps its small letter.
    word = text.split(maxsplit=1)[0]
    head = text[0].upper() + text[1:] if word.isalpha() else text
    return head if head[-1] in ".!?" else f"{head}."


def clause(text: str) -> str:
    """`text` inside another sentence: without a full stop behind."""
    return text.strip().rstrip(".")
