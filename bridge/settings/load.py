"""Loads the settings. Flags win over the environment, then the file, then systemd's values, then defaults."""

import os
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource

from bridge.errors import ConfigurationError
from bridge.program import here
from bridge.settings import describe, problems, toml_errors
from bridge.settings.describe import environment_name
from bridge.settings.kafka_options import flat
from bridge.settings.layers import Layer, Layers
from bridge.settings.root import Settings
from bridge.settings.section import Key, nearest
from bridge.settings.text import NotUtf8, decode
from bridge.settings.toml_errors import ASSIGNMENT, TABLE, key_of

DEFAULT_FILE = Path("/etc/mqtt-kafka-bridge/bridge.toml")

_PREFIX = "BRIDGE_"
_UNUSED_CHAIN: dict[str, Any] = {
    "mqtt": {"host": "unused"},
    "kafka": {"bootstrap_servers": "unused:9092"},
    "routes": [{"name": "unused", "filter": "#", "action": "drop"}],
}


@dataclass(frozen=True)
class Configuration:
    """The settings in force, and the layers they were merged from."""

    settings: Settings
    layers: Layers


def load(
    flags: Layer, file: Path | None = None, *, without_kafka: bool = False, without_chain: bool = False
) -> Configuration:
    """Read all sources. `file` is the value of --config. Raises ConfigurationError with all problems.

    `without_kafka` is for --dry-run, which needs no kafka.bootstrap_servers. `without_chain` is for commands
    that ask another machine's bridge: there need not be any settings here.
    """
    environment, from_file = _from_environment(), [*_from_file(file)]
    below = [environment, *from_file, _from_systemd()]
    if without_kafka:
        unused = {"kafka": {"bootstrap_servers": "unused:9092"}}
        below.append(Layer(unused, lambda _: "not needed by --dry-run"))
    if without_chain:
        below.append(Layer(_UNUSED_CHAIN, lambda _: "not needed by top --url"))
    layers = Layers([flags, *below])
    nulls = dict(_null_characters(layers))
    unknown = [*_unknown_variables()]
    found = [*(text for _, text in unknown), *_secrets_in(flags), *nulls.values()]
    try:
        settings = Settings(**layers.merged())
    except ValidationError as error:
        if not from_file:
            found.insert(0, _no_file())
        if from_file or flags.values or environment.values or unknown:
            written_into = str(file or DEFAULT_FILE) if from_file else None
            lines = problems.sentences(error, layers, written_into, {meant for meant, _ in unknown if meant})
            found += [
                line for line in lines if not line.startswith(tuple(nulls))
            ]  # one line for each setting
    if found:
        raise ConfigurationError(found)
    return Configuration(settings, layers)


def _no_file() -> str:
    return (
        f"there is no {DEFAULT_FILE}: name your settings with --config FILE, or let `{here().command} init`"
        " write a file that you can change"
    )


