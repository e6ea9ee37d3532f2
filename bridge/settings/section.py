"""The base class of all configuration tables."""

import difflib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

Key = tuple[str | int, ...]
"""The path of a setting: ("mqtt", "tls", "enabled"), ("routes", 0, "name"), ("kafka", "options", "acks")."""


@dataclass(frozen=True)
class Allowed:
    """Type metadata: the allowed values, worded to follow "must be", where the type itself does not tell."""

    text: str


class Wrong(ValueError):
    """Raised by a rule, with pairs of a setting's key (relative to the rule's table) and its problem."""

    def __init__(self, *problems: tuple[Key, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(text for _, text in problems))


class Section(BaseModel):
    """One table. `contradictions` has the rules between settings; the type of a setting has its own rules."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    def contradictions(self) -> Iterator[tuple[str | Key, str]]:
        """Yield each setting that does not fit the table's other settings, and the reason.

        A setting is yielded by its name, or by its key below this table. It contradicts another setting, has
        no effect beside the other setting, or is missing.
        """
        yield from ()

    @model_validator(mode="after")
    def _without_contradictions(self) -> Self:
        found = [*unexpanded(self), *self.contradictions()]
        if problems := [((key,) if isinstance(key, str) else key, text) for key, text in found]:
            raise Wrong(*problems)
        return self


def unexpanded(table: BaseModel) -> Iterator[tuple[str, str]]:
    """Yield each path of the table that only a shell would understand."""
    for name, value in table:
        if isinstance(value, Path) and (why := why_unexpanded(str(value))):
            yield name, why


def why_unexpanded(path: str) -> str | None:
    """Why a path that begins with ~ or a variable is refused: it would be a directory of that very name."""
    if not path.startswith(("~", "$")):
        return None
    beginning, _, rest = path.partition("/")
    whole = os.path.expanduser(os.path.expandvars(path))
    whole = whole if whole.startswith("/") else f"/PATH/{rest}"
    return f"begins with {beginning}, which a shell replaces and the bridge does not; write {whole}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to `word`, if `word` looks like a typo."""
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.65)), None)
