"""Merges the values of several sources, and remembers which source each value came from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.settings.section import Key


@dataclass(frozen=True)
class Layer:
    """Values from one source. `name_of` tells where in the source a value is, for error messages."""

    values: dict[str, Any]
    name_of: Callable[[Key], str]


class Layers:
    """Layers, the strongest first. Tables are merged; a list replaces a weaker layer's list as a whole."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)

    def merged(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for layer in reversed(self._layers):
            values = _over(values, layer.values)
        return values

    def origin(self, key: Key) -> str | None:
        """The name of the source that set the value at `key`; None if no source did."""
        found = self._find(key)
        return found[0].name_of(key) if found else None

    def value(self, key: Key) -> Any:
        """The value at `key` as the source has it; None if no source set it."""
        found = self._find(key)
        return found[1] if found else None

    def _find(self, key: Key) -> tuple[Layer, Any] | None:
        for layer in self._layers:
            value: Any = layer.values
            for part in key:
                if isinstance(value, list):
                    if not isinstance(part, int) or part >= len(value):
                        return None
                    value = value[part]
                elif isinstance(value, Mapping) and part in value:
                    value = value[part]
                else:
                    break
            else:
                return layer, value
            if any(isinstance(part, int) for part in key) and key[0] in layer.values:
                return None  # this layer's list hides the lists of weaker layers
        return None


def _over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(below)
    for name, value in above.items():
        under = joined.get(name)
        joined[name] = (
            _over(under, value) if isinstance(under, dict) and isinstance(value, Mapping) else value
        )
    return joined
