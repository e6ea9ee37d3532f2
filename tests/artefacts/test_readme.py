"""README is true: its commands, its configuration, its dry run, its tables."""

import io
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bridge.commands.preview import Preview
from bridge.message import Message
from bridge.routing.router import Router
from bridge.settings import RouteSettings
from tests.artefacts import pages
from tests.harness.kit import ROOT

README = pages.README.read_text()
LAB, COMMANDS = "tests/integration/test_lab.py", "tests/integration/test_readme_commands.py"
EXAMPLE = "tests/integration/test_readme_example.py"

# Every command of README -> the test that runs it.
RUN_BY = {
    "deploy/lab up --for 60s": f"{LAB}::test_the_readmes_first_command_shows_that_messages_flow",
    "tests/run": f"{COMMANDS}::test_tests_run_passes_on_a_trivial_selection",
    "deploy/lab kill emq1": f"{COMMANDS}::test_what_readme_says_to_the_lab",
    "deploy/lab start emq1": f"{COMMANDS}::test_what_readme_says_to_the_lab",
    "deploy/lab publish garden/gate open": f"{COMMANDS}::test_what_readme_says_to_the_lab",
    "deploy/lab consume": f"{COMMANDS}::test_what_readme_says_to_the_lab",
    "deploy/lab status": f"{COMMANDS}::test_what_readme_says_to_the_lab",
    "deploy/lab down": f"{COMMANDS}::test_what_readme_says_to_the_lab",
    ".venv/bin/bridge topics --create --config bridge.toml": f"{EXAMPLE}::test_the_example_runs_as_it_stands",
    ".venv/bin/bridge --config bridge.toml": f"{EXAMPLE}::test_the_example_runs_as_it_stands",
    ".venv/bin/bridge config --config bridge.toml": f"{EXAMPLE}::test_the_settings_in_force",
    ".venv/bin/bridge --dry-run --config bridge.toml": f"{EXAMPLE}::test_a_dry_run_prints_what_readme_shows",
}


def test_every_command_has_its_test() -> None:
    assert set(pages.commands(pages.README)) == set(RUN_BY)


@pytest.mark.parametrize(("command", "test"), RUN_BY.items(), ids=RUN_BY)
def test_the_test_of_a_command_exists_and_runs_it(command: str, test: str) -> None:
    file, _, name = test.partition("::")
    assert name in pages.tests_of(ROOT / file)
    source = (ROOT / file).read_text()
    taken_from_readme = "README.md" in source and " ".join(command.split()[:2]) in source
    assert command in source or taken_from_readme


def test_the_example_configuration_is_accepted(tmp_path: Path) -> None:
    (example,) = pages.fenced(pages.README, "toml")
    file = tmp_path / "bridge.toml"
    file.write_text(example)

    done = subprocess.run(
        [sys.executable, "-m", "bridge", "config", "--config", file], cwd=ROOT, capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "sensors/{site}/{device}/temp" in done.stdout


def test_the_dry_run_is_what_the_example_makes_of_these_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """test_readme_example.py tests the same with a real broker."""
    monkeypatch.setenv("COLUMNS", "80")
    (example,), (shown,) = pages.fenced(pages.README, "toml"), pages.fenced(pages.README, "text")
    routes = [RouteSettings.model_validate(route) for route in tomllib.loads(example)["routes"]]
    stream = io.StringIO()
    preview = Preview(Router(routes, shared=False), json=False, stream=stream)
    for topic, payload in MESSAGES.items():
        preview.message(Message.of(topic.encode(), 1 << 1, 1, None, payload.encode()))
    preview.summary()
    assert [line.rstrip() for line in stream.getvalue().splitlines()] == shown.splitlines()


# The messages that README's dry run shows, in this order, at QoS 1.
MESSAGES = {"sensors/kitchen/d1/temp": "21.5", "debug/d1/heap": "18764", "zigbee2mqtt/lamp": '{"state":"ON"}'}


def rows(table: str, heading: str) -> list[list[str]]:
    """The cells of each row of the first table after `heading`."""
    lines = table.partition(heading)[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    found = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_what_the_table_of_guarantees_speaks_of_is_in_the_long_one() -> None:
    long = {row[0] for row in rows((ROOT / "docs/reference/guarantees.md").read_text(), "## QoS 1 and 2")}
    short = {row[0] for row in rows(README, "## What is guaranteed")}
    assert len(short) >= 7
    assert short <= long


def test_the_figures_are_those_of_the_page_about_them() -> None:
    """Each row of README equals one row of the page, in which a spread follows each figure."""
    (bench,) = re.findall(r"<!-- bench -->(.*?)<!-- /bench -->", README, re.DOTALL)
    page = (ROOT / "docs/explanation/performance.md").read_text()
    without_spread = re.sub(r" \([\d.,-]+\) \|", " |", page)
    measured = [{cell.strip() for cell in line.split("|")} for line in without_spread.splitlines()]
    shown = rows(bench, "\n")
    assert len(shown) >= 3
    assert [row for row in shown if not any(set(row) <= cells for cells in measured)] == []


# README's second table of figures -> the table of the page with this text before it, and its column.
SHIPPED = {
    "a backlog over MQTT 5, CPU µs a message": ("MQTT 5, QoS 1, 200,000", "CPU µs a message"),
    "200 messages/s, one by one: half are through in ms": ("## Messages that come one by one", "p50 ms"),
    "the same, CPU µs a message": ("## Messages that come one by one", "CPU µs a message"),
    "20 messages/s, one by one, CPU µs a message": ("more like 20 messages/s", "CPU µs a message"),
    "EMQ's window of 32 and three Kafka brokers, messages/s": ("## A window of 32", "messages/s"),
    "idle, % of a core": ("## Idle", "% of a core"),
}


def test_the_figures_as_shipped_are_those_of_the_page_about_them() -> None:
    page = (ROOT / "docs/explanation/performance.md").read_text()
    wanted = []
    for what, (before, column) in SHIPPED.items():
        lines = itertools.dropwhile(lambda line: line[:1] != "|", page.partition(before)[2].splitlines())
        table = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in itertools.takewhile(lambda line: line[:1] == "|", lines)
        ]
        place = table[0].index(column)
        found = {row[0]: row[place].split(" ")[0] for row in table}
        wanted.append([what, found["mqtt-kafka-bridge, as shipped"], found["mq-bridge 1.2.0 (Rust)"]])
    assert rows(README, "As it is shipped,") == wanted


def test_the_figures_with_many_topics_are_those_of_the_page_about_them() -> None:
    page = (ROOT / "docs/explanation/performance.md").read_text()

    def row(curve: str, point: str) -> list[str]:
        table = page.partition(f"<!-- growth: {curve} -->")[2].partition("<!-- end -->")[0]
        (found,) = re.findall(rf"^\| {point} \| (.*) \|$", table, re.MULTILINE)
        return [cell.split(" ")[0] for cell in found.split(" | ")]

    sentences = r"a message costs (\S+) CPU µs, and a bare .*costs (\S+): [^.]*\.[^.]* (\S+) times"
    said = re.search(sentences, README)
    assert said
    assert list(said.groups()) == [*row("kafka-topics", "1,000")[:2], row("mqtt-topics", "1,000,000")[-1]]


def test_other_bridges_are_compared_on_the_day_that_their_page_gives() -> None:
    (day,) = re.findall(r"^As of (\d{4}-\d\d-\d\d)", README, re.MULTILINE)
    assert f"**{day}**" in (ROOT / "docs/explanation/other-bridges.md").read_text()
