"""Text from outside, made safe to show: it cannot move a cursor, rewrite a line or turn its direction. Pure.

Python calls not printable: control characters (C0, C1), line separators such as U+2028, and marks that change
the direction of writing.
"""

import json


def printable(text: str) -> str:
    """`text` with each character that is not printable as Python escapes it: \\x1b, \\u202e."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_json(line: str) -> str:
    """A line of JSON with the same characters as JSON escapes them. They can stand in its strings alone."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
