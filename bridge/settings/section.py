"""What all tables of the configuration have in common."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

Key = tuple[str | int, ...]
"""Where a setting is: ("mqtt", "tls", "enabled"), ("routes", 0, "name"), ("kafka", "options", "acks")."""


@dataclass(frozen=True)
class Allowed:
    """In a type's metadata: what may be written, as it fits behind "must be", where the type doesn't tell."""

    text: str


class Wrong(ValueError):
    """Raised by a rule: pairs of a setting's key, relative to the rule's place, and what is wrong with it."""

    def __init__(self, *problems: tuple[Key, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(text for _, text in problems))


class Section(BaseModel):
    """One table. `contradictions` holds the rules between settings; a rule for one value is its type's."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    def contradictions(self) -> Iterator[tuple[str | Key, str]]:
        """Yield a setting, by its name or its key below this table, and what speaks against it."""
        yield from ()

    @model_validator(mode="after")
    def _without_contradictions(self) -> Self:
        found = self.contradictions()
        if problems := [((key,) if isinstance(key, str) else key, text) for key, text in found]:
            raise Wrong(*problems)
        return self


def nearest(word: str, known: Iterable[str]) -> str | None:
    """What was probably meant by `word`, where it looks like a typo."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.65)), None)
