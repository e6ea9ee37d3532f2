"""What all tables of the configuration have in common."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator


class Wrong(ValueError):
    """Raised by a rule: pairs of a setting's name, relative to the rule's place, and what is wrong."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(text for _, text in problems))


class Section(BaseModel):
    """One table. `contradictions` holds the rules between settings; a rule for one value is its type's."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Yield the name of a setting and what speaks against it."""
        yield from ()

    @model_validator(mode="after")
    def _without_contradictions(self) -> Self:
        if problems := tuple(self.contradictions()):
            raise Wrong(*problems)
        return self


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question to append to a message where `word` looks like a typo, otherwise nothing."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
