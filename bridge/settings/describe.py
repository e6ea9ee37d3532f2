"""Describes each setting in words, for --help, the reference and the error messages."""

import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen, MultipleOf
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from bridge.settings.kafka_options import is_secret
from bridge.settings.root import Settings
from bridge.settings.section import Allowed, Key
from bridge.units import Unit

OPTIONS: Key = ("kafka", "options")

_Metadata = TypeVar("_Metadata")


def dotted(key: Key) -> str:
    """The key as text: mqtt.tls.ca_file, routes[0].name, kafka.options.linger.ms."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


def environment_name(key: Key) -> str:
    return "BRIDGE_" + "__".join(str(part) for part in key).upper()


def table(annotation: Any) -> type[BaseModel] | None:
    """The table class, where a field of this type is a table or a list of tables. Otherwise None."""
    if get_origin(annotation) is list:
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def walk(model: type[BaseModel] = Settings, above: Key = ()) -> Iterator[tuple[Key, FieldInfo]]:
    """Yield every table and setting in the order of the file; those of [[routes]] are under ("routes",)."""
    for name, field in model.model_fields.items():
        yield (*above, name), field
        if below := table(field.annotation):
            yield from walk(below, (*above, name))


def fields() -> Iterator[tuple[Key, FieldInfo]]:
    """Yield every setting that is not a table."""
    return ((key, field) for key, field in walk() if table(field.annotation) is None)


def field_at(key: Key) -> FieldInfo | None:
    """The field at `key`. For a librdkafka option or a list entry: the field that contains it."""
    model: type[BaseModel] | None = Settings
    found = None
    for part in key:
        if isinstance(part, int) or model is None:
            continue
        found = model.model_fields.get(part)
        if found is None:
            return None
        model = table(found.annotation)
    return found


def holds_others(key: Key) -> bool:
    """Whether `key` is a table or a list, not a single value."""
    field = field_at(key)
    if field is None or isinstance(key[-1], int) or (key[:2] == OPTIONS and key != OPTIONS):
        return False
    return table(field.annotation) is not None or get_origin(field.annotation) in (dict, list)


def is_flag(key: Key) -> bool:
    """Whether the setting is true or false."""
    field = field_at(key)
    return field is not None and field.annotation is bool


def secret(key: Key) -> bool:
    """Whether the value at `key` must never be shown. For an unknown key the name decides."""
    field = field_at(key)
    if field is not None and key[:2] != OPTIONS:
        return SecretStr in _alternatives(field)
    return bool(key) and is_secret(str(key[-1])) and not str(key[-1]).endswith("_file")


def first_sentence(field: FieldInfo) -> str:
    return re.split(r"\. (?=[A-Z])", field.description or "", maxsplit=1)[0].rstrip(".")


def allowed(field: FieldInfo) -> str:
    """The allowed values, worded to follow "must be": `1 to 65535`, `a duration of 2s to 7d`."""
    if own := _metadata(field, Allowed):
        return own.text
    if quantity := unit(field):
        whole = ", in whole seconds" if _metadata(field, MultipleOf) else ""
        return f"{quantity.noun} of {_bounds(field, quantity.format)}{whole}"
    kinds = _alternatives(field)
    if get_origin(field.annotation) is Literal:
        *others, last = [f'"{value}"' if isinstance(value, str) else str(value) for value in kinds]
        return f"{', '.join(others)} or {last}"
    if kinds == (bool,):
        return "true or false"
    if kinds == (int,):
        return f"a whole number of {_bounds(field)}"
    return "a path" if Path in kinds else _text(field)


def unit(field: FieldInfo) -> Unit | None:
    """The unit of the setting (duration, size, count), or None."""
    return _metadata(field, Unit)


def default(field: FieldInfo) -> str | None:
    """The default as the file would have it, or None if there is no default to write."""
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    return None if value is None or isinstance(value, BaseModel) else written(field, value)


def written(field: FieldInfo | None, value: Any) -> str:
    """`value` as TOML, in the units that people write."""
    quantity = field and unit(field)
    if quantity and isinstance(value, int | float) and not isinstance(value, bool):
        return f'"{quantity.format(value)}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(written(None, item) for item in value)}]"
    if isinstance(value, dict):
        return "{}" if not value else "{...}"
    if isinstance(value, SecretStr):
        return '"***"'
    return _quoted(str(value))


def _quoted(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in text) + '"'


def _alternatives(field: FieldInfo) -> tuple[Any, ...]:
    """The types of a union without None, the values of a Literal, or the type alone."""
    if get_origin(field.annotation) in (Union, types.UnionType, Literal):
        return tuple(kind for kind in get_args(field.annotation) if kind is not types.NoneType)
    return (field.annotation,)


def _metadata(field: FieldInfo, kind: type[_Metadata]) -> _Metadata | None:
    return next((item for item in field.metadata if isinstance(item, kind)), None)


def _bounds(field: FieldInfo, show: Callable[[Any], str] = str) -> str:
    lowest, highest = _metadata(field, Ge), _metadata(field, Le)
    if lowest is None or highest is None:
        raise TypeError("every number among the settings has both bounds")
    return f"{show(lowest.ge)} to {show(highest.le)}"


def _text(field: FieldInfo) -> str:
    longest, shortest = _metadata(field, MaxLen), _metadata(field, MinLen)
    if longest:
        return f"text of {shortest.min_length if shortest else 0} to {longest.max_length} characters"
    return "text that is not empty" if shortest else "text"
