"""Formats the settings in force, each with its source, for `bridge config`."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from types import MappingProxyType

from pydantic import BaseModel

from bridge.settings import describe
from bridge.settings.describe import OPTIONS, dotted
from bridge.settings.load import Configuration
from bridge.settings.section import Key

Row = tuple[Key, str | None, str]
"""A setting's key, its value in TOML (None if it has none), and its source."""


def effective(configuration: Configuration) -> list[Row]:
    """All settings in the order of the file. Secrets are ***."""
    return [
        (key, text, configuration.layers.origin(key) or ("default" if text is not None else "not set"))
        for key, text in _values(configuration.settings, ())
    ]


def as_toml(configuration: Configuration, comments: Mapping[Key, str] = MappingProxyType({})) -> str:
    """The settings as a TOML file. The bridge could read it again, except for the secrets.

    `comments`: a line for the end of a table, by the table's key.
    """
    tables = [
        "\n".join([*_heading(table), *_aligned(list(rows)), *_comment(comments.get(table))])
        for table, rows in groupby(effective(configuration), key=lambda row: row[0][:-1])
    ]
    return "\n\n".join(tables) + "\n"


def _values(model: BaseModel, above: Key) -> Iterator[tuple[Key, str | None]]:
    for name, field in type(model).model_fields.items():
        key, value = (*above, name), getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _values(value, key)
        elif key == OPTIONS:
            yield from (((*key, option), describe.written(None, given)) for option, given in value.items())
        elif key == ("routes",):
            for number, route in enumerate(value):
                yield from _values(route, (*key, number))
        else:
            yield key, None if value is None else describe.written(field, value)


def _heading(table: Key) -> Iterator[str]:
    if table:
        yield f"[[{table[0]}]]" if isinstance(table[-1], int) else f"[{dotted(table)}]"


def _comment(text: str | None) -> list[str]:
    return [f"# {text}"] if text else []


def _aligned(rows: list[Row]) -> Iterator[str]:
    settings = [(_setting(key, text), source) for key, text, source in rows]
    width = max((len(setting) for setting, _ in settings if len(setting) <= 50), default=0)
    return (f"{setting:<{width}}  # {source}" for setting, source in settings)


def _setting(key: Key, text: str | None) -> str:
    name = f'"{key[-1]}"' if "." in str(key[-1]) else key[-1]
    return f"# {name}" if text is None else f"{name} = {text}"
