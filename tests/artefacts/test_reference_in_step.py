"""The reference pages are generated from the code, and must be up to date."""

import runpy
from pathlib import Path

import pytest

from bridge.observe.events import Event

GENERATOR = Path(__file__).parents[2] / "docs" / "reference" / "generate.py"
GENERATED = runpy.run_path(str(GENERATOR))
PAGES: dict[Path, str] = GENERATED["pages"]()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_reference_page_says_what_the_code_says(page: Path) -> None:
    assert page.read_text() == PAGES[page], f"{page.name} is out of step: python docs/reference/generate.py"


def test_every_documented_event_is_logged_somewhere() -> None:
    assert {event.name for event in Event} - GENERATED["logged_fields"]().keys() == set()
