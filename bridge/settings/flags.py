"""Makes a flag of each setting (`--mqtt.host H`): pydantic-settings reads the tables, we word the help."""

import json
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import CliSettingsSource, SettingsError

from bridge.errors import ConfigurationError
from bridge.settings import describe
from bridge.settings.layers import Layer
from bridge.settings.load import with_flat_options
from bridge.settings.root import Settings
from bridge.settings.section import Key


class Flags:
    """Adds the flags to a parser, and makes a Layer of the parsed values."""

    def __init__(self, parser: ArgumentParser) -> None:
        self._source = CliSettingsSource[ArgumentParser](
            Settings,
            root_parser=parser,
            add_argument_method=_add_flag,
            add_argument_group_method=_add_table,
        )

    def layer(self, parsed: Namespace) -> Layer:
        given = vars(parsed)

        def name_of(key: Key) -> str:
            prefixes = (".".join(map(str, key[:length])) for length in range(len(key), 0, -1))
            return next(
                (f"--{prefix}" for prefix in prefixes if prefix in given), f"--{describe.dotted(key)}"
            )

        try:
            values = self._source(parsed_args=dict(given))()
        except SettingsError:  # the error's text may contain a secret
            raise ConfigurationError("--kafka.options or --routes: their values can't be read") from None
        return Layer(with_flat_options(values), name_of)


def _add_table(parser: ArgumentParser, title: str, description: str | None, **_: Any) -> Any:
    return parser.add_argument_group(f"[{title.removesuffix(' options')}]", description)


def _add_flag(container: Any, *names: str, dest: str, **given: Any) -> None:
    key = tuple(dest.split("."))
    field = describe.field_at(key)
    if field is None or (describe.table(field.annotation) and key != ("routes",)):
        return  # no flag for a whole table as JSON: nobody would type one
    hidden = describe.secret(key)  # the parser knows the flag only so that load() can refuse it with a reason
    container.add_argument(
        *names,
        dest=dest,
        default=SUPPRESS,
        metavar=_metavar(key, field),
        help=SUPPRESS if hidden else _help(key, field).replace("%", "%%"),
        type=_OF_ITS_OWN.get(key, str),
        **({"action": "append"} if given.get("action") == "append" else {}),
    )


def _assignment(text: str) -> str:
    """Turn NAME=VALUE into JSON. pydantic-settings would split a value such as broker,topic at its comma."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError("must be NAME=VALUE")  # does not quote the text: it may contain a secret
    return json.dumps({name: value})


def _json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"must be a list of tables in JSON: {error}") from None
    return text


_OF_ITS_OWN = {describe.OPTIONS: _assignment, ("routes",): _json}


def _help(key: Key, field: FieldInfo) -> str:
    default = (describe.default(field) or "").strip('"')
    if key == ("routes",):
        note = " (required; better in the file)"
    elif field.is_required():
        note = " (required)"
    elif default in ("", "{}"):
        note = ""
    else:
        note = f" (default {default})"
    return describe.first_sentence(field) + note


def _metavar(key: Key, field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "|".join(str(value) for value in get_args(field.annotation))
    if key == ("routes",):
        return "JSON"
    if key == describe.OPTIONS:
        return "NAME=VALUE"
    if unit := describe.unit(field):
        return unit.noun.split()[-1].upper()
    if field.annotation is bool:
        return "true|false"
    if field.annotation is int:
        return "N"
    if Path in get_args(field.annotation):
        return "FILE"
    if field.annotation is Path:
        return "DIR"
    return str(key[-1]).rsplit("_")[-1].upper()
