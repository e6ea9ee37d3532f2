"""Values from several places, laid over each other, and where each one came from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.settings.section import Key


@dataclass(frozen=True)
class Layer:
    """Values from one place. `name_of` says where in it a value stands, as a person would look for it."""

    values: dict[str, Any]
    name_of: Callable[[Key], str]


class Layers:
    """Layers, the one that outranks all others first. Tables are joined, lists replaced as a whole."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)

    def merged(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for layer in reversed(self._layers):
            values = _over(values, layer.values)
        return values

    def origin(self, key: Key) -> str | None:
        """The name of the place that decided the value at `key`; None where nobody set it."""
        found = self._find(key)
        return found[0].name_of(key) if found else None

    def value(self, key: Key) -> Any:
        """What was written at `key`, as it was written; None where nobody set it."""
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
                return None  # its list hides those of the layers below
        return None


def _over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(below)
    for name, value in above.items():
        under = joined.get(name)
        joined[name] = (
            _over(under, value) if isinstance(under, dict) and isinstance(value, Mapping) else value
        )
    return joined
