"""Shared by the tests of the settings: a valid file, and functions that read a changed one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bridge.commands import cli
from bridge.errors import ConfigurationError
from bridge.settings import load as loading
from bridge.settings.load import Configuration

MQTT = '[mqtt]\nhost = "emq"\n'
KAFKA = '[kafka]\nbootstrap_servers = "kafka1:9092"\n'
ROUTE = '[[routes]]\nname = "all"\nfilter = "#"\ntopic = "mqtt"\n'
WORKS = MQTT + KAFKA + ROUTE


class Machine:
    """A machine that has only the files, variables and arguments that a test sets."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._monkeypatch = monkeypatch
        self.file = directory / "bridge.toml"
        monkeypatch.setattr(loading, "DEFAULT_FILE", self.file)
        for name in ("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"):
            monkeypatch.delenv(name, raising=False)

    def write(self, text: str, name: str = "bridge.toml") -> Path:
        file = self._directory / name
        file.write_text(text)
        return file

    def set(self, environment: Mapping[str, str]) -> None:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)

    def read(self, *arguments: str) -> Configuration:
        """The configuration that `bridge ARGUMENTS` would use."""
        parser, flags = cli.command_line()
        options = parser.parse_args(arguments)
        return loading.load(flags.layer(options), options.config, without_kafka=options.dry_run)

    def problems(self, *arguments: str) -> Sequence[str]:
        """The errors that `bridge ARGUMENTS` would print, with the file's path shortened to its name."""
        with pytest.raises(ConfigurationError) as caught:
            self.read(*arguments)
        return [problem.replace(f"{self._directory}/", "") for problem in caught.value.problems]


def with_setting(table: str, line: str) -> str:
    """The valid file with `line` added at the end of `table`. Adds the table if it is missing."""
    tables = {"mqtt": MQTT, "kafka": KAFKA, "routes": ROUTE}
    if table == "":
        return f"{line}\n{WORKS}"
    if table in tables:
        return WORKS.replace(tables[table], f"{_without(tables[table], line)}{line}\n")
    return f"{WORKS}[{table}]\n{line}\n"


def _without(table: str, line: str) -> str:
    """`table` without the setting that `line` sets, because TOML refuses duplicate keys."""
    name = line.partition("=")[0].strip()
    return "".join(kept for kept in table.splitlines(keepends=True) if kept.partition("=")[0].strip() != name)
