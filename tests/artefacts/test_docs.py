"""The pages in docs/: all are linked, no link is broken, and all named settings, events and files exist."""

import io
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.commands import cli
from bridge.commands.check.table import CHECKS
from bridge.commands.preview import Preview
from bridge.delivery.counts import Counts
from bridge.message import Message
from bridge.observe.events import Event
from bridge.routing.router import Router
from bridge.settings import STANDARD_HEADERS, RouteSettings, describe
from tests.artefacts import pages
from tests.artefacts.test_readme import rows
from tests.harness.kit import ROOT
from tests.unit.settings.configurations import KAFKA, MQTT, ROUTE, Machine

ALL = (*pages.PAGES, *pages.DOCS)
RUNBOOK = ROOT / "docs" / "runbook.md"
GUARANTEES = ROOT / "docs" / "reference" / "guarantees.md"
TUTORIAL = ROOT / "docs" / "tutorial" / "your-first-messages.md"
LOG = ROOT / "docs" / "how-to" / "read-the-log.md"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# -- links ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ALL, ids=name)
def test_no_link_is_broken(page: Path) -> None:
    broken = []
    for link in pages.links(page):
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in pages.anchors(file)):
            broken.append(link)
    assert broken == []


def test_every_page_can_be_found_from_the_index() -> None:
    found: set[Path] = set()
    todo = [pages.INDEX]
    while todo:
        page = todo.pop()
        if page in found or page.suffix != ".md" or not page.exists():
            continue
        found.add(page)
        if page.is_relative_to(ROOT / "docs"):
            todo += [(page.parent / link.partition("#")[0]).resolve() for link in pages.links(page)]
    assert [name(page) for page in pages.DOCS if page not in found] == []


def test_the_index_is_found_from_readme() -> None:
    assert "docs/README.md" in pages.links(pages.README)


# -- names exist -----------------------------------------------------------------------------------------


def test_the_runbook_has_an_entry_for_each_warning_and_error_and_for_nothing_else() -> None:
    entries = re.findall(r"^### (\S+)\n\n\*\*(\w+)\.\*\*", RUNBOOK.read_text(), re.MULTILINE)
    assert len(entries) == len(re.findall(r"^### ", RUNBOOK.read_text(), re.MULTILINE))
    assert entries == sorted(entries, key=lambda entry: list(Event).index(Event(entry[0])))
    wanted = {
        (event.value, logging.getLevelName(event.level)) for event in Event if event.level >= logging.WARNING
    }
    assert set(entries) == wanted


def test_every_entry_of_the_runbook_says_what_to_do() -> None:
    entries = re.split(r"^### ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    assert [entry.split()[0] for entry in entries if "*Do:*" not in entry] == []


_SETTINGS = {describe.dotted(key) for key, _ in describe.walk()}
_NAMED = re.compile(r"`((?:service|config|clock|mqtt|kafka|spool|route|qos0|flow|library|tls)\.[a-z0-9_.]+)")
_NO_NAMES_OF_OURS = {  # of other projects
    "mqtt.clean.session.enabled",
    "mqtt.max_mqueue_len",
    "mqtt.max_inflight",
    "mqtt.max_packet_size",
    "mqtt.upgrade_qos",
}
_NO_NAMES_OF_OURS |= {"mqtt.session_expiry_interval", "mqtt.shared_subscription_strategy"}


@pytest.mark.parametrize("page", ALL, ids=name)
def test_events_settings_and_headers_that_are_named_exist(page: Path) -> None:
    ours = {event.value for event in Event} | _SETTINGS | set(STANDARD_HEADERS)
    ours |= {each.id for each in CHECKS}
    named = {found.rstrip(".") for found in _NAMED.findall(page.read_text())}
    files = {found for found in named if found.endswith((".py", ".md", ".toml", ".db", ".reserve"))}
    assert named - files - ours - _NO_NAMES_OF_OURS == set()


def _guarantees() -> list[list[str]]:
    text = GUARANTEES.read_text()
    headings = ("## QoS 1 and 2", "## With delivery exactly-once", "## QoS 0")
    return [row for heading in headings for row in rows(text, heading)]


@pytest.mark.parametrize("row", _guarantees(), ids=lambda row: " ".join(row[:-1]))
def test_a_guarantee_names_tests_that_exist(row: list[str]) -> None:
    tests = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row[-1])
    assert tests or "not promised" in row
    assert [test for file, test in tests if test not in pages.tests_of(ROOT / "tests" / file)] == []