class _Environment(EnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Keep a value that is not valid JSON, so that it is reported like any other wrong value."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def _from_environment() -> Layer:
    source = _Environment(Settings, case_sensitive=False, env_prefix=_PREFIX, env_nested_delimiter="__")
    variables = {name.upper(): name for name in os.environ}

    def name_of(key: Key) -> str:
        names = (environment_name(key[:length]) for length in range(len(key), 0, -1))
        return next((variables[name] for name in names if name in variables), environment_name(key))

    return Layer(with_flat_options(source()), name_of)


def _from_file(explicit: Path | None) -> Iterator[Layer]:
    file = explicit or DEFAULT_FILE
    try:
        if not file.is_file():
            if explicit and file.is_dir():
                meant = file / DEFAULT_FILE.name
                raise ConfigurationError(
                    f"cannot read {file} (--config): it is a directory; name the file: {meant}"
                )
            if explicit:
                raise ConfigurationError(
                    f"cannot read {file} (--config): there is no file of that name; `{here().command} init"
                    f" --config {shlex.quote(str(file))}` writes one that you can change"
                )
            return
        text = decode(file.read_bytes()).replace("\r\n", "\n")
        if slips := toml_errors.bracket_slips(text):
            raise ConfigurationError([f"{file}:{line}: {slip}" for line, slip in slips])
        values = tomllib.loads(text)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigurationError(
            f"cannot read {file}: {reason} (it must be readable for the user that the bridge runs as)"
        ) from None
    except NotUtf8 as error:
        way_out = error.way_out.replace("FILE", str(file))
        raise ConfigurationError(f"cannot read {file}: {error.reason} ({way_out})") from None
    except tomllib.TOMLDecodeError as error:
        line, what = toml_errors.sentence(text, error)
        raise ConfigurationError(f"{file}:{line} is not valid TOML: {what}") from None

    lines = cache(partial(_lines, text))  # not before somebody asks for a line

    def name_of(key: Key) -> str:
        prefixes = (key[:length] for length in range(len(key), 0, -1))
        line = next((lines()[prefix] for prefix in prefixes if prefix in lines()), None)
        return f"{file}:{line}" if line else str(file)

    yield Layer(with_flat_options(values), name_of)


def _from_systemd() -> Layer:
    """The values from StateDirectory= and LoadCredential= of the unit (systemd.exec(5))."""
    values: dict[str, Any] = {}
    if directory := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        values["state_directory"] = directory
    if directory := os.environ.get("CREDENTIALS_DIRECTORY", ""):
        for section in ("mqtt", "kafka"):
            file = Path(directory, f"{section}-password")
            if os.path.exists(file):
                values[section] = {"password_file": str(file)}
        if os.path.exists(file := Path(directory, "emqx-key")):
            values["emqx"] = {"key_file": str(file)}
    return Layer(
        values, lambda key: "$STATE_DIRECTORY" if key == ("state_directory",) else "$CREDENTIALS_DIRECTORY"
    )


def with_flat_options(values: dict[str, Any]) -> dict[str, Any]:
    """Give [kafka.options] librdkafka's names, whether the source wrote them quoted or as nested tables."""
    kafka = values.get("kafka")
    if isinstance(kafka, Mapping) and isinstance(kafka.get("options"), Mapping):
        return values | {"kafka": {**kafka, "options": flat(kafka["options"])}}
    return values


def _unknown_variables() -> Iterator[tuple[Key | None, str]]:
    """Yield a problem for each variable whose first part is no setting, and the setting that may be meant.

    pydantic-settings ignores these variables.
    """
    known = {environment_name(key): key for key, _ in describe.walk()}
    for name in sorted(os.environ):
        table = name.upper().removeprefix(_PREFIX).partition("__")[0].lower()
        if name.upper().startswith(_PREFIX) and table not in Settings.model_fields:
            meant = nearest(name.upper(), known)
            question = f"; did you mean {meant}?" if meant else ""
            yield known[meant] if meant else None, f"{name} (environment): no such setting{question}"


def _secrets_in(flags: Layer) -> Iterator[str]:
    """Yield a problem for each secret among the flags: every user who can list processes can read flags."""

    def leaves(values: Mapping[str, Any], above: Key = ()) -> Iterator[Key]:
        for name, value in values.items():
            if isinstance(value, Mapping):
                yield from leaves(value, (*above, name))
            else:
                yield (*above, name)

    for key in leaves(flags.values):
        if describe.secret(key):
            yield (
                f"{describe.dotted(key)} = *** ({flags.name_of(key)}): everybody here can read the flags;"
                f" use {key[0]}.password_file, the file or the environment"
            )


def _null_characters(layers: Layers) -> Iterator[tuple[str, str]]:
    """Yield the beginning of the line, and the line.

    A string of C ends there, so the kernel, librdkafka and most brokers would see another value.
    What [[routes]] may hold is for routing to say.
    """

    def leaves(value: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
        if isinstance(value, Mapping):
            for name, below in value.items():
                yield from leaves(below, (*key, name))
        elif isinstance(value, str):
            yield key, value

    for key, text in leaves({name: value for name, value in layers.merged().items() if name != "routes"}):
        if "\0" in text:
            head = f"{problems.head(key, layers)}: "
            yield head, f"{head}holds a null character (\\u0000); leave it out"


def _lines(text: str) -> dict[Key, int]:
    """The line number of each table and value, for messages. Simple: it fits files as people write them."""
    found: dict[Key, int] = {}
    entries: dict[Key, int] = {}  # of each [[table]], so far
    table: Key = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if match := TABLE.fullmatch(line):
            table = key_of(match[2])
            if match[1] == "[[":
                found.setdefault(table, number)
                entries[table] = entries.get(table, -1) + 1
                table = (*table, entries[table])
            found.setdefault(table, number)
        elif match := ASSIGNMENT.match(line):
            key = (*table, *key_of(match[1]))
            if key[:2] == describe.OPTIONS and len(key) > 2:
                key = (*describe.OPTIONS, ".".join(str(part) for part in key[2:]))
            found.setdefault(key, number)
    return found
