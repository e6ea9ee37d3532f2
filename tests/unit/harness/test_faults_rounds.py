"""The outcome of each round of the faults is saved and added up."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.faults.rounds import Rounds, note
from tests.unit.harness.test_faults_table import ROUND, rows

IT_DIES = "tests/faults/test_a_node.py::test_it_dies[round2]"


def report(when: str = "call", *, failed: bool = False) -> Any:
    item: Any = SimpleNamespace(user_properties=[])
    note(item, ROUND)
    return SimpleNamespace(nodeid=IT_DIES, when=when, failed=failed, user_properties=item.user_properties)


def table(rounds: Rounds, file: Path) -> list[list[str]]:
    rounds.pytest_terminal_summary(SimpleNamespace(write_line=lambda _: None))  # type: ignore[arg-type]
    return [row[:3] for row in rows(file.read_text())]


def test_runs_with_the_same_file_add_up(tmp_path: Path) -> None:
    for _ in range(2):
        rounds = Rounds(tmp_path / "rounds.md")
        rounds.pytest_runtest_logreport(report("setup"))
        rounds.pytest_runtest_logreport(report())
        rounds.pytest_runtest_logreport(report("teardown"))
    assert table(rounds, tmp_path / "rounds.md") == [["a node: it dies", "2", "2,000"]]


def test_a_failure_counts_also_where_the_fault_was_over(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path / "rounds.md")
    rounds.pytest_runtest_logreport(report())
    rounds.pytest_runtest_logreport(report("teardown", failed=True))
    assert table(rounds, tmp_path / "rounds.md") == [["a node: it dies", "1, 1 failed", "1,000"]]


def test_a_run_that_tested_nothing_writes_no_table(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path / "rounds.md")
    rounds.pytest_terminal_summary(SimpleNamespace())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
