"""Saves the outcome of each round to disk at once, and makes a table of all rounds.

Twenty rounds of every fault take hours. A run that is cut short loses no finished round, and the next run
with the same file adds to it: the table always covers all saved rounds.
"""

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.table import Outcome, markdown


class Rounds:
    """A plugin of pytest. `table` is the Markdown file; the rounds are saved beside it, one line of JSON
    each.
    """

    def __init__(self, table: Path) -> None:
        self._table = table
        self._kept = table.with_name(f"{table.name}.jsonl")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and not report.failed:
            return
        found = [value for name, value in report.user_properties if name == "outcome"]
        # The report of the teardown contains the test's notes once more.
        line = {
            "fault": _fault(report.nodeid),
            "failed": report.failed,
            "outcomes": found if report.when == "call" else [],
        }
        with self._kept.open("a") as kept:
            kept.write(json.dumps(line) + "\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._kept.exists():
            return
        outcomes: dict[str, list[Outcome]] = defaultdict(list)
        failed: Counter[str] = Counter()
        for line in map(json.loads, self._kept.read_text().splitlines()):
            failed[line["fault"]] += line["failed"]
            outcomes[line["fault"]] += [Outcome(**values) for values in line["outcomes"]]
        self._table.write_text(markdown(dict(sorted(outcomes.items())), +failed))
        terminalreporter.write_line(f"the table of all rounds is in {self._table}")


def note(item: pytest.Item, outcome: Outcome) -> None:
    """Record the outcome of this test."""
    item.user_properties.append(("outcome", asdict(outcome)))


def _fault(nodeid: str) -> str:
    """tests/faults/test_a_node_dies.py::test_it_hangs[round3] -> "a node dies: it hangs"."""
    path, _, test = nodeid.partition("::")
    words = (Path(path).stem, test.partition("[")[0])
    return ": ".join(word.removeprefix("test_").replace("_", " ") for word in words)
