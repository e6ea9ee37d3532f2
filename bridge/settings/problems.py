"""Words each problem with the settings as one line: key, value, source, and what is allowed."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.errors import ConfigurationError, WrongRoutes
from bridge.settings import describe
from bridge.settings.describe import OPTIONS, dotted
from bridge.settings.layers import Layers
from bridge.settings.routes import RouteSettings
from bridge.settings.section import Key, Wrong, nearest

# A setting of each table whose most important settings have no default.
_EXAMPLES: dict[Key, tuple[str, str]] = {
    ("mqtt",): ("host", '"emq"'),
    ("kafka",): ("bootstrap_servers", '"kafka1:9092"'),
    OPTIONS: ("linger.ms", "5"),
}

_LONGEST_VALUE = 60  # characters of a wrong value that are shown
_LOGIN_IN_URL = re.compile(r"//[^/\s]*@")


def sentences(
    error: ValidationError, layers: Layers, file: str | None, meant: Collection[Key] = ()
) -> list[str]:
    """One line for each problem.

    The line for a missing setting suggests to write it into `file`, if there is one. `meant`: what misspelt
    names of variables mean. A setting that is there under a misspelt name is not called missing as well.
    """
    found = error.errors(include_url=False)
    unknown = [details["loc"] for details in found if details["type"] == "extra_forbidden"]
    misspelt = {right: key for key in reversed(unknown) if (right := _meant(key))}
    lines: dict[str, None] = {}  # pydantic reports a union once for each of its types; keep one
    for details in found:
        for key, text in _problems(details, layers, file):
            if key not in meant and not _is_there_misspelt(key, misspelt, layers):
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


def _is_there_misspelt(key: Key, misspelt: Mapping[Key, Key], layers: Layers) -> bool:
    """Whether no source has `key`, and one has it under a misspelt name, or in a misspelt table."""
    names = ((misspelt.get(key[:length]), key[length:]) for length in range(1, len(key) + 1))
    return layers.origin(key) is None and any(
        name is not None and layers.origin((*name, *below)) is not None for name, below in names
    )


def _problems(details: ErrorDetails, layers: Layers, file: str | None) -> Iterator[tuple[Key, str]]:
    key = details["loc"][:3] if details["loc"][:2] == OPTIONS else details["loc"]
    field = describe.field_at(key)
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Wrong):
        yield from ((key + below, text) for below, text in cause.problems)
    elif details["type"] == "missing":
        yield key, _required(key, layers, file)
    elif details["type"] == "extra_forbidden":
        right = _meant(key)
        yield key, f"no such setting{f'; did you mean {dotted(right)}?' if right else ''}"
    elif field is None or describe.table(field.annotation) or key == OPTIONS:
        yield key, _no_table(key, layers)
    elif isinstance(cause, ValueError) and (unit := describe.unit(field)):
        yield key, f"must be {describe.allowed(field)}, written as {unit.example}"
    else:
        yield key, f"must be {describe.allowed(field)}"


def _no_table(key: Key, layers: Layers) -> str:
    """What belongs there instead of a single value: an example, in the grammar of the value's source."""
    is_json = (layers.origin(key) or "").upper().startswith("BRIDGE_")
    if key[0] == "routes":
        if not is_json:
            return "must be a table; write [[routes]] above the settings of each route"
        example = '[{"name": "all", "filter": "#", "topic": "mqtt"}]'
        return f"must be a list of tables, in JSON, such as {example}"
    name, value = _example(key, layers.value(key))
    if is_json:
        return f'must be a table, in JSON, such as {{"{name}": {value}}}'
    quoted = f'"{name}"' if "." in name else name
    setting = f"{quoted} = {value}"
    return f"must be a table; write {setting} under [{dotted(key)}], or {key[-1]} = {{{setting}}}"


def _example(key: Key, given: Any) -> tuple[str, str]:
    """A setting of the table `key`. Of a table that has a switch: the switch, as `given` seems to mean it."""
    if key in _EXAMPLES:
        return _EXAMPLES[key]
    settings = {
        str(other[-1]): describe.default(field) for other, field in describe.walk() if other[:-1] == key
    }
    if "enabled" in settings:
        return "enabled", str(str(given).lower() not in ("false", "no", "off", "0")).lower()
    return next((name, default) for name, default in settings.items() if default)


def _required(key: Key, layers: Layers, file: str | None) -> str:
    if any(isinstance(part, int) for part in key):
        return f"required; write it into {layers.origin(key[:-1])}"
    into = f"write it into {file}, " if file else ""
    return f"required; {into}set {describe.environment_name(key)} or pass --{dotted(key)}"


def _meant(key: Key) -> Key | None:
    """A suggestion: the most similar key of the same table, a longer one, or the key of another table."""
    word, above = str(key[-1]).lower(), tuple(part for part in key[:-1] if isinstance(part, str))
    known = [known for known, _ in describe.walk()]
    siblings = [str(other[-1]) for other in known if other[:-1] == above]
    if sibling := nearest(word, siblings) or _longer(word, siblings):
        return (*key[:-1], sibling)
    return next((other for other in known if other[-1] == word), None)


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
