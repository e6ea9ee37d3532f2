"""Which settings differ between two readings, and which of them a running service takes over. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from bridge.settings.describe import dotted
from bridge.settings.root import Settings
from bridge.settings.section import Key

# The other settings are read at the start alone. What a password file contains is read at each use.
TAKEN_WHILE_RUNNING = frozenset({"routes", "log.level", "mqtt.password", "mqtt.password_file"})


def changes(before: Settings, after: Settings) -> list[str]:
    """The dotted names of the settings whose values differ, in the order of the file. All routes are one."""
    return [dotted(key) for key in _different(dict(before), dict(after), ())]


def _different(before: Mapping[str, Any], after: Mapping[str, Any], above: Key) -> Iterator[Key]:
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, BaseModel | dict) and isinstance(new, BaseModel | dict):
            yield from _different(dict(old), dict(new), (*above, name))
        else:
            yield (*above, name)