# -- examples work ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "toml", [pytest.param(toml, id=name(page)) for page in pages.DOCS for toml in pages.fenced(page, "toml")]
)
def test_a_configuration_that_is_shown_is_accepted(
    toml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, monkeypatch)
    routes = "" if "[[routes]]" in toml else ROUTE
    machine.write(toml if "[mqtt]" in toml else MQTT + KAFKA + toml + routes)  # some show only one table
    assert Router(machine.read().settings.routes).names


# Every command of the tutorial is run by tests/integration/test_readme_commands.py, in this order.
def test_every_command_of_the_tutorial_is_run() -> None:
    source = (ROOT / "tests/integration/test_readme_commands.py").read_text()
    commands = [command.splitlines()[0] for command in pages.commands(TUTORIAL)]
    assert len(commands) >= 12
    assert [command for command in commands if command not in source] == []


@pytest.mark.parametrize(
    "command", [c for c in pages.commands(pages.CONTRIBUTING) if c.startswith("tests/run ")]
)
def test_what_contributing_selects_are_tests(command: str) -> None:
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", *command.split()[1:]]
    done = subprocess.run(collect, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"::test_", done.stdout)


def test_the_other_commands_of_contributing_are_run_elsewhere() -> None:
    others = {c for c in pages.commands(pages.CONTRIBUTING) if not c.startswith("tests/run ")}
    # The first by test_lab.py, the second by the person who runs this, the third's arguments by
    # test_bench.py. The last takes too long; test_lock.py checks what it relies on.
    assert others == {"deploy/lab up", "tests/run", "tests/bench/run drain", "tests/aarch64"}


LINES = [
    '{"timestamp": "t1", "level": "info", "event": "mqtt.live", "client_id": "b", "protocol": "5"}',
    '{"timestamp": "t2", "level": "error", "event": "kafka.topic_missing", "topic": "iot", "way_out": "w"}',
    '{"timestamp": "t3", "level": "info", "event": "flow.minute", "received": 3, "in_flight": 1}',
    '{"timestamp": "t4", "level": "warning", "event": "mqtt.session_lost", "client_id": "b", "meaning": "m"}',
    '{"timestamp": "t5", "level": "warning", "event": "spool.late", "topic": "iot"}',
    '{"timestamp": "t6", "level": "error", "event": "kafka.refused", "topic": "iot", "reason": "r"}',
]
FILTERS = [command for command in pages.commands(LOG) if command.startswith("jq ")]
DRY_RUN, _, DRY_RUN_FILTER = pages.commands(LOG)[-1].partition(" | ")


@pytest.mark.parametrize("command", FILTERS)
def test_each_filter_of_the_log_finds_its_lines_and_no_others(command: str, tmp_path: Path) -> None:
    (tmp_path / "bridge.log").write_text("\n".join(LINES) + "\n")
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert 0 < len(done.stdout.splitlines()) < len(LINES)


def test_each_count_is_explained_and_the_sum_has_all_that_are_part_of_it() -> None:
    fields = set(Counts().as_fields())
    text = LOG.read_text()
    assert {field.strip("`") for field, _ in rows(text, "## Do messages flow?")} == fields
    (sum_,) = re.findall(r"^    (received \+ .*)$", text, re.MULTILINE)
    assert set(re.findall(r"\w+", sum_)) == fields - {"joined", "sessions_lost", "dead_letters_removed"}


def test_the_filter_of_the_dry_run_knows_its_fields(tmp_path: Path) -> None:
    parser, _ = cli.command_line()
    assert parser.parse_args(DRY_RUN.split()[1:]).dry_run
    lines = io.StringIO()
    router = Router([RouteSettings(name="all", filter="a/{b}", topic="iot", key="{b}")])
    Preview(router, json=True, stream=lines).message(Message.of(b"a/b", 0, 0, None, b"c"))
    done = subprocess.run(
        ["sh", "-c", DRY_RUN_FILTER], input=lines.getvalue(), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {
        "topic": "a/b",
        "action": "produce",
        "route": "all",
        "kafka_topic": "iot",
        "key": "b",
    }
