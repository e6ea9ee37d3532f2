"""Runs the checks of table.py, prints their outcomes and the verdict."""

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

import bridge
from bridge import program
from bridge.commands.check import service
from bridge.commands.check.outcome import Check, Group, Level, Outcome, Site, failed, skipped
from bridge.commands.check.table import CHECKS
from bridge.errors import BridgeError
from bridge.loop import start_thread
from bridge.observe.printable import printable, printable_json

RUNBOOK = "docs/runbook.md"  # in a clone
PACKAGE = Path(bridge.__file__).parent
_SHIPPED = Path("http", "page", "runbook.html")  # in the package: what the service shows at /runbook

_GOOD, _BAD = 0, 1  # exit status
_INDENT = 13  # columns, of the second and later lines of an outcome on a terminal
_BLOCKING = (Level.FAILED, Level.SKIPPED)


@dataclass(frozen=True, slots=True)
class Result:
    """A check with all its outcomes. `seconds`: how long it took."""

    check: Check
    outcomes: Sequence[Outcome]
    seconds: float


def check(site: Site, say: Callable[[str], object], *, as_json: bool = False, strict: bool = False) -> int:
    """Print one line for each outcome, and the verdict. Returns the exit status.

    On a terminal long lines are broken between words; elsewhere a line stays whole, for grep.
    """
    results = []
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    group: Group | None = None
    for result in examine(site):
        results.append(result)
        if not as_json and result.outcomes and result.check.group is not group:
            group = result.check.group
            say(f"{group}:")
        for outcome in result.outcomes:
            runbook = _runbook(site, outcome.runbook or result.check.runbook)
            if as_json:
                say(_as_json(result, outcome, runbook))
                continue
            for line in _lines(result.check, outcome, runbook):
                say(_broken(line, width) if width else line)
    level, sentence = verdict(results)
    say(json.dumps({"verdict": level.value.lower(), "sentence": sentence}) if as_json else f"\n{sentence}")
    bad = level is Level.FAILED or (strict and level is Level.WARNING)
    return _BAD if bad else _GOOD


def examine(site: Site, checks: Sequence[Check] = CHECKS) -> Iterator[Result]:
    """Run the checks, one after another. Parts that the checks have opened are closed at the end."""
    service.read_status(site)
    unusable: set[str] = set()
    try:
        for each in sorted(checks, key=lambda each: list(Group).index(each.group)):
            if each.group is Group.SEND and site.send is None:
                continue
            began = time.monotonic()
            needed = next((name for name in each.needs if name in unusable), None)
            if site.offline and not each.offline:
                outcomes: Sequence[Outcome] = [skipped("--offline")]
            elif needed:
                outcomes = [skipped(f"needs {needed}")]
            else:
                outcomes = _run(each, site)
            if _blocks(outcomes):
                unusable.add(each.id)
            yield Result(each, outcomes, time.monotonic() - began)
    finally:
        _close(site)


def _blocks(outcomes: Sequence[Outcome]) -> bool:
    """Whether checks that need this one are skipped: nothing of it was good."""
    return bool(outcomes) and all(outcome.level in _BLOCKING for outcome in outcomes)


def _run(each: Check, site: Site) -> Sequence[Outcome]:
    """Run one check in a thread, since name resolution and some calls of libraries take no time-out."""
    found: list[Outcome] = []
    done: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        try:
            found.extend(each.run(site))
        except BridgeError as error:
            found.append(failed(*parted(str(error))))
        except Exception as defect:  # the other checks still run
            found.append(failed(f"this check has a defect: {defect!r}", "please report this line"))
        done.put(None)

    start_thread(work, each.id)
    try:
        done.get(timeout=each.seconds)
    except Empty:
        return [failed(f"no answer within {each.seconds:.0f} s")]
    return found


def _close(site: Site) -> None:
    for part in (site.broker, site.cluster):
        if part is not None:
            with suppress(OSError, BridgeError):
                part.close()


def parted(text: str) -> tuple[str, str]:
    """Split "reason (way out)" into reason and way out. The way out may itself have parentheses."""
    if not text.endswith(")"):
        return text, ""
    depth = 0
    for at in range(len(text) - 1, 0, -1):
        depth += (text[at] == ")") - (text[at] == "(")
        if depth == 0:
            return text[:at].rstrip(), text[at + 1 : -1]
    return text, ""


def verdict(results: Sequence[Result]) -> tuple[Level, str]:
    """The worst level of all outcomes, and one sentence."""
    by_level = {
        level: [result.check.id for result in results for each in result.outcomes if each.level is level]
        for level in Level
    }

    def names(level: Level) -> str:
        return ", ".join(dict.fromkeys(by_level[level]))

    if by_level[Level.FAILED]:
        more = f"; warnings: {names(Level.WARNING)}" if by_level[Level.WARNING] else ""
        return Level.FAILED, f"FAILED: {names(Level.FAILED)}{more}"
    if by_level[Level.WARNING]:
        return Level.WARNING, f"The chain works, with warnings: {names(Level.WARNING)}"
    checked, left_out = len(by_level[Level.GOOD]), len(by_level[Level.SKIPPED])
    return Level.GOOD, f"All is well: {checked} good, {left_out} skipped"


def _runbook(site: Site, anchor: str) -> str:
    """Where this machine has the entry. An installed bridge has no docs/, and perhaps no service runs."""
    if site.page:
        where = site.page
    elif (PACKAGE.parent / RUNBOOK).is_file():
        where = RUNBOOK
    else:
        where = (PACKAGE / _SHIPPED).as_uri()
    return f"{where}#{anchor}"


def _broken(line: str, width: int) -> str:
    return textwrap.fill(
        line,
        max(width, 2 * _INDENT),
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _lines(each: Check, outcome: Outcome, runbook: str) -> Iterator[str]:
    yield f"  {outcome.level.value:<8}{each.id:<22} {printable(program.typed(outcome.found))}"
    if outcome.level in (Level.WARNING, Level.FAILED):
        remedy = printable(program.typed(outcome.remedy or each.remedy))
        yield f"{'':10}-> {remedy} ({runbook})"


def _as_json(result: Result, outcome: Outcome, runbook: str) -> str:
    each = result.check
    bad = outcome.level in (Level.WARNING, Level.FAILED)
    return printable_json(
        json.dumps(
            {
                "id": each.id,
                "group": each.group.value,
                "level": outcome.level.value.lower(),
                "found": program.typed(outcome.found),
                "remedy": program.typed(outcome.remedy or each.remedy) if bad else None,
                "runbook": runbook if bad else None,
                "seconds": round(result.seconds, 3),
            },
            ensure_ascii=False,
        )
    )
