"""Parses the documentation pages as GitHub's Markdown: commands, links, headings."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.harness.kit import ROOT

README, CONTRIBUTING, INDEX = ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "README.md"
PAGES = (README, CONTRIBUTING, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", ROOT / "haproxy" / "README.md")
DOCS = tuple(sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(page: Path, language: str) -> list[str]:
    """The texts of the fenced blocks of this language."""
    return [text for name, text in _FENCE.findall(page.read_text()) if name == language]


def examples(page: Path) -> list[tuple[str, str, str]]:
    """Title, routes (TOML) and outcomes of each section that shows routes and then their outcomes."""
    block = re.compile(r"^```toml\n(.*?)^```$.*?^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    sections = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]
    return [
        (section.partition("\n")[0], shown[1], shown[2])
        for section in sections
        if (shown := block.search(section))
    ]


def commands(page: Path) -> list[str]:
    """The shell commands of the indented blocks, without comments; a here-document is part of its command."""
    return commands_in(page.read_text())


def commands_in(text: str) -> list[str]:
    """The shell commands of a part of a page."""
    prose = _FENCE.sub("", text)
    blocks = re.findall(r"(?:(?<=\n\n)(?: {4}.*\n|\n(?= {4}))+)", prose)
    return [command for block in blocks for command in _commands(re.sub("(?m)^    ", "", block))]


def _commands(block: str) -> Iterator[str]:
    lines = iter(block.splitlines())
    for line in lines:
        command = re.sub(r"\s+#.*", "", line).rstrip()
        if document := re.search(r"<<'(\w+)'", command):
            for part in lines:
                command += f"\n{part}"
                if part == document[1]:
                    break
        if command:
            yield command


def links(page: Path) -> list[str]:
    """The targets of links and pictures, without URLs."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text()))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in target]


def anchors(page: Path) -> set[str]:
    """The fragments with which links can refer to the headings."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\]\([^)]*\)", "]", heading).lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


def tests_of(file: Path) -> set[str]:
    """The names of the tests in a file."""
    return set(re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE))
