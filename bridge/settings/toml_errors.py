"""Words a mistake in TOML's own grammar: what is missing, on which line, and how that line reads right. Pure.

Python's tomllib says "Invalid value" of a host without quotation marks, and points at a column. This module
knows the slips that people make most. It makes the right line, which must be TOML.
"""

import re
import tomllib

from bridge.settings import describe
from bridge.settings.section import Key

NAME = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
TABLE = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
ASSIGNMENT = re.compile(rf"\s*({NAME}(?:\s*\.\s*{NAME})*)\s*=")

_AT = re.compile(r" \(at line (\d+), column \d+\)$| \(at end of document\)$")
_HEADING = re.compile(r"(\s*)(\[+)\s*([^\[\]#=]+?)\s*(\]*)\s*(#.*)?")
_SETTING = re.compile(rf"(\s*)({NAME}(?:\s*\.\s*{NAME})*)\s*(:=|={{1,2}}|:(?!=)|)\s*(.*?)(\s+#.*)?$")
_CURLY = str.maketrans("\u201c\u201d\u201e\u2018\u2019\u201a", "\"\"\"'''")
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LONGEST = 100  # characters of a line that is shown


def key_of(text: str) -> Key:
    """The parts of a dotted key."""
    return tuple(part.strip("\"'") for part in re.findall(NAME, text))


def sentence(text: str, error: tomllib.TOMLDecodeError) -> tuple[int, str]:
    """The number of the wrong line, and what is wrong with it. `error`: what tomllib says of `text`."""
    lines = text.split("\n")
    number = _line(lines, str(error))
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    return number, _twice(lines, number, line) or _repaired(lines, number, line) or _AT.sub("", str(error))


def bracket_slips(text: str) -> list[tuple[int, str]]:
    """Headings that are TOML, but of the wrong kind: [routes] is one table, [[mqtt]] a list of tables."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if match := TABLE.fullmatch(line):
            name = match[2].strip("\"'")
            if name == "routes" and match[1] == "[":
                found.append((number, "[routes] needs two pairs of brackets, since there may be several"
                                      " routes; write [[routes]] above each of them"))  # fmt: skip
            elif name != "routes" and name in _tables() and match[1] == "[[":
                found.append((number, f"[[{name}]] has one pair of brackets too many; write [{name}]"))
    return found


def _tables() -> set[str]:
    return {describe.dotted(key[:length]) for key, _ in describe.walk() for length in range(1, len(key))}


def _line(lines: list[str], error: str) -> int:
    if (found := _AT.search(error)) and found[1]:
        return int(found[1])
    broken = [number for number, line in enumerate(lines, start=1) if line.strip() and not _is_toml(line)]
    return broken[-1] if broken else len(lines)


def _is_toml(line: str) -> bool:
    try:
        tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _twice(lines: list[str], number: int, line: str) -> str:
    """The heading or the setting that stands there already; empty: it does not."""
    if not _is_toml(line):
        return ""
    here, table = "", ""
    first: dict[str, int] = {}
    for at, each in enumerate(lines[:number], start=1):
        if heading := TABLE.fullmatch(each):
            table = here = f"[{heading[2]}]"
            if heading[1] == "[[":
                first = {name: line for name, line in first.items() if not name.startswith(f"{table} ")}
        elif setting := ASSIGNMENT.match(each):
            here = f"{table} {setting[1]}".strip()
        else:
            continue
        if at < number:
            first.setdefault(here, at)
    if here not in first:
        return ""
    what = here.rpartition("] ")[2]
    keep = "put the settings of both under one" if what.startswith("[") else "keep one of them"
    return f"{what} is there already, in line {first[here]}; {keep}"


def _repaired(lines: list[str], number: int, line: str) -> str:
    if (match := _HEADING.fullmatch(line)) and len(match[2]) != len(match[4]):
        name = match[3]
        right = f"[[{name}]]" if name == "routes" else f"[{name}]"
        return f"a bracket is missing or too many; write {right}" if _is_toml(right) else ""
    match = _SETTING.fullmatch(line)
    if not match or "=" in match[2]:
        return ""
    _, name, sign, value, _ = match.groups()
    key = (*_table_above(lines, number), *key_of(name))
    if not value:
        return f"{name} has no value; write {name} = {_example(key)}" if sign == "=" else ""
    slips = [] if sign == "=" else ["the sign between the name and the value must be ="]
    right, slip = _value(key, value)
    slips += [slip] if slip else []
    whole = f"{name} = {right}"
    if not slips or not _is_toml(whole):
        return ""
    if describe.secret(key):
        whole = f'{name} = "***"'
    return f"{', and '.join(slips)}; write {whole}" if len(whole) <= _LONGEST else ", and ".join(slips)


def _value(key: Key, value: str) -> tuple[str, str]:
    """The value as TOML writes it, and what was wrong; empty: nothing was."""
    if _is_toml(f"x = {value}"):
        return value, ""
    shorter = value.rstrip(",;").rstrip()
    if shorter != value and _is_toml(f"x = {shorter}"):
        return shorter, f"the {value[-1]} at the end is too much"
    if value.isdecimal():
        return value.lstrip("0"), "a number begins with no 0"
    straight = value.translate(_CURLY)
    if straight != value and _is_toml(f"x = {straight}"):
        return straight, "the quotation marks must be straight ones"
    if value.lower() in _WORDS and describe.is_flag(key):
        return str(_WORDS[value.lower()]).lower(), "true and false are written in small letters"
    bare = straight.strip("\"'").strip() if straight[:1] in "\"'" or straight[-1:] in "\"'" else straight
    if value[:1] == '"' == value[-1:] and "\\" in bare and "'" not in bare:
        return f"'{bare}'", "a backslash means something else between double quotation marks"
    if '"' in bare or "\\" in bare or bare[:1] in "[{":
        return value, ""
    slip = "a quotation mark is missing" if bare != straight else "text needs quotation marks"
    return f'"{bare}"', slip


def _example(key: Key) -> str:
    field = describe.field_at(key)
    default = describe.default(field) if field else None
    return default if default and not describe.secret(key) else '"..."'


def _table_above(lines: list[str], number: int) -> Key:
    for line in reversed(lines[: number - 1]):
        if match := TABLE.fullmatch(line):
            key = key_of(match[2])
            return (*key, 0) if match[1] == "[[" or key == ("routes",) else key
    return ()
