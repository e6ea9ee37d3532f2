"""Words each problem with the settings as one line: key, value, source, and what is allowed."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.errors import ConfigurationError, WrongRoutes
from bridge.settings import describe
from bridge.settings.describe import OPTIONS, dotted
from bridge.settings.layers import Layers
from bridge.settings.routes import RouteSettings
from bridge.settings.section import Key, Wrong, nearest

_LONGEST_VALUE = 60  # characters of a wrong value that are shown
_LOGIN_IN_URL = re.compile(r"//[^/\s]*@")


def sentences(error: ValidationError, layers: Layers, file: str) -> list[str]:
    """One line for each problem. The line for a missing setting suggests to write it into `file`."""
    lines: dict[str, None] = {}  # pydantic reports a union once for each of its types; keep one
    for details in error.errors(include_url=False):
        for key, text in _problems(details, layers, file):
            lines[f"{head(key, layers)}: {text}"] = None
    return list(lines)


def located(error: WrongRoutes, layers: Layers, routes: Sequence[RouteSettings]) -> ConfigurationError:
    """The same error, with the file and the number of the line in front of each problem."""
    index = {route.name: number for number, route in enumerate(routes)}
    lines = []
    for name, key, line in error.wrong:
        place: Key = ("routes", index[name]) if name in index else ("routes",)
        origin = layers.origin((*place, key)) or layers.origin(place)
        lines.append(f"{origin}: {line}" if origin else line)
    return ConfigurationError(lines)


def head(key: Key, layers: Layers) -> str:
    """Key, value and source of a setting: `mqtt.port = 99999 (--mqtt.port)`."""
    origin = layers.origin(key)
    field = describe.field_at(key)
    if origin is None:
        default = describe.default(field) if field else None
        return dotted(key) if default is None else f"{dotted(key)} = {default} (default)"
    return f"{dotted(key)}{_shown(key, layers.value(key))} ({origin})"


def _problems(details: ErrorDetails, layers: Layers, file: str) -> Iterator[tuple[Key, str]]:
    key = details["loc"][:3] if details["loc"][:2] == OPTIONS else details["loc"]
    field = describe.field_at(key)
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Wrong):
        yield from ((key + below, text) for below, text in cause.problems)
    elif details["type"] == "missing":
        yield key, _required(key, layers, file)
    elif details["type"] == "extra_forbidden":
        yield key, f"no such setting{_meant(key)}"
    elif field is None or describe.table(field.annotation) or key == OPTIONS:
        yield (
            key,
            ("must be a list of tables" if key == ("routes",) else "must be a table") + _in_json(key, layers),
        )
    elif isinstance(cause, ValueError) and (unit := describe.unit(field)):
        yield key, f"must be {describe.allowed(field)}, written as {unit.example}"
    else:
        yield key, f"must be {describe.allowed(field)}"


def _in_json(key: Key, layers: Layers) -> str:
    """How the environment writes a table: an example."""
    if not (layers.origin(key) or "").upper().startswith("BRIDGE_"):
        return ""
    if key == ("routes",):
        example = '[{"name": "all", "filter": "#", "topic": "mqtt"}]'
    elif key == OPTIONS:
        example = '{"linger.ms": 5}'
    else:
        settings = ((other, describe.default(field)) for other, field in describe.walk() if other[:-1] == key)
        example = next((f'{{"{other[-1]}": {default}}}' for other, default in settings if default), "{}")
    return f", in JSON, such as {example}"


def _required(key: Key, layers: Layers, file: str) -> str:
    if any(isinstance(part, int) for part in key):
        return f"required; write it into {layers.origin(key[:-1])}"
    return f"required; write it into {file}, set {describe.environment_name(key)} or pass --{dotted(key)}"


def _meant(key: Key) -> str:
    """A suggestion: the most similar key of the same table, a longer one, or the key of another table."""
    word, above = str(key[-1]), tuple(part for part in key[:-1] if isinstance(part, str))
    known = [known for known, _ in describe.walk()]
    siblings = [str(other[-1]) for other in known if other[:-1] == above]
    if sibling := nearest(word, siblings) or _longer(word, siblings):
        return f"; did you mean {dotted((*key[:-1], sibling))}?"
    namesake = next((other for other in known if other[-1] == word), None)
    return f"; did you mean {dotted(namesake)}?" if namesake else ""


def _longer(word: str, names: list[str]) -> str | None:
    """The name of which `word` is a part: key of key_file, user of username."""
    return next((name for name in names if name.startswith(word) or word in name.split("_")), None)


def _shown(key: Key, value: Any) -> str:
    if describe.field_at(key) is None or describe.holds_others(key) or isinstance(value, dict | list):
        return ""  # the value may contain a secret
    if describe.secret(key):
        return " = ***"
    text = _LOGIN_IN_URL.sub("//***@", describe.written(None, value))
    return f" = {text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + '...'}"
